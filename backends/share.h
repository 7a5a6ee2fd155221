#ifndef CELLBLOCK_SHARE_H
#define CELLBLOCK_SHARE_H

#include <stdbool.h>

#include "backends/base/error.h"

/*
 * Data that is brought into a sandbox.
 *
 * The host side is an *opened* file or directory (O_PATH): whoever makes a share has checked where
 * it leads before, on that descriptor, and backends use the descriptor and never the name again,
 * so that nothing can be swapped in between. The name is kept for messages and for a reset, when
 * the source is opened and checked anew.
 */
enum share_type {
    SHARE_COPY,  /* the sandbox's own copy; the source is never written */
    SHARE_MOUNT, /* the source itself, read-only unless asked otherwise; before the first run */
    SHARE_CLOUD, /* a bucket, or what is in it below a prefix; before the first run */
};

/* Where a share of type cloud is. The texts are the share's own; all but the bucket may be NULL. */
struct share_cloud {
    const char *bucket;
    const char *key_prefix;   /* ends in "/" */
    const char *endpoint_url; /* NULL: Amazon's */
    const char *secret;       /* the name of one that the service keeps, never a value */
    const char *role_arn;     /* instead of a secret */
};

struct share {
    enum share_type type;
    int fd; /* O_PATH | O_CLOEXEC of the source, owned; -1 for a bucket */
    bool is_directory;
    bool read_only;
    bool consented; /* allowed by a person, beyond the roots: a reset takes it as opened */
    char *source;   /* absolute, resolved, for messages; of a bucket "NAME/PREFIX" */
    struct share_cloud cloud; /* all NULL but for a bucket */
    char *dest;               /* absolute, normal form: no ".", "..", "//" or trailing "/" */
};

struct share *share_new(enum share_type type, int fd_owned, const char *source, const char *dest,
                        bool read_only);
/* A bucket, which share_check_cloud has found good. NULL when out of memory. */
struct share *share_new_cloud(const struct share_cloud *cloud, const char *dest, bool read_only);
struct share *share_clone(const struct share *share); /* NULL when out of memory or descriptors */
void share_free(struct share *share);

/*
 * Checks `dest` and brings it into normal form. It must be absolute and outside /proc, /sys, /dev,
 * /usr, /bin, /sbin, /lib*, /etc, /run and not "/" itself, /workspace or /tmp themselves; at most
 * 4096 bytes, no NUL and no control characters. Returns 0 and *ret_dest (to be freed), or -1 with
 * an ERROR_INVALID that names the field and what is allowed.
 */
int share_check_dest(const char *dest, char **ret_dest, struct error *err);

/* Is this a bucket's name, a prefix that ends in "/", an http(s) address, and a secret or a role
 * and not both? -1 with an ERROR_INVALID that names the field. */
int share_check_cloud(const struct share_cloud *cloud, struct error *err);

#endif
