#include "backends/module.h"

#include "backends/modal/internal.h"

__attribute__((visibility("default"))) extern const struct module cellblock_module;

const struct module cellblock_module = {
    .version = MODULE_VERSION,
    .program = CELLBLOCK_VERSION,
    .ops = &modal_place_ops,
};
