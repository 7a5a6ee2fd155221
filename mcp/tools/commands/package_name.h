#ifndef CELLBLOCK_MCP_TOOLS_COMMANDS_PACKAGE_NAME_H
#define CELLBLOCK_MCP_TOOLS_COMMANDS_PACKAGE_NAME_H

#include <stdbool.h>
#include <stddef.h>

/*
 * What may be installed by name. Nothing that an installer could take for an option, an address, a
 * path of its choice or an expression: these names come from a model, and the installer may run as
 * the sandbox's root.
 */
enum { PACKAGE_NAME_CAP = 200 };

/* "name", "name[extra,extra]", "name==1.2", "name>=1,<2" (spaces are allowed around operators), or
 * the path of a wheel, "/workspace/….whl". */
bool package_python_ok(const char *text, size_t size);

/* Is it a wheel's path, in the above? */
bool package_is_wheel(const char *text);

/* "name" or "name=version", in the characters that Debian, Alpine and Fedora have for them. */
bool package_system_ok(const char *text, size_t size);

#endif
