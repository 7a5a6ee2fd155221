#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "mcp/cmd.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/stdio.h"
#include "mcp/toolsets.h"

static void greet_people(void)
{
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
        fputs("cellblock: an MCP server, waiting for JSON-RPC on standard input. A host starts it "
              "for you; see `cellblock --help`. Ctrl-D ends it.\n",
              stderr);
    }
}

/* Without anything to clean up the loop ends by itself. */
static void on_stopped(void *data)
{
    (void)data;
}

static int serve(uv_loop_t *loop, const struct server_options *options, struct error *err)
{
    struct server *server = server_new(loop, options, on_stopped, NULL, err);

    if (!server) {
        return -1;
    }
    if (options->config->warm) {
        sessions_warm(server_sessions(server));
    }
    uv_run(loop, UV_RUN_DEFAULT);
    server_free(server);
    return 0;
}

/* Secrets are in our memory: a core dump would be a file of them. */
static void leave_no_core(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = 0;
        (void)setrlimit(RLIMIT_CORE, &limit);
    }
}

int cmd_serve(const struct config *config)
{
    const struct tool *tools[TOOLSETS_TOOLS_CAP + 1];
    struct server_options options = {.config = config, .tools = tools};
    struct error err = {0};
    uv_loop_t loop;
    int status = STATUS_OK;

    greet_people();
    if (json_object_size(config->secrets) > 0) {
        leave_no_core();
    }
    toolsets_tools(config->toolsets, tools);
    if (stdio_claim(&options.in_fd, &options.out_fd, &err) < 0 || uv_loop_init(&loop) < 0) {
        error_wrap(&err, "cannot start");
        complain(&err);
        error_clear(&err);
        return STATUS_FAILED;
    }
    options.log = log_new(STDERR_FILENO, config->log_level);
    if (serve(&loop, &options, &err) < 0) {
        complain(&err);
        error_clear(&err);
        status = STATUS_FAILED;
    }
    log_free(options.log);
    uv_loop_close(&loop);
    close(options.in_fd);
    close(options.out_fd);
    return status;
}
