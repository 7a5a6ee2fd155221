#ifndef CELLBLOCK_LOCAL_SYSTEM_PATHS_H
#define CELLBLOCK_LOCAL_SYSTEM_PATHS_H

/*
 * What of the host's files a sandbox may read, beside /usr and the interpreter's folders. Each list
 * is NULL-terminated; entries that are not there are skipped.
 */

/* /bin and its kin: links into /usr on a merged system, folders elsewhere. */
extern const char *const system_folders[];
/* What of /etc a program needs to work, and nothing that tells of this machine. */
extern const char *const etc_entries[];
/* Only where the sandbox has the host's network. */
extern const char *const etc_network[];

#endif
