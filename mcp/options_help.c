#include "mcp/options.h"

#include <string.h>

#include "mcp/options_table.h"

enum {
    HELP_COLUMN = 26, /* where the explanations begin */
};

/* What comes before and after the list of options. */
static const struct command_help {
    const char *usage;
    const char *about;
    const char *end;
} command_helps[] = {
    [COMMAND_SERVE] =
        {"cellblock [serve] [options]",
         "An MCP server on standard input and output: it gives an agent the tools run_code,\n"
         "add_share and reset_session, and runs what they bring in a sandbox on this machine.\n"
         "A host starts it; nothing else is to be typed here. It ends with its input.",
         "Options about the sandbox hold for the default environment and beat the config file.\n"
         "Examples:\n"
         "  claude mcp add cellblock -- cellblock --share-root ~/data\n"
         "  cellblock --mode ephemeral --timeout 20 < requests.jsonl\n"},
    [COMMAND_RUN] =
        {"cellblock run [options] FILE|-",
         "Runs one file in a fresh sandbox, without MCP. What it prints comes out as it is\n"
         "printed, the value of a last expression at the end. A name that ends in .sh or .bash is\n"
         "run by the shell, all else (and standard input, -) by Python. The code has no input.",
         "Examples:\n"
         "  echo '6 * 7' | cellblock run -\n"
         "  cellblock run --share sales.csv:/data/sales.csv report.py\n"
         "  cellblock run --share out:/out:rw --timeout 600 build.sh\n"},
    [COMMAND_DOCTOR] =
        {"cellblock doctor [options]",
         "Tries what a sandbox needs on this machine and says, for whatever does not work, the\n"
         "command that mends it. Given the options of a server, it looks at what they ask for.",
         "Example:\n"
         "  cellblock doctor --json | jq '.checks[] | select(.ok | not)'\n"},
    [COMMAND_BACKENDS] = {"cellblock backends [options]",
                          "Lists where code can run, and what each place can do.",
                          "Example:\n"
                          "  cellblock backends --json\n"},
    [COMMAND_SESSIONS] =
        {"cellblock sessions [options]",
         "Lists the sessions that have outlived the server which made them, as those of an\n"
         "environment with \"keep\": true do. Those past their lifetime are ended.",
         "Example:\n"
         "  cellblock sessions --json | jq -r '.sessions[].session'\n"},
    [COMMAND_ATTACH] =
        {"cellblock attach [options] ID",
         "Runs what is typed in a session that was left: a line at a time, and what begins with a\n"
         "line that ends in a colon up to an empty line. Standard input that is no terminal is "
         "one\n"
         "run. At the end the session is left as it is; the next server may attach it.",
         "Examples:\n"
         "  cellblock attach s-7k2m9q4d\n"
         "  echo 'print(len(df))' | cellblock attach s-7k2m9q4d\n"},
    [COMMAND_LOGS] = {"cellblock logs [options] ID",
                      "Prints the last of what a session that was left had printed between its "
                      "runs.",
                      "Example:\n"
                      "  cellblock logs s-7k2m9q4d\n"},
    [COMMAND_STOP] = {"cellblock stop [options] ID",
                      "Ends a session that was left: its variables, files and processes are gone "
                      "then.\nWhat goes on in it may go on for up to 30 s.",
                      "Examples:\n"
                      "  cellblock stop s-7k2m9q4d\n"
                      "  cellblock stop --kill s-7k2m9q4d\n"},
    [COMMAND_VERSION] = {"cellblock version", "Prints the version.", ""},
};

static const char exit_codes[] =
    "Exit status: 0 it works, 1 something that the default configuration needs does not work\n"
    "(doctor) or the server could not start, 2 wrong usage or configuration, 3 unsupported.\n";

static const char run_exit_codes[] =
    "Exit status: 0 ok; 1 uncaught exception; the code's own after exit(N) or a failed command;\n"
    "2 wrong usage or configuration; 3 refused or unsupported; 4 the sandbox could not be\n"
    "started or was lost; 124 time limit; 128+N ended by signal N (137: killed, also for too\n"
    "much memory; 130: Ctrl-C).\n";

/* Names and explanations in two columns; a line break in an explanation is kept. */
static void print_row(const struct option_row *row, FILE *out)
{
    int n = fprintf(out, "  %s%s%s", row->name, row->argument ? " " : "",
                    row->argument ? row->argument : "");
    const char *line = row->help;
    const char *end;

    if (n >= HELP_COLUMN) {
        fputc('\n', out);
        n = 0;
    }
    while ((end = strchr(line, '\n'))) {
        fprintf(out, "%*s%.*s\n", HELP_COLUMN - n, "", (int)(end - line), line);
        line = end + 1;
        n = 0;
    }
    fprintf(out, "%*s%s\n", HELP_COLUMN - n, "", line);
}

static void print_commands(FILE *out)
{
    fputs("Commands (`cellblock COMMAND --help` says more):\n"
          "  serve     the MCP server (the default)\n"
          "  run       run one file in a sandbox, without MCP\n"
          "  doctor    what works here, and the command that mends what does not\n"
          "  backends  where code can run, and what each place can do\n"
          "  sessions  the sessions that outlived their server\n"
          "  attach    go on in one of them\n"
          "  logs      what it printed between its runs\n"
          "  stop      end it\n"
          "  version   the version\n\n",
          out);
}

void options_help(enum command command, FILE *out)
{
    const struct command_help *help = &command_helps[command];

    fprintf(out, "usage: %s\n\n%s\n\n", help->usage, help->about);
    if (command == COMMAND_SERVE) {
        print_commands(out);
    }
    fputs("Options (--name VALUE or --name=VALUE):\n", out);
    for (const struct option_row *row = option_rows; row->name; row++) {
        if (row->commands & (1u << command)) {
            print_row(row, out);
        }
    }
    fprintf(out, "\n%s%s%s", help->end, help->end[0] ? "\n" : "",
            command == COMMAND_RUN || command == COMMAND_ATTACH ? run_exit_codes : exit_codes);
}
