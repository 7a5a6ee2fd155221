#include "backends/local/user.h"

#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

static int read_groups(gid_t groups[SANDBOX_GROUPS])
{
    gid_t all[NGROUPS_MAX];
    int count = getgroups(NGROUPS_MAX, all);
    int kept = count < SANDBOX_GROUPS ? count : SANDBOX_GROUPS;
    for (int i = 0; i < kept; i++) {
        groups[i] = all[i];
    }
    return kept;
}

void sandbox_user_init(struct sandbox_user *user)
{
    *user = (struct sandbox_user){0};
    user->drop = geteuid() == 0;
    user->uid = geteuid();
    user->gid = getegid();
    if (user->drop) {
        /* One of its own for each server, so that two servers' sandboxes cannot meet. */
        user->uid = SANDBOX_UID_FIRST + (uid_t)getpid() % SANDBOX_UID_COUNT;
        user->gid = (gid_t)user->uid;
        user->group_count = read_groups(user->groups);
    }
}

void sandbox_user_enter(const struct sandbox_user *user)
{
    if (user->drop) {
        syscall(SYS_setgroups, 0, NULL);
        syscall(SYS_setfsgid, user->gid);
        syscall(SYS_setfsuid, user->uid);
    }
}

void sandbox_user_leave(const struct sandbox_user *user)
{
    if (user->drop) {
        syscall(SYS_setfsuid, geteuid());
        syscall(SYS_setfsgid, getegid());
        if (user->group_count > 0) {
            syscall(SYS_setgroups, user->group_count, user->groups);
        }
    }
}
