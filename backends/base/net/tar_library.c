#include "backends/base/net/tar_library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libarchive.so.13" /* its name since 3.0 (2011), wherever there is one */

int tar_library_load(struct tar_library *ret, struct error *err)
{
    static const struct {
        const char *name;
        size_t at;
    } functions[] = {
        {"archive_entry_copy_pathname", offsetof(struct tar_library, entry_copy_pathname)},
        {"archive_entry_copy_symlink", offsetof(struct tar_library, entry_copy_symlink)},
        {"archive_entry_free", offsetof(struct tar_library, entry_free)},
        {"archive_entry_new", offsetof(struct tar_library, entry_new)},
        {"archive_entry_set_filetype", offsetof(struct tar_library, entry_set_filetype)},
        {"archive_entry_set_gid", offsetof(struct tar_library, entry_set_gid)},
        {"archive_entry_set_mtime", offsetof(struct tar_library, entry_set_mtime)},
        {"archive_entry_set_perm", offsetof(struct tar_library, entry_set_perm)},
        {"archive_entry_set_size", offsetof(struct tar_library, entry_set_size)},
        {"archive_entry_set_uid", offsetof(struct tar_library, entry_set_uid)},
        {"archive_error_string", offsetof(struct tar_library, error_string)},
        {"archive_write_close", offsetof(struct tar_library, write_close)},
        {"archive_write_data", offsetof(struct tar_library, write_data)},
        {"archive_write_free", offsetof(struct tar_library, write_free)},
        {"archive_write_header", offsetof(struct tar_library, write_header)},
        {"archive_write_new", offsetof(struct tar_library, write_new)},
        {"archive_write_open", offsetof(struct tar_library, write_open)},
        {"archive_write_set_bytes_in_last_block",
         offsetof(struct tar_library, write_set_bytes_in_last_block)},
        {"archive_write_set_bytes_per_block",
         offsetof(struct tar_library, write_set_bytes_per_block)},
        {"archive_write_set_format_option", offsetof(struct tar_library, write_set_format_option)},
        {"archive_write_set_format_pax", offsetof(struct tar_library, write_set_format_pax)},
    };
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

    for (size_t i = 0; handle && i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *function = dlsym(handle, functions[i].name);

        if (!function) {
            return error_set(err, ERROR_UNSUPPORTED, "%s has no %s: cellblock needs libarchive 3.6",
                             LIBRARY, functions[i].name);
        }
        memcpy((char *)ret + functions[i].at, &function, sizeof(function));
    }
    if (!handle) {
        const char *reason = dlerror();

        return error_set(err, ERROR_UNSUPPORTED,
                         "copies of files need libarchive, which could not be loaded (%s): "
                         "install libarchive13",
                         reason ? reason : LIBRARY);
    }
    return 0;
}
