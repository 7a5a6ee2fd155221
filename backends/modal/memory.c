#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/credentials.h"
#include "backends/modal/image_recipe.h"
#include "backends/modal/internal.h"
#include "backends/remote/kept_word.h"

/*
 * Sandboxes whose memory can be kept. What Modal restores is the sandbox's first process with its
 * children; what was started by an exec is not in a snapshot, and none may be going when it is
 * taken. So here the supervisor is the first process. It waits at a socket for its source, which
 * the first exec carries to it, and has a door as that of a kept session has one: the execs that
 * come later are relays (kept.c, cellblock_worker/door.py).
 *
 *   up ─ the relay's stdin is ended ─► LEAVING ─ the service knows that it has ended ─► TAKING ─
 *   the answer ─► ASLEEP ─ start_worker ─► a new sandbox of the snapshot, or the old one if there
 *   is none ─► a relay ─► up
 *
 * The sandbox that a snapshot is taken of counts as gone: the session goes on in one that is
 * restored from it. That one has another id, and the tags and the name that we give it.
 *
 * The door's secret is made of the account's own, so that whoever has the account finds the door of
 * what it restores, and nothing in a sandbox leads back to it. Who waits behind the door is the
 * process that the snapshot's id names (see memory_is_id).
 */

#define DOOR "/tmp/.cellblock-entry"

/* Waits for who brings the source, and becomes what reads it. Its argument is that program. */
static const char entry_program[] = "import os,socket,struct,sys\n"
                                    "d='" DOOR "'\n"
                                    "os.mkdir(d,0o700)\n"
                                    "s=socket.socket(socket.AF_UNIX)\n"
                                    "s.bind(d+'/in')\n"
                                    "s.listen(1)\n"
                                    "while True:\n"
                                    " c=s.accept()[0]\n"
                                    " p=c.getsockopt(socket.SOL_SOCKET,socket.SO_PEERCRED,12)\n"
                                    " if struct.unpack('3i',p)[1]==os.getuid():break\n"
                                    " c.close()\n"
                                    "s.close()\n"
                                    "os.unlink(d+'/in')\n"
                                    "os.rmdir(d)\n"
                                    "os.dup2(c.fileno(),0)\n"
                                    "os.dup2(c.fileno(),1)\n"
                                    "c.close()\n"
                                    "a=[sys.executable,'-I','-u','-c',sys.argv[1]]\n"
                                    "os.execv(a[0],a)\n";

/* Carries bytes between its own stream and that socket, until one of them ends. */
static const char carrier_program[] = "import os,socket,sys,threading,time\n"
                                      "s=socket.socket(socket.AF_UNIX)\n"
                                      "t=time.monotonic()+60\n"
                                      "while True:\n"
                                      " try:\n"
                                      "  s.connect('" DOOR "/in')\n"
                                      "  break\n"
                                      " except OSError as e:\n"
                                      "  if time.monotonic()>t:sys.exit('no first process: %s'%e)\n"
                                      "  time.sleep(0.01)\n"
                                      "def out():\n"
                                      " b=s.recv(65536)\n"
                                      " while b:\n"
                                      "  while b:b=b[os.write(1,b):]\n"
                                      "  b=s.recv(65536)\n"
                                      " os._exit(0)\n"
                                      "threading.Thread(target=out,daemon=True).start()\n"
                                      "b=os.read(0,65536)\n"
                                      "while b:\n"
                                      " s.sendall(b)\n"
                                      " b=os.read(0,65536)\n"
                                      "os._exit(0)\n";

const char **memory_entry(const struct sandbox *s, char **ret_space)
{
    const char *python = modal_recipe_python(s->place->base.env);
    const char *const *later = supervised_command(python, false, ret_space);
    const char **argv = later ? calloc(7, sizeof(*argv)) : NULL;

    if (!argv) {
        return NULL;
    }
    for (size_t i = 0; i < 4; i++) {
        argv[i] = later[i];
    }
    argv[4] = entry_program;
    argv[5] = later[4];
    return argv;
}

const char *const *memory_carrier(const struct sandbox *s, const char *space[6])
{
    const char *words[6] = {
        modal_recipe_python(s->place->base.env), "-I", "-u", "-c", carrier_program, NULL};

    memcpy(space, words, sizeof(words));
    return space;
}

/* ---- what it is found by ---- */

static char *door_tag(const struct modal_place *place)
{
    static const unsigned char none[MAC_KEY_SIZE];
    const struct modal_credentials *c = modal_client_credentials(place->client);
    const char *secret = c->token_secret ? c->token_secret : c->oauth_client_secret;
    char word[MAC_SIZE], tag[MAC_SIZE];
    char *copy;

    if (!secret) {
        secret = "";
    }
    mac_of(none, secret, strlen(secret), word);
    kept_word(word, "memory", tag);
    copy = strdup(tag);
    explicit_bzero(word, sizeof(word));
    explicit_bzero(tag, sizeof(tag));
    return copy;
}

/* What the relay is to find. */
static int seek(struct sandbox *s)
{
    json_t *where = json_pack("{s:o}", "process", json_sprintf("%d", s->process));

    json_decref(s->base.where);
    s->base.where = where;
    return where ? 0 : -1;
}

static int take_snapshot_of_env(struct sandbox *s)
{
    const char *id = s->place->base.env->snapshot;
    const char *dot = id && memory_is_id(id) ? strchr(id, '.') : NULL;

    if (!dot || s->restore) {
        return 0;
    }
    s->process = (int)strtol(dot + 1, NULL, 10);
    s->restore = strndup(id, (size_t)(dot - id));
    return s->restore ? seek(s) : -1;
}

int memory_prepare(struct sandbox *s)
{
    if (!s->base.tag) {
        s->base.tag = door_tag(s->place);
    }
    if (s->place->base.env->snapshot && memory_is_id(s->place->base.env->snapshot) &&
        s->request.mount_count > 0) {
        sandbox_fail(s, ERROR_UNSUPPORTED,
                     "no bucket can be mounted in a sandbox that is restored from a memory "
                     "snapshot; begin with files (create_snapshot without memory), or without the "
                     "cloud share");
        return -1;
    }
    if (!s->base.tag || take_snapshot_of_env(s) < 0) {
        sandbox_fail(s, ERROR_INTERNAL, "out of memory");
        return -1;
    }
    return 0;
}

/* ---- restoring ---- */

static void on_tags_set(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                        const struct error *err)
{
    struct sandbox *s = data;
    char id[ID_SIZE];

    (void)answer;
    (void)status;
    s->rpc = NULL;
    memcpy(id, s->id, sizeof(id));
    if (err && s->base.state != CRATE_CLOSING) {
        sandbox_fail(s, err->kind, "the sandbox of the snapshot could not be marked as ours: %s",
                     err->message);
    } else {
        sandbox_made(s, id);
    }
}

/* Those of the sandbox that the snapshot was taken of are of that one's server, if there are any.
 */
static void set_tags(struct sandbox *s)
{
    Modal__Client__SandboxTagsSetRequest request = MODAL__CLIENT__SANDBOX_TAGS_SET_REQUEST__INIT;
    Modal__Client__SandboxTag space[OWNER_TAGS], *tags[OWNER_TAGS];
    struct owner_tags own;
    struct error err = {0};
    const struct modal_rpc_call call = {
        .name = "SandboxTagsSetV2",
        .request = &request.base,
        .answer = &modal__client__empty__descriptor,
        .sandbox_token = s->token,
        .done = on_tags_set,
        .data = s,
    };

    owner_tags(&own, s->mark);
    for (size_t i = 0; i < OWNER_TAGS && own.list[2 * i]; i++) {
        modal__client__sandbox_tag__init(&space[i]);
        space[i].tag_name = (char *)own.list[2 * i];
        space[i].tag_value = (char *)own.list[2 * i + 1];
        tags[request.n_tags++] = &space[i];
    }
    request.tags = tags;
    request.sandbox_id = s->id;
    s->rpc = modal_rpc_start(s->place->client, &call, &err);
    if (!s->rpc) {
        sandbox_fail(s, err.kind, "%s", err.message);
    }
    error_clear(&err);
}

static void restored(struct sandbox *s, const Modal__Client__SandboxRestoreV2Response *a)
{
    memcpy(s->id, a->sandbox_id, strlen(a->sandbox_id) + 1);
    s->unsure = false;
    s->anew = true;
    free(s->restore); /* what comes is newer */
    s->restore = NULL;
    if (sandbox_is_id(a->task_id)) {
        memcpy(s->task_id, a->task_id, strlen(a->task_id) + 1);
    }
    if (a->command_router_access && a->command_router_access->url[0]) {
        s->router_url = strdup(a->command_router_access->url);
        s->router_jwt = strdup(a->command_router_access->jwt);
    }
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
        return;
    }
    s->base.state = CRATE_PLACING;
    set_tags(s);
}

static void on_restored(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                        const struct error *err)
{
    const Modal__Client__SandboxRestoreV2Response *a = (const void *)answer;
    struct sandbox *s = data;

    s->rpc = NULL;
    if (!err && sandbox_is_id(a->sandbox_id)) {
        restored(s, a);
        return;
    }
    s->unsure = !err || modal_status_is_transient(status); /* looked for by its name, at its end */
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
    } else {
        sandbox_fail(s, err ? err->kind : ERROR_LOST, "the memory snapshot %s was not restored: %s",
                     s->restore, err ? err->message : "the service's answer has no sandbox id");
    }
}

void memory_restore(struct sandbox *s)
{
    Modal__Client__SandboxRestoreV2Request request =
        MODAL__CLIENT__SANDBOX_RESTORE_V2_REQUEST__INIT;
    struct error err = {0};
    const struct modal_rpc_call call = {
        .name = "SandboxRestoreV2",
        .request = &request.base,
        .answer = &modal__client__sandbox_restore_v2_response__descriptor,
        .timeout_ms = CREATE_MS,
        .done = on_restored,
        .data = s,
    };

    sandbox_phase(s, CRATE_CREATING, "waiting for Modal to restore a memory snapshot");
    request.snapshot_id = s->restore;
    request.sandbox_name_override = s->name;
    request.sandbox_name_override_type =
        MODAL__CLIENT__SANDBOX_RESTORE_REQUEST__SANDBOX_NAME_OVERRIDE_TYPE__SANDBOX_NAME_OVERRIDE_TYPE_STRING;
    s->rpc = modal_rpc_start(s->place->client, &call, &err);
    if (s->rpc) {
        s->asked = s->unsure = true;
    } else {
        sandbox_fail(s, err.kind, "%s", err.message);
    }
    error_clear(&err);
}

/* ---- sleeping and waking ---- */

static void free_access(struct sandbox *s)
{
    free(s->router_url);
    if (s->router_jwt) {
        explicit_bzero(s->router_jwt, strlen(s->router_jwt));
    }
    free(s->router_jwt);
    s->router_url = s->router_jwt = NULL; /* good for one connection; it is asked for again */
}

static void forget_old(struct sandbox *s)
{
    s->id[0] = s->task_id[0] = '\0';
    s->over = s->terminated = false;
    free(s->token);
    s->token = NULL;
    sandbox_forget_ports(s);
}

static void wake(struct sandbox *s)
{
    s->nap = NAP_NONE;
    s->woken = s->parting = s->told = false;
    free_access(s);
    sandbox_tick(s);
    if (seek(s) < 0) {
        sandbox_fail(s, ERROR_INTERNAL, "out of memory");
    } else if (s->restore) {
        forget_old(s);
        memory_restore(s);
    } else {
        s->anew = false;
        s->base.state = CRATE_PLACING;
        s->over = false; /* it is asked again */
        sandbox_watch(s);
        sandbox_start_exec(s);
    }
}

static void on_old_terminated(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                              const struct error *err)
{
    struct sandbox *s = data;

    (void)answer;
    (void)status;
    s->rpc = NULL;
    s->over = !err || status == GRPC_NOT_FOUND || s->over;
    s->terminated = s->base.state != CRATE_CLOSING; /* or it ends with its time */
    sandbox_settle(s);
}

/* It has ended by itself, as far as is known. Its name is free for certain when this is done. */
static void terminate_old(struct sandbox *s)
{
    Modal__Client__SandboxTerminateRequest request = MODAL__CLIENT__SANDBOX_TERMINATE_REQUEST__INIT;
    const struct modal_rpc_call call = {
        .name = "SandboxTerminateV2",
        .request = &request.base,
        .answer = &modal__client__sandbox_terminate_response__descriptor,
        .timeout_ms = TERMINATE_MS / 2,
        .total_ms = TERMINATE_MS,
        .sandbox_token = s->token,
        .done = on_old_terminated,
        .data = s,
    };

    request.sandbox_id = s->id;
    s->rpc = modal_rpc_start(s->place->client, &call, NULL);
    s->terminated = true;
}

void memory_settle(struct sandbox *s)
{
    bool busy = s->rpc || s->wait || s->asking_ports || s->base.occupant || s->exec || s->router;

    if (s->nap != NAP_ASLEEP || busy) {
        return;
    }
    if (s->restore && !s->over && !s->terminated) {
        terminate_old(s);
    }
    if (s->woken && !s->rpc) {
        wake(s);
    }
}

static void tell(struct sandbox *s)
{
    const struct machine_exit exit = {
        .how = EXIT_LOST, .kept = true, .resumes = true, .unbegun = true, .message = "it sleeps"};

    s->base.link = NULL;
    if (s->base.events && !s->told) {
        s->told = true;
        s->base.events->on_worker_exit(s->base.owner, &exit);
    }
}

void memory_dropped(struct sandbox *s)
{
    if (s->nap == NAP_LEAVING || s->nap == NAP_TAKING) {
        sandbox_arm(s, 0, tell);
    }
}

/* From the loop: who has it lets go of its link here, which is closed then. */
static void fall_asleep(struct sandbox *s)
{
    tell(s);
    if (s->nap == NAP_ASLEEP) {
        uv_timer_stop(&s->again);
        if (s->wait) {
            modal_rpc_cancel(s->wait);
        }
        if (s->asking_ports) {
            modal_rpc_cancel(s->asking_ports);
        }
        sandbox_let_parts_go(s);
        memory_settle(s);
    }
}

void memory_sleep(struct sandbox *s, const char *id)
{
    if (id) {
        free(s->restore);
        s->restore = strdup(id);
    }
    s->nap = NAP_ASLEEP;
    fall_asleep(s);
}

void memory_start_worker(struct crate *crate)
{
    struct sandbox *s = (struct sandbox *)crate;

    if (s->nap == NAP_NONE) {
        crate_start_worker(crate);
        return;
    }
    crate->wanted = true;
    crate->used = crate->warm = false;
    s->woken = true;
    memory_settle(s);
}
