#include "mcp/session_again.h"

#include <errno.h>
#include <string.h>

#include "mcp/policy_ask.h"
#include "mcp/secrets.h"

static bool has_name(const json_t *names, const json_t *name)
{
    size_t index;
    json_t *one;

    json_array_foreach(names, index, one)
    {
        if (json_equal(one, name)) {
            return true;
        }
    }
    return false;
}

/* All that the session had and the environment does not have, or has no more, is wished for. */
static int wish_for_secrets(json_t *wishes, const struct environment *base, const json_t *names)
{
    json_t *wished = json_array(), *name;
    size_t index;
    int r = wished ? 0 : -1;

    json_array_foreach(names, index, name)
    {
        if (json_is_string(name) && !has_name(base->secrets, name)) {
            r |= json_array_append(wished, name);
        }
    }
    json_object_del(wishes, "secrets");
    if (r == 0 && json_array_size(wished) > 0) {
        r = json_object_set(wishes, "secrets", wished);
    }
    json_decref(wished);
    return r;
}

static int check_secrets(const struct config *config, const json_t *wishes, struct error *err)
{
    size_t index;
    json_t *name;

    json_array_foreach(json_object_get(wishes, "secrets"), index, name)
    {
        if (!secrets_variable(config->secrets, json_string_value(name))) {
            return error_set(err, ERROR_REFUSED,
                             "the session has the secret \"%.100s\", which the config's table "
                             "\"secrets\" has no more, so what it prints could not be masked. It "
                             "was left as it is: put the secret back, or end the session",
                             json_string_value(name));
        }
    }
    return 0;
}

static int check_policy(const struct policy *policy, const struct environment *base,
                        const json_t *wishes, bool consented, struct error *err)
{
    if (policy_check(policy, base, wishes, err) == 0) {
        return 0;
    }
    if (consented && policy->ask && policy_check(&policy->ask->most, base, wishes, NULL) == 0) {
        error_clear(err);
        return 0;
    }
    return error_wrap(
        err, consented ? "the session has what a person had agreed to, and the policy has been "
                         "narrowed since: it may not even be asked for. It was left as it is"
                       : "the policy has been narrowed since the session was made. It was left "
                         "as it is");
}

int session_derive_again(const struct config *config, const struct environment *base,
                         const json_t *record, bool to_end, struct derived *ret, struct error *err)
{
    const json_t *made = json_object_get(record, "wishes");
    bool consented = json_is_true(json_object_get(record, "consented"));
    json_t *wishes = made ? json_copy((json_t *)made) : json_object();
    int r = -1;

    if (!wishes || wish_for_secrets(wishes, base, json_object_get(record, "secrets")) < 0) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "a session that was left");
    } else if (to_end) {
        json_object_del(wishes, "secrets");
        r = policy_derive_unchecked(base, wishes, ret, err);
    } else if (check_secrets(config, wishes, err) == 0 &&
               check_policy(&config->policy, base, wishes, consented, err) == 0) {
        r = policy_derive_unchecked(base, wishes, ret, err);
    }
    json_decref(wishes);
    return r;
}
