#include "backends/modal/owner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/remote/process.h"

static const char *const names[OWNER_TAGS_MAX] = {
    OWNER_TAG_SANDBOX, OWNER_TAG_HOST, OWNER_TAG_BOOT, OWNER_TAG_PIDS,
    OWNER_TAG_PROCESS, OWNER_TAG_KEPT, OWNER_TAG_UNTIL};

/* What a tag may have, and cut to its size. */
static void fill(char tag[OWNER_TAG_SIZE], const char *text)
{
    size_t n = 0;

    for (; text[n] && n < OWNER_TAG_SIZE - 1; n++) {
        bool good = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
                           text[n]) != NULL;
        tag[n] = '-';
        if (good) {
            tag[n] = text[n];
        }
    }
    if (n == 0) {
        tag[n++] = '-'; /* nothing is no value */
    }
    tag[n] = '\0';
}

/* "PID.START" with the clock ticks since the boot when it was started; "-" when there is none. */
static void process_of(long pid, char tag[OWNER_TAG_SIZE])
{
    unsigned long long start = process_start(pid);
    char value[OWNER_TAG_SIZE] = "";

    if (start > 0) {
        (void)snprintf(value, sizeof(value), "%ld.%llu", pid, start);
    }
    fill(tag, value);
}

/* Where this process is: what its tags and another's must have in common. */
static void here(struct owner_tags *t)
{
    struct process_home home;

    process_home(&home);
    fill(t->space[OWNER_HOST], home.host);
    fill(t->space[OWNER_BOOT], home.boot);
    fill(t->space[OWNER_PIDS], home.pids);
}

static void list(struct owner_tags *t, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        t->list[2 * i] = names[i];
        t->list[2 * i + 1] = t->space[i];
    }
    t->list[2 * count] = NULL;
}

void owner_tags(struct owner_tags *ret, const char *sandbox)
{
    fill(ret->space[OWNER_SANDBOX], sandbox);
    here(ret);
    process_of((long)getpid(), ret->space[OWNER_PROCESS]);
    list(ret, OWNER_TAGS);
}

void owner_keep(struct owner_tags *t, const char *word, double seconds)
{
    char until[OWNER_TAG_SIZE];

    (void)snprintf(until, sizeof(until), "%lld", (long long)time(NULL) + (long long)seconds);
    fill(t->space[OWNER_KEPT], word);
    fill(t->space[OWNER_UNTIL], until);
    list(t, OWNER_TAGS_MAX);
}

const char *owner_tag(Modal__Client__SandboxTag *const *tags, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(tags[i]->tag_name, name) == 0) {
            return tags[i]->tag_value;
        }
    }
    return "";
}

bool owner_is_kept(Modal__Client__SandboxTag *const *tags, size_t count)
{
    long long until = strtoll(owner_tag(tags, count, OWNER_TAG_UNTIL), NULL, 10);

    return owner_tag(tags, count, OWNER_TAG_KEPT)[0] && until > (long long)time(NULL);
}

bool owner_is_dead(Modal__Client__SandboxTag *const *tags, size_t count)
{
    const char *process = owner_tag(tags, count, OWNER_TAG_PROCESS);
    const char *boot = owner_tag(tags, count, OWNER_TAG_BOOT);
    struct owner_tags me;
    char now[OWNER_TAG_SIZE];
    char *end;
    long pid = strtol(process, &end, 10);

    here(&me);
    if (pid <= 0 || *end != '.' || !boot[0] || strcmp(me.space[OWNER_HOST], "-") == 0 ||
        strcmp(me.space[OWNER_BOOT], "-") == 0 ||
        strcmp(owner_tag(tags, count, OWNER_TAG_HOST), me.space[OWNER_HOST]) != 0) {
        return false;
    }
    if (strcmp(boot, me.space[OWNER_BOOT]) != 0) {
        return true; /* the machine has been started anew since */
    }
    if (strcmp(owner_tag(tags, count, OWNER_TAG_PIDS), me.space[OWNER_PIDS]) != 0) {
        return false; /* another pid namespace: nobody here can tell */
    }
    process_of(pid, now);
    return strcmp(process, now) != 0;
}
