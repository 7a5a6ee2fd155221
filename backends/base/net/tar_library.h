#ifndef CELLBLOCK_NET_TAR_LIBRARY_H
#define CELLBLOCK_NET_TAR_LIBRARY_H

#include <archive.h>
#include <archive_entry.h>

#include "backends/base/error.h"

/*
 * What we use of libarchive, which is loaded when the first archive is made: with libxml2, ICU and
 * the C++ library it brings 3 MiB of resident memory (of the 15 of a server with a sandbox in the
 * cloud), and most sessions copy nothing.
 */
struct tar_library {
    __typeof__(archive_entry_copy_pathname) *entry_copy_pathname;
    __typeof__(archive_entry_copy_symlink) *entry_copy_symlink;
    __typeof__(archive_entry_free) *entry_free;
    __typeof__(archive_entry_new) *entry_new;
    __typeof__(archive_entry_set_filetype) *entry_set_filetype;
    __typeof__(archive_entry_set_gid) *entry_set_gid;
    __typeof__(archive_entry_set_mtime) *entry_set_mtime;
    __typeof__(archive_entry_set_perm) *entry_set_perm;
    __typeof__(archive_entry_set_size) *entry_set_size;
    __typeof__(archive_entry_set_uid) *entry_set_uid;
    __typeof__(archive_error_string) *error_string;
    __typeof__(archive_write_close) *write_close;
    __typeof__(archive_write_data) *write_data;
    __typeof__(archive_write_free) *write_free;
    __typeof__(archive_write_header) *write_header;
    __typeof__(archive_write_new) *write_new;
    __typeof__(archive_write_open) *write_open;
    __typeof__(archive_write_set_bytes_in_last_block) *write_set_bytes_in_last_block;
    __typeof__(archive_write_set_bytes_per_block) *write_set_bytes_per_block;
    __typeof__(archive_write_set_format_option) *write_set_format_option;
    __typeof__(archive_write_set_format_pax) *write_set_format_pax;
};

/* 0, or -1 with ERROR_UNSUPPORTED that says what is to be installed. It stays loaded. */
int tar_library_load(struct tar_library *ret, struct error *err);

#endif
