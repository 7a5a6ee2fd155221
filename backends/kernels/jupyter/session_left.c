#include <stdlib.h>
#include <string.h>

#include "backends/base/mac.h"
#include "backends/kernels/jupyter/session_internal.h"

/*
 * A session that outlives the process that made it. Its helper got a tag with the first `hello`; a
 * later process connects to the kernel by its id and says `hello` with `attach`, and the helper
 * answers with the tag and leaves all else as it is. Until it has, the kernel may be anybody's:
 * nothing is run there, and it is not deleted, but for one that is to be ended and too busy to
 * answer: that is known by its id alone.
 */
static bool is_plain(const char *text, size_t cap)
{
    size_t n = text ? strlen(text) : 0;

    return n > 0 && n <= cap;
}

int session_take_where(struct jupyter_session *s, const json_t *where)
{
    const char *id = json_string_value(json_object_get(where, "kernel"));
    const char *name = json_string_value(json_object_get(where, "name"));
    const char *folder = json_string_value(json_object_get(where, "folder"));

    if (!where) {
        return 0;
    }
    if (!s->tag || !is_plain(id, 200) || !is_plain(name, sizeof(s->name) - 1) ||
        (folder && folder[0] != '/')) {
        return -1;
    }
    s->found = strdup(id);
    s->folder = folder ? strdup(folder) : NULL;
    (void)snprintf(s->name, sizeof(s->name), "%s", name);
    return s->found && (!folder || s->folder) ? 0 : -1;
}

bool session_gives_up(struct jupyter_session *s, struct error *err)
{
    if (!s->found || s->to_end == 0) {
        return false;
    }
    (void)error_set(err, ERROR_NOT_FOUND, "the kernel %s was busy, and was ended", s->found);
    free(s->found);
    s->found = NULL;
    return true;
}

bool session_leaves_python(const struct jupyter_session *s)
{
    return s->left || s->found;
}

int session_check_tag(struct jupyter_session *s, const json_t *answer, struct error *err)
{
    const char *tag = json_string_value(json_object_get(answer, "tag"));

    if (tag && !mac_equal(tag, s->tag)) {
        return error_set(err, ERROR_NOT_FOUND,
                         "the kernel %s is another session's: it does not show this one's tag",
                         s->found);
    }
    if (!tag) {
        (void)error_set(err, ERROR_NOT_FOUND,
                        "the kernel %s was restarted since it was left, and what was in it is gone",
                        s->found);
    }
    free(s->found); /* without a helper it is the one that we made all the same, and is ended */
    s->found = NULL;
    return tag ? 0 : -1;
}

json_t *jupyter_session_where(const struct jupyter_session *s)
{
    const struct session_kernel *k = session_python(s);

    if (!s->tag || !k || !k->remote) {
        return NULL;
    }
    return json_pack("{ss ss ss*}", "kernel", remote_id(k->remote), "name", s->name, "folder",
                     s->folder);
}

void jupyter_session_leave(struct jupyter_session *s, bool interrupt)
{
    const struct session_kernel *k = session_python(s);

    if (!s->tag || !k || !k->ready || k->closing) {
        return;
    }
    s->left = true;
    if (interrupt) {
        remote_order(k->remote, "interrupt");
    }
}
