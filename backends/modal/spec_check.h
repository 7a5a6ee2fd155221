#ifndef CELLBLOCK_MODAL_SPEC_CHECK_H
#define CELLBLOCK_MODAL_SPEC_CHECK_H

#include "backends/environment.h"

/* Parts of modal_spec_check (spec.h), in spec_check_network.c. 0, or -1 with the name of the
 * setting. */

/* Ports of all kinds, who may reach them, the way out: nothing of it with the network cut. */
int spec_check_network(const struct environment *env, struct error *err);
/* What a sandbox starts with: its first process, its readiness probe, where and on what it runs. */
int spec_check_start(const struct environment *env, struct error *err);

#endif
