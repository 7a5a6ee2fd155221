#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backends/base/buffer.h"
#include "backends/base/net/tar_walk.h"

struct memory {
    struct buffer out;
    int failed; /* why the buffer took nothing more; see tar_archive_new */
    bool abandoned;
};

static la_ssize_t on_write(struct archive *archive, void *data, const void *bytes, size_t size)
{
    struct memory *m = data;
    (void)archive;
    if (m->abandoned) {
        return -1;
    }
    if (m->failed == 0) {
        m->failed = buffer_append(&m->out, bytes, size);
    }
    return (la_ssize_t)size;
}

static int write_file(const struct tar_library *library, struct archive *archive,
                      const struct tar_file *file)
{
    struct archive_entry *entry = library->entry_new();
    if (!entry) {
        return -ENOMEM;
    }
    library->entry_copy_pathname(entry, file->name);
    library->entry_set_filetype(entry, AE_IFREG);
    library->entry_set_perm(entry, file->mode & 0777);
    library->entry_set_mtime(entry, 0, 0);
    library->entry_set_size(entry, (la_int64_t)file->size);
    int r = library->write_header(archive, entry);
    library->entry_free(entry);
    if (r < ARCHIVE_WARN ||
        library->write_data(archive, file->bytes, file->size) != (la_ssize_t)file->size) {
        return -EINVAL;
    }
    return 0;
}

static int write_all(const struct tar_library *library, struct memory *m, struct archive *archive,
                     const struct tar_file *files, size_t count, struct error *err)
{
    const char *name = "the end";
    int r = archive ? 0 : -ENOMEM;
    for (size_t i = 0; i < count && r == 0; i++) {
        name = files[i].name;
        r = write_file(library, archive, &files[i]);
        r = r == 0 ? m->failed : r;
    }
    if (r == 0 && library->write_close(archive) < ARCHIVE_WARN) {
        r = -EINVAL;
    }
    r = r == 0 ? m->failed : r;
    if (r == -ENOBUFS) {
        return error_set(err, ERROR_LIMIT,
                         "making an archive of %zu files: %s: they come to more than %d MiB", count,
                         name, TAR_MEMORY_CAP >> 20);
    }
    return r == 0 ? 0
                  : error_set_code(err, ERROR_INTERNAL, r, "making an archive of %zu files: %s",
                                   count, name);
}

int tar_of_files(const struct tar_file *files, size_t count, char **ret, size_t *ret_size,
                 struct error *err)
{
    struct memory m = {0};
    struct tar_library library;
    if (tar_library_load(&library, err) < 0) {
        return -1;
    }
    buffer_init(&m.out, TAR_MEMORY_CAP);
    struct archive *archive = tar_archive_new(&library, on_write, &m);
    int r = write_all(&library, &m, archive, files, count, err);
    m.abandoned = r < 0;
    if (archive) {
        library.write_free(archive);
    }
    if (r < 0) {
        buffer_deinit(&m.out);
        return -1;
    }
    /* Nothing has been consumed, so the bytes begin where the memory does. */
    *ret = m.out.base;
    *ret_size = buffer_size(&m.out);
    return 0;
}
