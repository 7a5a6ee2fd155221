#include "backends/module.h"

#include "backends/command/internal.h"

/* What the program looks for when it has opened the module. */
extern const struct module cellblock_module __attribute__((visibility("default")));

const struct module cellblock_module = {
    .version = MODULE_VERSION,
    .program = CELLBLOCK_VERSION,
    .ops = &command_ops,
};
