#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "backends/files_wire.h"

/*
 * An answer about files from the far side. The first byte says what was asked: its low three bits
 * the operation, bit 3 recursive, bit 4 that the far side says there is more; the second is the
 * limit of a list or the length of a read. What is accepted must be what was asked for.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_entry(const struct file_entry *entry, bool named)
{
    assert(entry->type <= FILE_OTHER && entry->mode <= 07777);
    assert((entry->name != NULL) == named);
    assert(!entry->target || entry->type == FILE_SYMLINK);
}

static void check_list(const struct file_reply *reply, const struct file_asked *asked)
{
    assert(reply->count <= asked->limit);
    for (size_t i = 0; i < reply->count; i++) {
        const char *name = reply->entries[i].name;

        check_entry(&reply->entries[i], true);
        assert(name[0] && name[0] != '/' && strcmp(name, "..") != 0 &&
               strncmp(name, "../", 3) != 0);
        assert(asked->recursive || !strchr(name, '/'));
        assert(i == 0 || strcmp(reply->entries[i - 1].name, name) < 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct file_reply reply = {0};
    struct file_asked asked = {.path = "/workspace/a", .dest = "/workspace/b"};

    if (size < 2) {
        return 0;
    }
    asked.op = data[0] & 7;
    asked.recursive = data[0] & 8;
    asked.limit = asked.length = data[1];
    if (file_wire_reply(&asked, (const char *)data + 2, size - 2, data[0] & 16, &reply) < 0) {
        return 0;
    }
    assert(size - 2 <= file_wire_cap(&asked));
    if (asked.op == FILE_LIST) {
        check_list(&reply, &asked);
    } else if (asked.op != FILE_REMOVE) {
        check_entry(&reply.entry, false);
    }
    assert(reply.size <= asked.length && (asked.op == FILE_READ || reply.size == 0));
    file_reply_deinit(&reply);
    return 0;
}
