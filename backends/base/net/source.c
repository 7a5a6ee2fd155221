#include "backends/base/net/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/base/net/tar.h"

/* Root passes over permissions by two capabilities. The system call is for one thread only, and
 * needs no library. */
void source_lay_down(struct source_rights *ret)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct now[2];
    if (syscall(SYS_capget, &head, now) < 0) {
        memset(ret, 0, sizeof(*ret));
        return;
    }
    memcpy(ret->before, now, sizeof(now));
    now[0].effective &= ~((1u << CAP_DAC_OVERRIDE) | (1u << CAP_DAC_READ_SEARCH));
    syscall(SYS_capset, &head, now);
}

void source_take_up(const struct source_rights *rights)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    if (rights->before[0].effective) {
        syscall(SYS_capset, &head, rights->before);
    }
}

static int fail_open(const struct share *share, int code, struct error *err)
{
    if (code == EACCES || code == EPERM) {
        return error_set(err, ERROR_REFUSED,
                         "the server's user (uid %u) may not read %s: allow it (chmod), or copy "
                         "something else",
                         (unsigned)geteuid(), share->source);
    }
    return error_set_code(err, ERROR_INVALID, code, "copying %s: opening it", share->source);
}

/* The descriptor is of an O_PATH kind; reading needs a new one, and so the permission to read. */
int source_open(const struct share *share, struct error *err)
{
    char path[64];
    struct stat st;
    int fd;
    if (fstat(share->fd, &st) < 0) {
        return fail_open(share, errno, err);
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        return error_set(err, ERROR_INVALID,
                         "copying %s: it is neither a file, a folder nor a link; only these can be "
                         "copied",
                         share->source);
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", share->fd);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? fail_open(share, errno, err) : fd;
}

int tar_check(const struct share *share, struct error *err)
{
    struct source_rights before;
    source_lay_down(&before);
    int fd = source_open(share, err);
    source_take_up(&before);
    if (fd >= 0) {
        close(fd);
    }
    return fd < 0 ? -1 : 0;
}
