/*
 * The server with the tools that the official conformance suite calls, instead of the real ones.
 * Everything else (stdio, JSON-RPC, both eras, progress, logging) is the product's own.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mcp/config.h"
#include "mcp/schema.h"
#include "mcp/server.h"
#include "mcp/stdio.h"
#include "mcp/tools.h"

enum {
    STEP_MS = 70, /* longer than the 50 ms that lie between two progress notifications */
    STEPS = 3,
};

#define PNG                                                                                        \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
#define WAV "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="

static void finish(struct call *call, json_t *content, bool is_error)
{
    call_finish(call, json_pack("{s:o, s:b}", "content", content, "isError", is_error));
}

static json_t *text_block(const char *text)
{
    return json_pack("{s:s, s:s}", "type", "text", "text", text);
}

static json_t *media_block(const char *type, const char *data, const char *mime)
{
    return json_pack("{s:s, s:s, s:s}", "type", type, "data", data, "mimeType", mime);
}

static json_t *resource_block(const char *uri, const char *mime, const char *text)
{
    return json_pack("{s:s, s:{s:s, s:s, s:s}}", "type", "resource", "resource", "uri", uri,
                     "mimeType", mime, "text", text);
}

static void simple_text(struct call *call)
{
    finish(call, json_pack("[o]", text_block("This is a simple text response for testing.")),
           false);
}

static void image_content(struct call *call)
{
    finish(call, json_pack("[o]", media_block("image", PNG, "image/png")), false);
}

static void audio_content(struct call *call)
{
    finish(call, json_pack("[o]", media_block("audio", WAV, "audio/wav")), false);
}

static void embedded_resource(struct call *call)
{
    finish(call,
           json_pack("[o]", resource_block("test://embedded-resource", "text/plain",
                                           "This is an embedded resource content.")),
           false);
}

static void multiple_content_types(struct call *call)
{
    finish(call,
           json_pack("[o, o, o]", text_block("Multiple content types test:"),
                     media_block("image", PNG, "image/png"),
                     resource_block("test://mixed-content-resource", "application/json",
                                    "{\"test\":\"data\",\"value\":123}")),
           false);
}

static void error_handling(struct call *call)
{
    finish(call,
           json_pack("[o]", text_block("This tool intentionally returns an error for testing")),
           true);
}

/* A tool that does something in steps, with a pause before each but the first. */
struct steps {
    uv_timer_t timer;
    struct call *call;
    void (*step)(struct call *call, int number);
    int number;
};

static void on_steps_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_step(uv_timer_t *timer)
{
    struct steps *steps = timer->data;

    steps->step(steps->call, steps->number);
    if (++steps->number == STEPS) {
        finish(steps->call, json_pack("[o]", text_block("Done.")), false);
        uv_close((uv_handle_t *)timer, on_steps_closed);
    }
}

static void start_steps(struct call *call, void (*step)(struct call *call, int number))
{
    struct steps *steps = calloc(1, sizeof(*steps));

    if (!steps) {
        abort();
    }
    steps->call = call;
    steps->step = step;
    uv_timer_init(server_loop(call_server(call)), &steps->timer);
    steps->timer.data = steps;
    uv_timer_start(&steps->timer, on_step, 0, STEP_MS);
}

static void log_step(struct call *call, int number)
{
    static const char *const lines[STEPS] = {"Tool execution started", "Tool processing data",
                                             "Tool execution completed"};

    call_log(call, LOG_LEVEL_INFO, "fixture", json_string(lines[number]));
}

static void with_logging(struct call *call)
{
    start_steps(call, log_step);
}

static void progress_step(struct call *call, int number)
{
    static const char *const lines[STEPS] = {"0 of 100", "50 of 100", "100 of 100"};

    call_progress(call, lines[number]);
}

static void with_progress(struct call *call)
{
    start_steps(call, progress_step);
}

/* The suite asks for it by another name where no log message may come. */
static void logging_tool(struct call *call)
{
    start_steps(call, log_step);
}

/* Its stream must hold notifications only, never a request of ours. */
static void streaming_tool(struct call *call)
{
    start_steps(call, progress_step);
}

/* Any object schema whose arguments are all optional does: the suite's tools take none. */
#define FIXTURE_TOOL(tool_name, function)                                                          \
    {                                                                                              \
        .name = (tool_name), .title = (tool_name),                                                 \
        .description = "A tool of the conformance suite.", .schema = "tools/reset_session",        \
        .read_only = true, .idempotent = true, .start = (function),                                \
    }

static const struct tool simple_text_tool = FIXTURE_TOOL("test_simple_text", simple_text);
static const struct tool image_content_tool = FIXTURE_TOOL("test_image_content", image_content);
static const struct tool audio_content_tool = FIXTURE_TOOL("test_audio_content", audio_content);
static const struct tool embedded_resource_tool =
    FIXTURE_TOOL("test_embedded_resource", embedded_resource);
static const struct tool multiple_content_types_tool =
    FIXTURE_TOOL("test_multiple_content_types", multiple_content_types);
static const struct tool error_handling_tool = FIXTURE_TOOL("test_error_handling", error_handling);
static const struct tool with_logging_tool = FIXTURE_TOOL("test_tool_with_logging", with_logging);
static const struct tool with_progress_tool =
    FIXTURE_TOOL("test_tool_with_progress", with_progress);
static const struct tool logging_tool_tool = FIXTURE_TOOL("test_logging_tool", logging_tool);
static const struct tool streaming_tool_tool =
    FIXTURE_TOOL("test_streaming_elicitation", streaming_tool);

static const struct tool *const fixture_tools[] = {
    &simple_text_tool,
    &image_content_tool,
    &audio_content_tool,
    &embedded_resource_tool,
    &multiple_content_types_tool,
    &error_handling_tool,
    &with_logging_tool,
    &with_progress_tool,
    &logging_tool_tool,
    &streaming_tool_tool,
    NULL,
};

static void on_stopped(void *data)
{
    (void)data;
}

int main(void)
{
    struct config config = {0};
    struct error err = {0};
    struct server_options options = {.config = &config, .tools = fixture_tools};
    struct server *server;
    uv_loop_t loop;

    if (stdio_claim(&options.in_fd, &options.out_fd, &err) < 0 ||
        config_load(&config, NULL, &err) < 0 || uv_loop_init(&loop) < 0) {
        return 1;
    }
    server = server_new(&loop, &options, on_stopped, NULL, &err);
    if (!server) {
        return 1;
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    server_free(server);
    config_deinit(&config);
    schema_unload();
    close(options.in_fd);
    close(options.out_fd);
    return uv_loop_close(&loop) == 0 ? 0 : 1;
}
