#include "mcp/own_sessions.h"

#include <unistd.h>

int own_sessions_open(struct own_sessions *own, const struct config *config, struct error *err)
{
    int r = uv_loop_init(&own->loop);

    if (r < 0) {
        return error_set_code(err, ERROR_INTERNAL, r, "cannot make an event loop");
    }
    own->log = log_new(STDERR_FILENO, config->log_level);
    own->sessions = sessions_new(&own->loop, config, own->log);
    if (!own->sessions) {
        uv_loop_close(&own->loop);
        log_free(own->log);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    return 0;
}

void own_sessions_finish(struct own_sessions *own)
{
    uv_run(&own->loop, UV_RUN_DEFAULT);
    uv_loop_close(&own->loop);
    log_free(own->log);
}
