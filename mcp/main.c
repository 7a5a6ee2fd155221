#include <stdio.h>
#include <string.h>

#include "mcp/cmd.h"
#include "mcp/config.h"
#include "mcp/options.h"
#include "mcp/schema.h"

/* What was printed may be lost only now: a full disk must not look like success. */
static int flush_stdout(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return status;
    }
    perror("cellblock: standard output");
    return status == STATUS_OK ? STATUS_FAILED : status;
}

static int usage_error(const struct options *options, const struct error *err)
{
    bool serve = options->command == COMMAND_SERVE;

    complain(err);
    fprintf(stderr, "Try `cellblock%s%s --help`.\n", serve ? "" : " ",
            serve ? "" : command_name(options->command));
    return err->kind == ERROR_UNSUPPORTED ? STATUS_REFUSED : STATUS_USAGE;
}

static int with_config(const struct options *options, const struct config *config)
{
    switch (options->command) {
    case COMMAND_RUN:
        return cmd_run(options, config);
    case COMMAND_DOCTOR:
        return cmd_doctor(options, config);
    case COMMAND_SESSIONS:
        return cmd_sessions(options, config);
    case COMMAND_ATTACH:
        return cmd_attach(options, config);
    case COMMAND_STOP:
        return cmd_stop(options, config);
    default:
        return cmd_serve(config);
    }
}

static int load_and_run(const struct options *options)
{
    struct config config = {0};
    struct error err = {0};
    int status;

    if (config_load(&config, options->config_path, &err) < 0 ||
        options_apply(options, &config, &err) < 0) {
        complain(&err);
        status = err.kind == ERROR_UNSUPPORTED ? STATUS_REFUSED : STATUS_USAGE;
    } else {
        status = with_config(options, &config);
    }
    error_clear(&err);
    config_deinit(&config);
    schema_unload();
    return status;
}

static int dispatch(const struct options *options)
{
    if (options->help) {
        options_help(options->command, stdout);
        return STATUS_OK;
    }
    switch (options->command) {
    case COMMAND_VERSION:
        puts("cellblock " CELLBLOCK_VERSION);
        return STATUS_OK;
    case COMMAND_BACKENDS:
        return cmd_backends(options);
    case COMMAND_LOGS:
        return cmd_logs(options);
    default:
        return load_and_run(options);
    }
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct error err = {0};
    int status;

    if (options_parse(&options, argc, argv, &err) < 0) {
        status = usage_error(&options, &err);
    } else {
        status = dispatch(&options);
    }
    /* The server has moved standard output elsewhere and prints nothing here. */
    status = flush_stdout(status);
    error_clear(&err);
    options_deinit(&options);
    return status;
}
