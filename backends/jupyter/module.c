#include "backends/module.h"

#include "backends/jupyter/place.h"

__attribute__((visibility("default"))) extern const struct module cellblock_module;

const struct module cellblock_module = {
    .version = MODULE_VERSION,
    .program = CELLBLOCK_VERSION,
    .ops = &jupyter_module_ops,
};
