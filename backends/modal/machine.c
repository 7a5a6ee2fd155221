#include "backends/base/net/tar.h"
#include "backends/modal/internal.h"

/* What a share may be. The rest of a machine is remote/machine.c's. */

int modal_share_check(struct place *base, const struct share *share, struct error *err)
{
    (void)base;
    return share->type == SHARE_CLOUD ? 0 : tar_check(share, err);
}
