#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/jupyter/place.h"

int jupyter_check_settings(const struct environment *env, struct error *err)
{
    if (env->network != NETWORK_ALL) {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "the backend jupyter cannot hold back the network of a Jupyter server: say "
            "--network all (\"network\": \"all\") with it, or use the backend local or "
            "docker");
    }
    if (env->kernel == KERNEL_RUNNER) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "kernel: the backend jupyter runs code in kernels of a Jupyter server; "
                         "\"runner\" is for other backends");
    }
    if (!env->url && !env->own_server) {
        return error_set(err, ERROR_INVALID,
                         "the backend jupyter needs a server: its address in \"url\" (with "
                         "\"token\", or ?token= in it), or the backend local-jupyter, which starts "
                         "one here");
    }
    if (env->url && env->own_server) {
        return error_set(err, ERROR_INVALID,
                         "url: the backend local-jupyter starts a server of its own; for one that "
                         "is there already use the backend jupyter");
    }
    if (env->kernel_id && (env->own_server || env->mode == MODE_EPHEMERAL)) {
        return error_set(err, ERROR_INVALID,
                         "kernel_id: a kernel that is there already cannot be used %s",
                         env->own_server ? "on a server that is only started here"
                                         : "in ephemeral mode, where each run gets a fresh one");
    }
    if (env->keep && (env->own_server || env->kernel_id)) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "keep: %s; leave out \"keep\", or use the backend jupyter with a url",
                         env->own_server ? "the server that local-jupyter starts ends with this one"
                                         : "a kernel that \"kernel_id\" names is not ours to keep");
    }
    return 0;
}

int jupyter_check_share(struct place *base, const struct share *share, struct error *err)
{
    char path[64];
    struct stat st;

    (void)base;
    if (strncmp(share->dest, "/workspace/", 11) != 0 && strncmp(share->dest, "/tmp/", 5) != 0) {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "dest %s: in a session on a Jupyter server only /workspace and /tmp, which "
            "are folders of its own, can be copied to",
            share->dest);
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", share->fd);
    /* The owner of the machine may be root, who reads everything: a mode that lets nobody read is
     * meant all the same. */
    if (fstat(share->fd, &st) == 0 && !S_ISLNK(st.st_mode) &&
        ((st.st_mode & 0444) == 0 || access(path, R_OK) < 0)) {
        return error_set(err, ERROR_REFUSED,
                         "cellblock may not read %s: give it the right (chmod), or share something "
                         "else",
                         share->source);
    }
    return 0;
}
