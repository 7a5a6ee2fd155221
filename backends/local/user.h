#ifndef CELLBLOCK_LOCAL_USER_H
#define CELLBLOCK_LOCAL_USER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * The user that owns everything of a sandbox on the host. An ordinary user's server uses that user.
 * Root's drops to an unprivileged one first: bubblewrap started by root masks parts of /proc, which
 * forbids a nested /proc, and an unprivileged owner is the safer one anyway.
 */
enum {
    SANDBOX_GROUPS = 32, /* of root's supplementary groups that are kept to come back to */
    /* The range that systemd.exec(5) keeps for DynamicUser=: nobody else's files or processes. */
    SANDBOX_UID_FIRST = 61184,
    SANDBOX_UID_COUNT = 4336,
};

struct sandbox_user {
    bool drop; /* we are root and must become uid, gid */
    uid_t uid;
    gid_t gid;
    int group_count;
    gid_t groups[SANDBOX_GROUPS]; /* root's */
};

void sandbox_user_init(struct sandbox_user *user);

/*
 * Between enter and leave this thread opens and makes files as the sandbox's user. (setfsuid(2) by
 * the system call, which is for one thread only.) Root's power over files is gone meanwhile, and so
 * are its groups, which the sandbox has not either.
 */
void sandbox_user_enter(const struct sandbox_user *user);
void sandbox_user_leave(const struct sandbox_user *user);

#endif
