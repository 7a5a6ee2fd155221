#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/runner/supervised_internal.h"

/*
 * The far command is one that a shell may read on its way (ssh joins its arguments by spaces and
 * gives them to the login shell there) or not (docker exec), and whoever names the command cannot
 * tell which. So the code is in a form that means the same both ways: it has no character that any
 * shell treats specially, no space, tab or newline either. Python takes a form feed for a space and
 * a carriage return for a line's end, and a decorator is a call without parentheses:
 *
 *   n=lambda c:c.__name__
 *   @exec
 *   @bytes.fromhex
 *   @n
 *   class HEX:0
 *
 * HEX is the program below; it begins with a byte order mark, whose first hexadecimal digit is a
 * letter, as an identifier's has to be.
 */

#define BOOT_BEFORE "n=lambda\fc:c.__name__\r@exec\r@bytes.fromhex\r@n\rclass\f"
#define BOOT_AFTER ":0"

/* Says that it is there (FRAME_MARKER), reads the package, a zip that nothing in is compressed or
 * all of it at once, and runs its loader. For any Python 3, so that one that is too old can be told
 * by its number; the fourth number is that of the bytecode that it loads, 0 where it can take none
 * from us. */
static const char program[] =
    "\xef\xbb\xbf"
    "import os,sys\n"
    "try:\n"
    " import zlib\n"
    " from _frozen_importlib_external import MAGIC_NUMBER as g\n"
    "except Exception:g=b''\n"
    "def i(b):return int.from_bytes(b,'little')\n"
    "m='\\x02cellblock-stream-1 %d.%d.%d.%d\\x03'%(tuple(sys.version_info[:3])+(i(g[:2]),))\n"
    "os.write(1,m.encode())\n"
    "def r(n):\n"
    " b=b''\n"
    " while len(b)<n:\n"
    "  c=os.read(0,n-len(b))\n"
    "  if not c:os._exit(1)\n"
    "  b+=c\n"
    " return b\n"
    "z=r(i(r(4)))\n"
    "if z[:1]!=b'P':z=zlib.decompress(z)\n"
    "f={}\n"
    "while z[:4]==b'PK\\x03\\x04':\n"
    " k=30+i(z[26:28]);d=k+i(z[28:30]);e=d+i(z[18:22])\n"
    " f[z[30:k].decode()]=z[d:e]\n"
    " z=z[e:]\n"
    "exec(compile(f['cellblock_worker/loader.py'],'<cellblock>','exec'),{'files':f})\n";

enum { ARGV_SIZE = 6 };

static bool is_plain(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_.,:+/@%-";
    return text[0] && text[strspn(text, plain)] == '\0';
}

static char *write_code(char *out)
{
    static const char digits[] = "0123456789abcdef";
    out = stpcpy(out, BOOT_BEFORE);
    for (const unsigned char *byte = (const unsigned char *)program; *byte; byte++) {
        *out++ = digits[*byte >> 4];
        *out++ = digits[*byte & 15];
    }
    return stpcpy(out, BOOT_AFTER) + 1;
}

/* One piece of memory: the pointers, then what they point at. */
const char *const *supervised_command(const char *python, bool shell_safe, char **ret_to_free)
{
    size_t code_size = sizeof(BOOT_BEFORE) + 2 * sizeof(program) + sizeof(BOOT_AFTER);
    const char **argv;
    char *space;

    if (shell_safe && !is_plain(python)) {
        return NULL;
    }
    space = malloc(ARGV_SIZE * sizeof(*argv) + code_size + strlen(python) + 1);
    if (!space) {
        return NULL;
    }
    argv = (const char **)(void *)space;
    argv[0] = space + ARGV_SIZE * sizeof(*argv) + code_size;
    memcpy((char *)argv[0], python, strlen(python) + 1);
    argv[1] = "-I";
    argv[2] = "-u";
    argv[3] = "-c";
    argv[4] = space + ARGV_SIZE * sizeof(*argv);
    argv[5] = NULL;
    (void)write_code((char *)argv[4]);
    *ret_to_free = space;
    return argv;
}

/* ---- what it is to be ---- */

static int copy_text(const char **text)
{
    *text = *text ? strdup(*text) : NULL;
    return *text ? 0 : -ENOMEM;
}

int supervised_copy_options(struct supervised *s, const struct supervised_options *options)
{
    struct supervised_options *o = &s->options;
    int r = 0;

    *o = *options;
    json_incref(o->env);
    r |= o->workspace ? copy_text(&o->workspace) : 0;
    r |= o->proof ? copy_text(&o->proof) : 0;
    r |= o->secret ? copy_text(&o->secret) : 0;
    return r;
}

void supervised_free_options(struct supervised *s)
{
    json_decref(s->options.env);
    free((char *)s->options.workspace);
    free((char *)s->options.proof);
    if (s->options.secret) {
        explicit_bzero((char *)s->options.secret, strlen(s->options.secret));
    }
    free((char *)s->options.secret);
}

/* ---- what it reads ---- */

/* What its Python can load without compiling it, if that is at hand: it takes a third of the time
 * of a start. */
static const struct embedded_file *package_for(const char *magic)
{
    const struct embedded_file *compiled = embedded_find(embedded_worker, magic);

    return compiled ? compiled : embedded_find(embedded_runtime, "cellblock.zip");
}

static json_t *setup_of(const struct supervised_options *o)
{
    json_t *setup =
        json_pack("{s:s?, s:I, s:I, s:i, s:b, s:b, s:b, s:O?}", "workspace", o->workspace, "memory",
                  (json_int_t)o->memory_mib << 20, "disk", (json_int_t)o->disk_mib << 20,
                  "processes", (int)o->processes, "rlimits", o->limits_per_process, "warm", o->warm,
                  "start", o->start_at_once, "env", o->env);

    if (setup && o->proof) {
        json_object_set_new(setup, "keep",
                            json_pack("{s:s, s:s, s:f}", "folder", SUPERVISED_DOOR, "proof",
                                      o->proof, "seconds", o->keep_seconds));
    }
    return setup;
}

static json_t *attach_of(const struct supervised_options *o)
{
    return json_pack("{s:s, s:s, s:i, s:b}", "folder", SUPERVISED_DOOR, "secret", o->secret, "pid",
                     o->pid ? o->pid : SUPERVISED_FIRST_PID, "restored", o->restored);
}

int supervised_send_package(struct supervised *s, const char *magic)
{
    const struct embedded_file *zip = package_for(magic);
    const struct supervised_options *o = &s->options;
    unsigned char size[] = {zip->size & 0xff, zip->size >> 8 & 0xff, zip->size >> 16 & 0xff,
                            zip->size >> 24 & 0xff};
    int r = s->stream->write(s->stream, size, sizeof(size));

    if (r == 0) {
        r = s->stream->write(s->stream, zip->data, zip->size);
    }
    if (r < 0) {
        return r;
    }
    return o->secret ? supervised_send_json(s, FRAME_ATTACH, attach_of(o))
                     : supervised_send_json(s, FRAME_SETUP, setup_of(o));
}
