#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/local/cells.h"

/* What the local backend needs of this machine, for `cellblock doctor`. */

struct checks {
    struct local_place *place;
    void (*each)(void *data, const struct place_check *check);
    void *data;
};

static void tell(const struct checks *c, const char *name, bool ok, bool required, const char *fix,
                 const char *format, ...) __attribute__((format(printf, 6, 7)));

static void tell(const struct checks *c, const char *name, bool ok, bool required, const char *fix,
                 const char *format, ...)
{
    char detail[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    struct place_check check = {
        .name = name,
        .ok = ok,
        .required = required,
        .detail = detail,
        .fix = ok ? NULL : fix,
    };
    c->each(c->data, &check);
}

/* Runs `body` in a child that has become the sandbox's user; its exit status, or -1. */
static int in_child(const struct checks *c, void (*body)(void *data), void *data)
{
    const struct sandbox_user *user = &c->place->user;
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        if (user->drop && (setgid(user->gid) < 0 || setuid(user->uid) < 0)) {
            _exit(255);
        }
        body(data);
        _exit(255);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct version {
    const char *program;
    int fd;
};

static void print_version(void *data)
{
    const struct version *v = data;
    if (dup2(v->fd, STDOUT_FILENO) >= 0) {
        execl(v->program, v->program, "--version", (char *)NULL);
    }
}

static void check_bwrap(const struct checks *c)
{
    static const char fix[] = "apt-get install bubblewrap";
    bool required = c->place->isolation == ISOLATION_BWRAP;
    char *path = find_program("bwrap", 0);
    int pipe_fds[2];
    if (!path || pipe2(pipe_fds, O_CLOEXEC) < 0) {
        tell(c, "bubblewrap", false, required, fix, "no bwrap on PATH");
        free(path);
        return;
    }
    char text[128] = "";
    struct version version = {.program = path, .fd = pipe_fds[1]};
    int status = in_child(c, print_version, &version);
    close(pipe_fds[1]);
    ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);
    close(pipe_fds[0]);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    tell(c, "bubblewrap", status == 0, required, fix, "%s (%s)", *text ? text : "it did not run",
         path);
    free(path);
}

static void try_namespace(void *data)
{
    (void)data;
    _exit(unshare(CLONE_NEWUSER) < 0 ? errno : 0);
}

static void check_namespaces(const struct checks *c)
{
    int code = in_child(c, try_namespace, NULL);
    const char *fix =
        "allow unprivileged user namespaces: sysctl user.max_user_namespaces (not 0), "
        "kernel.unprivileged_userns_clone=1 where it exists, "
        "kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile for bwrap where it "
        "exists; in a container, run it with them allowed, or use --isolation landlock";
    tell(c, "user namespaces", code == 0, c->place->isolation == ISOLATION_BWRAP, fix, "%s",
         code == 0 ? "the sandbox's user may make them" : strerror(code > 0 ? code : EPERM));
}

static void check_cells(const struct checks *c)
{
    const struct local_place *place = c->place;
    if (place->isolation != ISOLATION_BWRAP) {
        return;
    }
    if (place->forked_refused) {
        tell(c, "quick cells", false, false,
             "allow namespaces inside bubblewrap (an AppArmor profile for bwrap that keeps its "
             "children's capabilities; a host or container that lets /proc be mounted there)",
             "each sandbox has a bubblewrap of its own (the same walls, a slower start), since one "
             "inside another did not work: %s",
             place->forked_refused);
        return;
    }
    tell(c, "quick cells", true, false, NULL,
         place->forked ? "sandboxes are forked from a warm interpreter"
                       : "off: cells \"solo\" is set; each sandbox has a bubblewrap of its own");
}

static void check_landlock(const struct checks *c)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    bool first = c->place->isolation == ISOLATION_LANDLOCK;
    if (abi < 1) {
        tell(c, "Landlock", false, first,
             "a kernel of 5.13 or newer with landlock in its list of security modules (lsm=)",
             "this kernel has none: %s",
             first ? "this isolation rests on it" : "the second wall is missing, the first stands");
        return;
    }
    tell(
        c, "Landlock", abi >= 6 || !first, false,
        "a kernel of 6.12 or newer: before it, code can send signals to processes of the same user",
        "ABI %ld%s", abi, abi >= 6 ? " (files, signals, abstract sockets)" : " (files)");
}

static void check_seccomp(const struct checks *c)
{
    bool ok = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
    tell(c, "seccomp", ok, true, "a kernel with CONFIG_SECCOMP_FILTER", "%s",
         ok ? "system calls are filtered" : "this kernel has no system call filter");
}

static void check_user(const struct checks *c)
{
    const struct sandbox_user *user = &c->place->user;
    tell(c, "sandbox user", true, false, NULL,
         user->drop ? "uid %u: root drops to it before anything is started"
                    : "uid %u: the user that runs the server",
         (unsigned)user->uid);
}

static void check_python(const struct checks *c)
{
    const struct interpreter *it = c->place->python;
    static const char fix[] = "apt-get install python3 python3-ipython, or name one with --python";
    if (!it) {
        tell(c, "python", false, true, fix, "none was found that the sandbox's user can run");
        return;
    }
    tell(c, "python", true, true, NULL, "%s (%s %s)%s", it->executable, it->implementation,
         it->version,
         it->modules & MODULE_IPYTHON ? ", with IPython" : ", without IPython: a plain shell");
}

static void check_memory(const struct checks *c)
{
    const struct environment *env = c->place->base.env;
    tell(c, "memory limit", true, false, NULL,
         "%llu MiB: of each process by rlimit, of the whole sandbox by looking every 50 ms",
         (unsigned long long)env->memory_mib);
}

void local_check(struct place *place, void (*each)(void *data, const struct place_check *check),
                 void *data)
{
    const struct checks c = {.place = (struct local_place *)place, .each = each, .data = data};
    check_bwrap(&c);
    check_namespaces(&c);
    check_cells(&c);
    check_landlock(&c);
    check_seccomp(&c);
    check_user(&c);
    check_python(&c);
    check_memory(&c);
}
