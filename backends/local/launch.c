#include "backends/local/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/embedded.h"
#include "backends/base/strings.h"
#include "backends/local/cell/cell.h"
#include "backends/local/system_paths.h"

#define RUNTIME "/run/cellblock"

enum {
    MIB = 1024 * 1024,
    FIRST_DATA_FD = 4, /* in the child; 3 is the control socket */
    ZYGOTE_ROOT_MIB = 16,
};

/* Host variables that describe the hardware and the clock, not the user; without the first two some
 * builds of OpenBLAS choose a kernel that the machine does not have. */
static const char *const passed_variables[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "TZ", NULL};

struct text_file {
    const char *path;
    const char *text;
};

static const struct text_file etc_files[] = {
    {"/etc/group", "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n"},
    {"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"},
    {"/etc/passwd", "root:x:0:0:root:/root:/usr/sbin/nologin\n"
                    "sandbox:x:1000:1000:sandbox:/workspace:/bin/bash\n"
                    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
};

static const struct text_file etc_hosts = {"/etc/hosts", "127.0.0.1 localhost cell\n"
                                                         "::1 localhost cell\n"};

/* The descriptors that go to the child, opened here, closed once it has been started. */
struct data_fds {
    int fds[CHILD_FDS_CAP];
    int count;
};

static void close_data(struct data_fds *data)
{
    for (int i = 1; i < data->count; i++) { /* the first is the control socket, not ours */
        close(data->fds[i]);
    }
}

/* Adds a descriptor and returns its number in the child, or -errno. Takes it. */
static int add_fd(struct data_fds *data, int fd)
{
    if (fd < 0) {
        return -errno;
    }
    if (data->count == CHILD_FDS_CAP) {
        close(fd);
        return -EMFILE;
    }
    data->fds[data->count++] = fd;
    return FIRST_DATA_FD - 1 + data->count - 1;
}

static int write_all(int fd, const void *bytes, size_t size)
{
    const char *next = bytes;
    while (size > 0) {
        ssize_t n = write(fd, next, size);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            next += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

/* A file of ours in the sandbox: bwrap copies it from the descriptor. */
static int add_file(struct strings *argv, struct data_fds *data, const char *dest, const char *mode,
                    const void *bytes, size_t size)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : write_all(fd, bytes, size);
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0) {
        r = -errno;
    }
    int number = add_fd(data, fd);
    if (r < 0 || number < 0) {
        return r < 0 ? r : number;
    }
    strings_add_format(argv, "--perms");
    strings_add(argv, mode);
    strings_add(argv, "--file");
    strings_add_format(argv, "%d", number);
    strings_add(argv, dest);
    return 0;
}

static void add_bind(struct strings *argv, const char *kind, const char *path)
{
    strings_add(argv, kind);
    strings_add(argv, path);
    strings_add(argv, path);
}

/* /bin and its kin: a link into /usr on a merged system, a folder elsewhere. */
static void add_system(struct strings *argv)
{
    add_bind(argv, "--ro-bind", "/usr");
    for (const char *const *path = system_folders; *path; path++) {
        char target[256];
        ssize_t n = readlink(*path, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            strings_add(argv, "--symlink");
            strings_add(argv, target);
            strings_add(argv, *path);
        } else {
            add_bind(argv, "--ro-bind-try", *path);
        }
    }
}

static void add_etc(struct strings *argv, const struct launch *launch)
{
    strings_add(argv, "--dir");
    strings_add(argv, "/etc");
    for (const char *const *path = etc_entries; *path; path++) {
        add_bind(argv, "--ro-bind-try", *path);
    }
    for (const char *const *path = etc_network; launch->env->network == NETWORK_ALL && *path;
         path++) {
        add_bind(argv, "--ro-bind-try", *path);
    }
}

static int add_own_files(struct strings *argv, struct data_fds *data, const struct launch *launch)
{
    int r = 0;
    for (const struct embedded_file *file = embedded_runtime; r == 0 && file->name; file++) {
        char dest[128];
        snprintf(dest, sizeof(dest), RUNTIME "/%s", file->name);
        r = add_file(argv, data, dest, "0555", file->data, file->size);
    }
    for (size_t i = 0; r == 0 && i < sizeof(etc_files) / sizeof(etc_files[0]); i++) {
        const struct text_file *file = &etc_files[i];
        r = add_file(argv, data, file->path, "0444", file->text, strlen(file->text));
    }
    if (r == 0 && launch->env->network == NETWORK_NONE) {
        r = add_file(argv, data, etc_hosts.path, "0444", etc_hosts.text, strlen(etc_hosts.text));
    }
    return r;
}

static int add_mounts(struct strings *argv, struct data_fds *data, const struct launch *launch)
{
    for (unsigned i = 0; i < launch->mount_count; i++) {
        const struct share *share = launch->mounts[i];
        int number = add_fd(data, fcntl(share->fd, F_DUPFD_CLOEXEC, 3));
        if (number < 0) {
            return number;
        }
        strings_add(argv, share->read_only ? "--ro-bind-fd" : "--bind-fd");
        strings_add_format(argv, "%d", number);
        strings_add(argv, share->dest);
    }
    return 0;
}

static void add_walls(struct strings *argv, const struct launch *launch)
{
    static const char *const common[] = {
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--hostname",
        "cell",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        NULL,
    };
    strings_add_all(argv, common);
    if (launch->env->network == NETWORK_NONE) {
        strings_add(argv, "--unshare-net");
    }
    if (launch->mode == LAUNCH_SOLO) {
        /* The cell init has to be pid 1: the one process that nobody inside can kill. */
        strings_add(argv, "--as-pid-1");
    }
}

static void add_tmpfs(struct strings *argv, unsigned long long bytes, const char *path)
{
    strings_add(argv, "--size");
    strings_add_format(argv, "%llu", bytes);
    strings_add(argv, "--tmpfs");
    strings_add(argv, path);
}

/* The variables of the sandbox, "NAME=value": nothing of the server's own environment but the few
 * above. The environment's own come last and win. */
static void list_variables(struct strings *vars, const struct launch *launch)
{
    const char *home = launch->folder ? launch->folder : "";
    strings_add_format(vars, "PATH=%.*s:/usr/local/bin:/usr/bin:/bin",
                       (int)(strrchr(launch->python->executable, '/') - launch->python->executable),
                       launch->python->executable);
    strings_add_format(vars, "HOME=%s/workspace", home);
    strings_add_format(vars, "TMPDIR=%s/tmp", home);
    strings_add_format(vars, "PIP_TARGET=%s/workspace/.local/cellblock-packages", home);
    strings_add_format(vars, "MPLCONFIGDIR=%s/tmp/matplotlib", home);
    static const char *const fixed[] = {
        "USER=sandbox",
        "LOGNAME=sandbox",
        "SHELL=/bin/bash",
        "LANG=C.UTF-8",
        "TERM=dumb",
        "PIP_NO_INPUT=1",
        "PIP_DISABLE_PIP_VERSION_CHECK=1",
        "PIP_NO_CACHE_DIR=1",
        NULL,
    };
    strings_add_all(vars, fixed);
    if (strcmp(launch->python->implementation, "PyPy") == 0) {
        /* Else it is as large as the processor's cache makes it, hundreds of MiB on a big machine,
         * and that counts towards the limit. */
        strings_add(vars, "PYPY_GC_NURSERY=64M");
    }
    for (const char *const *name = passed_variables; *name; name++) {
        if (getenv(*name)) {
            strings_add_format(vars, "%s=%s", *name, getenv(*name));
        }
    }
    const char *name;
    json_t *value;
    json_object_foreach(launch->env->env, name, value)
    {
        strings_add_format(vars, "%s=%s", name, json_string_value(value));
    }
}

static void add_variables(struct strings *argv, const struct launch *launch)
{
    struct strings vars = {0};
    list_variables(&vars, launch);
    for (size_t i = 0; i < vars.count; i++) {
        char *value = strchr(vars.list[i], '=');
        *value = '\0';
        strings_add(argv, "--setenv");
        strings_add(argv, vars.list[i]);
        strings_add(argv, value + 1);
    }
    argv->failed |= vars.failed;
    strings_free(&vars);
}

static void add_folders(struct strings *argv, const struct launch *launch)
{
    bool zygote = launch->mode == LAUNCH_ZYGOTE;
    unsigned long long root = zygote ? ZYGOTE_ROOT_MIB : launch->env->disk_mib;
    add_tmpfs(argv, root * MIB, "/");
    add_system(argv);
    add_etc(argv, launch);
    for (char **folder = launch->python->folders; *folder; folder++) {
        add_bind(argv, "--ro-bind", *folder);
    }
    static const char *const rest[] = {"--proc", "/proc",      "--dev", "/dev",  "--dir", "/tmp",
                                       "--dir",  "/workspace", "--dir", RUNTIME, NULL};
    strings_add_all(argv, rest);
    add_tmpfs(argv, CELL_SHM_BYTES, "/dev/shm");
}

static void add_python(struct strings *argv, const struct launch *launch, const char *runtime)
{
    strings_add(argv, launch->python->executable);
    strings_add(argv, "-I"); /* no PYTHON* variables, no user site, no current directory */
    strings_add(argv, "-B");
    strings_add(argv, "-X");
    strings_add(argv, "utf8");
    strings_add_format(argv, "%s/zygote.py", runtime);
    strings_add(argv, runtime);
    strings_add(argv, launch->mode == LAUNCH_SOLO ? "solo" : "zygote");
}

/* The options of bwrap: all but the command itself. */
static int build_options(struct strings *options, struct data_fds *data,
                         const struct launch *launch)
{
    add_walls(options, launch);
    add_variables(options, launch);
    add_folders(options, launch);
    int r = add_own_files(options, data, launch);
    if (r == 0) {
        r = add_mounts(options, data, launch);
    }
    if (launch->mode == LAUNCH_ZYGOTE) {
        static const char *const seal[] = {"--dir", "/run/cellroot", "--remount-ro", "/", NULL};
        strings_add_all(options, seal);
    }
    strings_add(options, "--chdir");
    strings_add(options, "/workspace");
    return r < 0 ? r : strings_ok(options);
}

/* The options travel in a file, NUL after each (bwrap's --args), since argv can be read by every
 * process of the machine and an environment's variables may be secrets. */
static int build_bwrap(struct strings *argv, struct data_fds *data, const struct launch *launch)
{
    struct strings options = {0};
    int r = build_options(&options, data, launch);
    int fd = r == 0 ? memfd_create("options", MFD_CLOEXEC) : -1;
    for (size_t i = 0; r == 0 && i < options.count; i++) {
        r = fd < 0 ? -errno : write_all(fd, options.list[i], strlen(options.list[i]) + 1);
    }
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0) {
        r = -errno;
    }
    strings_free(&options);
    int number = fd >= 0 ? add_fd(data, fd) : -EBADF;
    if (r < 0 || number < 0) {
        return r < 0 ? r : number;
    }
    strings_add(argv, "bwrap");
    strings_add(argv, "--args");
    strings_add_format(argv, "%d", number);
    strings_add(argv, "--");
    add_python(argv, launch, RUNTIME);
    return strings_ok(argv);
}

static int put_runtime(const struct launch *launch)
{
    for (const struct embedded_file *file = embedded_runtime; file->name; file++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/run/%s", launch->folder, file->name);
        sandbox_user_enter(launch->user);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0555);
        sandbox_user_leave(launch->user);
        int r = fd < 0 ? -errno : write_all(fd, file->data, file->size);
        if (fd >= 0) {
            close(fd);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int spawn_bwrap(uv_loop_t *loop, struct child *child, const struct launch *launch,
                       struct child_options *options, void (*exited)(struct child *child),
                       void *data, struct error *err)
{
    struct strings argv = {0};
    struct data_fds fds = {.fds = {launch->control_fd}, .count = 1};
    char *no_variables[] = {NULL}; /* --clearenv clears only what bwrap's command sees */
    char *bwrap = find_program("bwrap", 0);
    if (!bwrap) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "bubblewrap is not installed (no bwrap on PATH), and the isolation asked "
                         "for needs it. Install it: apt-get install bubblewrap");
    }
    int r = build_bwrap(&argv, &fds, launch);
    if (r == 0) {
        options->file = bwrap;
        options->argv = argv.list;
        options->envp = no_variables;
        options->fds = fds.fds;
        options->fd_count = fds.count;
        r = child_spawn(loop, child, options, exited, data);
    }
    close_data(&fds);
    strings_free(&argv);
    free(bwrap);
    return r < 0 ? error_set_code(err, ERROR_INTERNAL, r, "starting bubblewrap") : 0;
}

static int spawn_bare(uv_loop_t *loop, struct child *child, const struct launch *launch,
                      struct child_options *options, void (*exited)(struct child *child),
                      void *data, struct error *err)
{
    struct strings argv = {0};
    struct strings vars = {0};
    char runtime[512];
    snprintf(runtime, sizeof(runtime), "%s/run", launch->folder);
    int r = put_runtime(launch);
    add_python(&argv, launch, runtime);
    list_variables(&vars, launch);
    r = r < 0 ? r : strings_ok(&argv);
    r = r < 0 ? r : strings_ok(&vars);
    if (r == 0) {
        options->file = launch->python->executable;
        options->argv = argv.list;
        options->envp = vars.list;
        options->fds = &launch->control_fd;
        options->fd_count = 1;
        options->cwd = launch->folder;
        r = child_spawn(loop, child, options, exited, data);
    }
    strings_free(&argv);
    strings_free(&vars);
    return r < 0 ? error_set_code(err, ERROR_INTERNAL, r, "starting %s", launch->python->executable)
                 : 0;
}

int launch_start(uv_loop_t *loop, struct child *child, const struct launch *launch,
                 void (*exited)(struct child *child), void *data, struct error *err)
{
    struct child_options options = {.user = launch->user};
    return launch->folder ? spawn_bare(loop, child, launch, &options, exited, data, err)
                          : spawn_bwrap(loop, child, launch, &options, exited, data, err);
}
