#include <sys/stat.h>

#include "backends/base/net/tar.h"
#include "backends/docker/internal.h"

/* What a share may be. The rest of a machine is remote/machine.c's. */

#define USUAL_FOLDERS "/workspace, /tmp, /data, /mnt, /input, /inputs, /output or /outputs"

void docker_machine_put(struct machine *base, const struct share *share, executor_progress progress,
                        executor_done done, void *data)
{
    const struct container *c = (const struct container *)crate_of_machine(base);
    struct error err = {0};

    if (!c || container_has_folder_for(c, share->dest)) {
        crate_machine_put(base, share, progress, done, data);
        return;
    }
    error_set(&err, ERROR_REFUSED,
              "dest %.200s: the root of a container is read-only, and folders are made in it only "
              "when it is started. Choose a dest inside of " USUAL_FOLDERS
              ", or call reset_session and add the share before the first run",
              share->dest);
    done(data, &err);
    error_clear(&err);
}

/* The user of the container reads a mount with nobody's help: what its mode says about others
 * counts, as far as that can be seen from here. */
static int check_mount(const struct docker_place *place, const struct share *share,
                       struct error *err)
{
    struct stat st;
    mode_t needed = share->is_directory ? 05 : 04;
    struct spec_user user;

    if (spec_user(place->base.env, NULL, &user, err) < 0) {
        return -1;
    }
    if (fstat(share->fd, &st) < 0 || !user.known || user.uid == 0 || user.uid == st.st_uid ||
        user.gid == st.st_gid || (st.st_mode & needed) == needed) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED,
                     "source %s: the container's user (%s) may not read it: its mode is %04o. Use "
                     "type \"copy\", make it readable for others, or set `user` to its owner, %u",
                     share->source, user.name, (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid);
}

int docker_share_check(struct place *base, const struct share *share, struct error *err)
{
    const struct docker_place *place = (const struct docker_place *)base;

    if (share->type == SHARE_MOUNT) {
        return check_mount(place, share, err);
    }
    if (!spec_dest_is_possible(share->dest)) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "dest %s: the root of a container is read-only, so nothing can be copied "
                         "right below \"/\"; choose a dest inside of " USUAL_FOLDERS,
                         share->dest);
    }
    return tar_check(share, err);
}
