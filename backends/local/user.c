#include "backends/local/user.h"

#include <sys/syscall.h>
#include <unistd.h>

void sandbox_user_init(struct sandbox_user *user)
{
    user->drop = geteuid() == 0;
    user->uid = geteuid();
    user->gid = getegid();
    if (user->drop) {
        /* One of its own for each server, so that two servers' sandboxes cannot meet. */
        user->uid = SANDBOX_UID_FIRST + (uid_t)getpid() % SANDBOX_UID_COUNT;
        user->gid = (gid_t)user->uid;
    }
}

void sandbox_user_enter(const struct sandbox_user *user)
{
    if (user->drop) {
        syscall(SYS_setfsgid, user->gid);
        syscall(SYS_setfsuid, user->uid);
    }
}

void sandbox_user_leave(const struct sandbox_user *user)
{
    if (user->drop) {
        syscall(SYS_setfsuid, geteuid());
        syscall(SYS_setfsgid, getegid());
    }
}
