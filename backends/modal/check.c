#include <stdio.h>
#include <stdlib.h>

#include "backends/modal/internal.h"

/* What `cellblock doctor` is told, after a trial run: what that has shown of the account, the
 * service, a sandbox's router and leftovers. */

static void tell(void (*each)(void *data, const struct place_check *check), void *data,
                 const char *name, bool ok, const char *detail, const char *fix)
{
    struct place_check check = {name, ok, true, detail, ok ? NULL : fix};
    each(data, &check);
}

static const char *why(const struct modal_place *place)
{
    return place->last_error ? place->last_error : "no sandbox was asked for";
}

void modal_check(struct place *base, void (*each)(void *data, const struct place_check *check),
                 void *data)
{
    const struct modal_place *place = (const struct modal_place *)base;
    const struct orphans *o = &place->orphans;
    const struct place_left left = {"left sandboxes", o->found, o->removed, o->failed,
                                    "terminate them in the app's page at modal.com"};

    tell(each, data, "credentials", place->who != NULL, place->who ? place->who : why(place),
         "modal token new");
    if (!place->who) {
        return;
    }
    tell(each, data, "service", place->reached, place->reached ? "it answers" : why(place),
         "see that api.modal.com is reached from here, and that the token is good (modal token "
         "new)");
    if (place->reached) {
        tell(each, data, "router", place->routed,
             place->routed ? "a sandbox was reached through it" : why(place),
             "sandboxes are reached at addresses of their own below modal.host: let them through");
        place_tell_left(&left, each, data);
    }
    if (place->left) {
        struct place_check check = {"termination", false, false, place->left,
                                    "terminate it in the app's page at modal.com"};
        each(data, &check);
    }
}
