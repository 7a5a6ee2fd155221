#include "mcp/tools/commands/package_name.h"

#include <string.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define WORKSPACE "/workspace/"
#define WHEEL ".whl"

static bool is_letter(char c)
{
    return c != '\0' && strchr(LETTERS, c);
}

static const char *past_spaces(const char *text)
{
    return text + strspn(text, " ");
}

/* Past a name that begins and ends with a letter or a digit; NULL when there is none. */
static const char *past_name(const char *text)
{
    size_t n = strspn(text, LETTERS "._-");

    return n > 0 && is_letter(text[0]) && is_letter(text[n - 1]) ? text + n : NULL;
}

/* "[one,two]", which may be left out. */
static const char *past_extras(const char *text)
{
    if (*text != '[') {
        return text;
    }
    do {
        text = past_name(past_spaces(text + 1));
        text = text ? past_spaces(text) : NULL;
    } while (text && *text == ',');
    return text && *text == ']' ? text + 1 : NULL;
}

static const char *past_operator(const char *text)
{
    static const char *const operators[] = {"===", "==", "~=", "!=", "<=", ">=", "<", ">"};

    for (size_t i = 0; i < sizeof(operators) / sizeof(*operators); i++) {
        size_t n = strlen(operators[i]);
        if (strncmp(text, operators[i], n) == 0) {
            return text + n;
        }
    }
    return NULL;
}

static const char *past_version(const char *text)
{
    size_t n = strspn(text, LETTERS ".*+!_-");

    return n > 0 && is_letter(text[0]) ? text + n : NULL;
}

/* ">=1,<2", which may be left out. */
static const char *past_versions(const char *text)
{
    if (*text == '\0') {
        return text;
    }
    for (;;) {
        text = past_operator(past_spaces(text));
        text = text ? past_version(past_spaces(text)) : NULL;
        text = text ? past_spaces(text) : NULL;
        if (!text || *text != ',') {
            return text;
        }
        text++;
    }
}

bool package_is_wheel(const char *text)
{
    return strncmp(text, WORKSPACE, strlen(WORKSPACE)) == 0;
}

static bool is_wheel_path(const char *text)
{
    size_t n = strlen(text), prefix = strlen(WORKSPACE);

    return n > prefix + strlen(WHEEL) && strcmp(text + n - strlen(WHEEL), WHEEL) == 0 &&
           strspn(text, LETTERS "._-+!/") == n && !strstr(text, "/.") && !strstr(text, "/-");
}

bool package_python_ok(const char *text, size_t size)
{
    if (size == 0 || size > PACKAGE_NAME_CAP || strlen(text) != size) {
        return false;
    }
    if (package_is_wheel(text)) {
        return is_wheel_path(text);
    }
    text = past_name(text);
    text = text ? past_extras(past_spaces(text)) : NULL;
    text = text ? past_versions(past_spaces(text)) : NULL;
    return text && *text == '\0';
}

/* A "-" at the end is apt-get's way to remove a package. */
bool package_system_ok(const char *text, size_t size)
{
    const char *version;
    size_t name;

    if (size < 1 || size > PACKAGE_NAME_CAP || strlen(text) != size || !is_letter(text[0]) ||
        text[size - 1] == '-') {
        return false;
    }
    name = strspn(text, LETTERS "+._-");
    if (name == size) {
        return true;
    }
    version = text + name + 1;
    return text[name] == '=' && text[name - 1] != '-' && is_letter(*version) &&
           strspn(version, LETTERS ".+:~_-") == size - name - 1;
}
