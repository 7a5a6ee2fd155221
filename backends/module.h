#ifndef CELLBLOCK_MODULE_H
#define CELLBLOCK_MODULE_H

#include "backends/place.h"

/*
 * Backends that need libcurl, libwebsockets or libarchive are loadable modules, opened on first
 * use: a process linked to all of these takes several times as long to reach main, and most
 * sessions never use them.
 *
 * A module exports one symbol, `cellblock_module`, of type struct module. The program itself has a
 * `struct place_ops` without functions for each such backend (registry.c): its name, capabilities
 * and languages. The place that comes back from module_open has the module's own, whole ops.
 */
enum {
    MODULE_VERSION = 6, /* goes up when a structure shared with the modules changes */
};

struct module {
    unsigned version;    /* MODULE_VERSION it was built with */
    const char *program; /* CELLBLOCK_VERSION it was built with: they go together */
    const struct place_ops *ops;
};

/*
 * Loads cellblock-NAME.so (once; it stays loaded) and opens a place with it. It is looked for in
 * the program's own folder under modules/ (a build folder) and then in the library folder that the
 * program was installed with, never by a search path that the environment can change. -1 with an
 * ERROR_UNSUPPORTED that says what could not be loaded, why, and which package has it.
 */
int module_open(const char *name, uv_loop_t *loop, const struct environment *env,
                struct place **ret, struct error *err);

#endif
