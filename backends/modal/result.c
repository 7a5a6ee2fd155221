#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"

/* The service's word on how a sandbox ended. */

enum { WORDS_CAP = 4096 };

#define STATUS(name) MODAL__CLIENT__GENERIC_RESULT__GENERIC_STATUS__GENERIC_STATUS_##name

/* What the service says of it besides: ": its words", or "". To be freed. */
static char *said(const Modal__Client__GenericResult *result)
{
    size_t size = strnlen(result->exception, WORDS_CAP);
    char *lines = size > 0 ? supervised_last_lines(result->exception, size) : NULL;
    char *text = string_format("%s%s", lines && *lines ? ": " : "", lines ? lines : "");

    free(lines);
    return text;
}

static const char *words_of(unsigned status)
{
    switch (status) {
    case STATUS(SUCCESS):
        return "the sandbox's own process ended";
    case STATUS(FAILURE):
        return "the sandbox failed";
    case STATUS(TERMINATED):
        return "the sandbox was terminated from outside";
    case STATUS(TIMEOUT):
        return "the sandbox's lifetime (max_lifetime_seconds) was over, and the service ended it";
    case STATUS(INIT_FAILURE):
        return "the service could not start the sandbox";
    case STATUS(INTERNAL_FAILURE):
        return "the service ended the sandbox for a failure of its own";
    case STATUS(IDLE_TIMEOUT):
        return "the service ended the sandbox, which had been idle for too long";
    case STATUS(MEMORY_MANAGER_EVICTION):
    case STATUS(MEMORY_THRASHING_EVICTION):
        return "the service evicted the sandbox, whose memory was full";
    case STATUS(KERNEL_OOM_KILL):
        return "the sandbox was out of memory";
    default:
        return NULL;
    }
}

/* Its own process did, and a code is known. */
static bool ended_itself(unsigned status)
{
    return status == STATUS(SUCCESS) || status == STATUS(FAILURE);
}

static bool is_memory(unsigned status)
{
    return status == STATUS(MEMORY_MANAGER_EVICTION) ||
           status == STATUS(MEMORY_THRASHING_EVICTION) || status == STATUS(KERNEL_OOM_KILL);
}

bool result_exit(const Modal__Client__GenericResult *result, uint64_t memory_mib,
                 struct machine_exit *ret, char **ret_words)
{
    unsigned status = result ? (unsigned)result->status : 0;
    const char *words = words_of(status);
    char *more;

    if (status == STATUS(UNSPECIFIED)) {
        return false;
    }
    more = said(result);
    *ret = (struct machine_exit){.how = EXIT_LOST, .kind = ERROR_LOST};
    *ret_words = ended_itself(status) ? string_format("%s with exit code %d%s", words,
                                                      result->exitcode, more ? more : "")
                 : words              ? string_format("%s%s", words, more ? more : "")
                         : string_format("the sandbox ended with a status of the service (%u) that "
                                         "is not known here%s",
                                         status, more ? more : "");
    free(more);
    ret->message = *ret_words;
    if (is_memory(status)) {
        ret->how = EXIT_OUT_OF_MEMORY;
        ret->limit = ret->used = memory_mib * 1024 * 1024;
    }
    return true;
}
