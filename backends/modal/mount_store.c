#include "backends/modal/mount_store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void mount_kept_drop(struct mount_kept *kept)
{
    if (!kept || --kept->refs > 0) {
        return;
    }
    mount_list_free(kept->list);
    free(kept->dest);
    free(kept->app_id);
    free(kept->id);
    free(kept);
}

static void take_out(struct mount_store *store, unsigned index)
{
    mount_kept_drop(store->kept[index]);
    store->count--;
    memmove(&store->kept[index], &store->kept[index + 1],
            (store->count - index) * sizeof(struct mount_kept *));
}

static int find(const struct mount_store *store, dev_t dev, ino_t ino, const char *dest)
{
    for (unsigned i = 0; i < store->count; i++) {
        const struct mount_list *list = store->kept[i]->list;
        if (list->dev == dev && list->ino == ino && strcmp(store->kept[i]->dest, dest) == 0) {
            return (int)i;
        }
    }
    return -1;
}

struct mount_kept *mount_store_find(struct mount_store *store, const struct share *share)
{
    struct stat st;
    int index = fstat(share->fd, &st) < 0 ? -1 : find(store, st.st_dev, st.st_ino, share->dest);

    if (index < 0) {
        return NULL;
    }
    store->kept[index]->refs++;
    return store->kept[index];
}

static size_t count_files(const struct mount_store *store)
{
    size_t count = 0;

    for (unsigned i = 0; i < store->count; i++) {
        count += store->kept[i]->list->count;
    }
    return count;
}

void mount_store_keep(struct mount_store *store, struct mount_list *list_owned, const char *dest,
                      const char *app_id, const char *id)
{
    struct mount_kept *kept = calloc(1, sizeof(*kept));
    int before = find(store, list_owned->dev, list_owned->ino, dest);

    if (!kept) {
        mount_list_free(list_owned); /* it is uploaded anew, then */
        return;
    }
    *kept = (struct mount_kept){.refs = 1,
                                .list = list_owned,
                                .dest = strdup(dest),
                                .app_id = strdup(app_id),
                                .id = strdup(id)};
    if (!kept->dest || !kept->app_id || !kept->id) {
        mount_kept_drop(kept);
        return;
    }
    if (before >= 0) {
        take_out(store, (unsigned)before);
    } else if (store->count == MOUNT_STORE_CAP) {
        take_out(store, MOUNT_STORE_CAP - 1);
    }
    memmove(&store->kept[1], &store->kept[0], store->count * sizeof(struct mount_kept *));
    store->kept[0] = kept;
    store->count++;
    while (store->count > 1 && count_files(store) > MOUNT_STORE_FILES) {
        take_out(store, store->count - 1);
    }
}

void mount_store_forget(struct mount_store *store)
{
    store->forgotten++;
    for (unsigned i = 0; i < store->count; i++) {
        struct mount_kept *kept = store->kept[i];

        free(kept->id);
        kept->id = NULL;
        for (size_t f = 0; f < kept->list->count; f++) {
            kept->list->files[f].there = false;
        }
    }
}

void mount_store_deinit(struct mount_store *store)
{
    while (store->count > 0) {
        take_out(store, store->count - 1);
    }
}
