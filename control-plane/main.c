/* control-plane/main.c: orthant-control: puts the parts of the control plane together, in an order
 * in which each finds what it needs, and takes them apart in the reverse one.
 *
 *   secrets, store ─► fleet (knows the nodes) ─► tenancy (asks it who is alive)
 *                  ─► push ─► feed (compiles every table) ─► fleet listens ─► API listens
 *
 * Nodes are let in only once every table is compiled: one that came earlier would be told that it
 * has nothing. The main thread then waits for signals and, once an hour, clears away. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "config/control_config.h"
#include "crypto/secret.h"
#include "fleet/fleet.h"
#include "routing/feed.h"
#include "store/hub.h"
#include "store/idempotency.h"
#include "store/keys.h"
#include "store/nodes.h"
#include "store/usage.h"
#include "tenancy/admin.h"

#ifndef ORT_VERSION
#define ORT_VERSION "0"
#endif

#define DATABASE "hub.db"
#define SWEEP_S 3600
/* Revoked and expired keys, and used join tokens, are shown for this long; the audit has them for
 * ever. */
#define FORGET_MS (30ll * 86400000ll)

static const ort_log log_ = {"control"};

typedef struct {
    ort_control_config config;
    int dir_fd;
    cp_secrets secrets;
    bool has_secrets;
    cp_store *store;
    cp_hub hub;
    cp_fleet *fleet;
    cp_tenancy *tenancy;
    cp_push *push;
    cp_feed *feed;
    ort_metrics *metrics;
    cp_api *api;
    bool serving;
    char control_url[ORT_MSG_URL_BYTES];
    char announce_control[ORT_MSG_URL_BYTES];
    char announce_hint[ORT_MSG_URL_BYTES];
} control;

/* ---- starting ---- */

static ort_err
open_data_dir(control *c, ort_diag *diag)
{
    const char *path = c->config.data_dir;

    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return ort_fail_errno(diag, ORT_EIO, "make %s", path);
    }
    c->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->dir_fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", path);
    }
    return ORT_OK;
}

/* Secrets are made only for a hub that has no database yet: to make new ones for one that has would
 * lock out every key and node it knows. */
static ort_err
open_store(control *c, ort_diag *diag)
{
    char path[4200];
    cp_tx *tx = NULL;
    bool is_new = faccessat(c->dir_fd, DATABASE, F_OK, 0) != 0;

    snprintf(path, sizeof path, "%s/%s", c->config.data_dir, DATABASE);
    ort_err err = cp_secrets_open(&c->secrets, c->dir_fd, is_new, "orthant", diag);
    c->has_secrets = err == ORT_OK;
    if (err == ORT_OK) {
        cp_store_options options = {.path = path};
        err = cp_store_open(&c->store, &options, diag);
    }
    if (err == ORT_OK) {
        err = cp_store_begin_read(c->store, &tx, diag);
    }
    if (err == ORT_OK) {
        err = cp_hub_get(tx, &c->hub, diag);
    }
    cp_tx_end(tx);
    return err;
}

static ort_err
write_token_file(const char *path, const char *token, ort_diag *diag)
{
    ort_err err = ORT_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", path);
    }
    /* A file that was there keeps its mode otherwise. */
    if (fchmod(fd, 0600) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "chmod %s", path);
    }
    if (err == ORT_OK) {
        err = ort_write_full(fd, token, strlen(token), diag);
    }
    if (err == ORT_OK) {
        err = ort_write_full(fd, "\n", 1, diag);
    }
    if (err == ORT_OK && fsync(fd) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "fsync %s", path);
    }
    ort_fd_close(fd);
    return err;
}

/* The file first, then standard output: who reads the token there may look for the file at once. */
static ort_err
show_token(control *c, const char *what, const char *token, ort_diag *diag)
{
    ort_diag file_diag = {0};
    const char *path = c->config.admin.bootstrap_token_file;
    if (path[0] != '\0' && write_token_file(path, token, &file_diag) != ORT_OK) {
        /* It is on standard output still; failing now would lose it. */
        ORT_LOG_ERROR(&log_, "bootstrap.file_failed", "detail=%s", file_diag.text);
    }
    printf("%s, shown only now:\n%s\n", what, token);
    return fflush(stdout) == 0 ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "print the operator token");
}

/* Who lost every operator token puts this file into the data directory and starts again. */
#define RECOVER "make-operator-token"

static ort_err
bootstrap(control *c, ort_diag *diag)
{
    char token[ORT_TOKEN_TEXT_BYTES] = "";
    ort_err err = cp_admin_bootstrap(c->tenancy, token, diag);

    if (err == ORT_OK && token[0] != '\0') {
        err = show_token(c, "This hub's first operator token", token, diag);
    } else if (err == ORT_OK && faccessat(c->dir_fd, RECOVER, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        /* Removed first: a start that fails later must not make one token after another. */
        if (unlinkat(c->dir_fd, RECOVER, 0) != 0) {
            err = ort_fail_errno(diag, ORT_EIO, "remove " RECOVER);
        }
        if (err == ORT_OK) {
            err = cp_admin_recover(c->tenancy, token, diag);
        }
        if (err == ORT_OK) {
            ORT_LOG_WARN(&log_, "operator-token.recovered", "file=" RECOVER);
            err = show_token(c, "A new operator token", token, diag);
        }
    }
    ort_secret_wipe(token, sizeof token);
    return err;
}

static ort_err
start_rules(control *c, ort_diag *diag)
{
    cp_fleet_options fleet = {.store = c->store,
                              .suspect_ms = c->config.hub.suspect_ms,
                              .dead_ms = c->config.hub.dead_ms};
    ort_err err = cp_fleet_new(&c->fleet, &fleet, diag);

    if (err == ORT_OK) {
        cp_tenancy_options tenancy = {.store = c->store,
                                      .secrets = &c->secrets,
                                      .node_is_healthy = cp_fleet_is_healthy,
                                      .ctx = c->fleet};
        err = cp_tenancy_new(&c->tenancy, &tenancy, diag);
    }
    if (err == ORT_OK) {
        err = bootstrap(c, diag);
    }
    return err;
}

static ort_err
start_push(control *c, ort_diag *diag)
{
    cp_push_options push = {.hub_id = c->hub.hub_id,
                            .generation = c->hub.generation,
                            .key = &c->secrets.signing,
                            .hint = cp_fleet_hint,
                            .arg = c->fleet};
    ort_err err = cp_push_new(&c->push, &push);

    if (err == ORT_OK) {
        cp_feed_options feed = {.store = c->store, .push = c->push};
        err = cp_feed_start(&c->feed, &feed, diag);
    }
    if (err == ORT_OK) {
        cp_store_on_change(c->store, cp_feed_changed, c->feed);
    }
    return err;
}

/* "tls+tcp://host:7400" → "tls+tcp://host:7402"; URLs without a port get ".control". */
static ort_err
derive_control_url(const char *join, char out[ORT_MSG_URL_BYTES], ort_diag *diag)
{
    const char *colon = strrchr(join, ':');
    char *end = NULL;
    long port = colon != NULL ? strtol(colon + 1, &end, 10) : 0;
    int n = 0;

    if (colon != NULL && end != colon + 1 && *end == '\0' && strstr(join, "tcp://") != NULL) {
        if (port < 0 || port > 65533) {
            return ort_fail(diag, ORT_EINVAL, "hub.listen: port %ld leaves none for hub.control",
                            port);
        }
        n = snprintf(out, ORT_MSG_URL_BYTES, "%.*s:%ld", (int)(colon - join), join,
                     port == 0 ? 0 : port + 2);
    } else {
        n = snprintf(out, ORT_MSG_URL_BYTES, "%s.control", join);
    }
    return n > 0 && n < ORT_MSG_URL_BYTES ? ORT_OK
                                          : ort_fail(diag, ORT_EINVAL, "hub.listen is too long");
}

/* Nodes cannot dial "every address": they are told a name instead. */
static void
announce(const control *c, const char *url, char out[ORT_MSG_URL_BYTES])
{
    const char *everywhere = strstr(url, "://0.0.0.0:");

    out[0] = '\0';
    if (everywhere != NULL && c->config.hub.names.count > 0) {
        snprintf(out, ORT_MSG_URL_BYTES, "%.*s://%s:%s", (int)(everywhere - url), url,
                 c->config.hub.names.items[0], everywhere + strlen("://0.0.0.0:"));
    }
}

static ort_err
listen_to_nodes(control *c, ort_diag *diag)
{
    ort_err err = ORT_OK;

    if (c->config.hub.control[0] != '\0') {
        snprintf(c->control_url, sizeof c->control_url, "%s", c->config.hub.control);
    } else {
        err = derive_control_url(c->config.hub.listen, c->control_url, diag);
    }
    announce(c, c->control_url, c->announce_control);
    announce(c, c->config.hub.publish, c->announce_hint);
    if (err == ORT_OK) {
        cp_fleet_listen_options listen = {.tenancy = c->tenancy,
                                          .push = c->push,
                                          .secrets = &c->secrets,
                                          .hub_id = c->hub.hub_id,
                                          .join_url = c->config.hub.listen,
                                          .control_url = c->control_url,
                                          .hint_url = c->config.hub.publish,
                                          .announce_control_url = c->announce_control,
                                          .announce_hint_url = c->announce_hint,
                                          .plain_ok = c->config.hub.allow_plain};
        err = cp_fleet_listen(c->fleet, &listen, diag);
    }
    return err;
}

static ort_err
serve(control *c, ort_diag *diag)
{
    const ort_control_config *config = &c->config;
    ort_http_listener listener = {.address = config->admin.listen,
                                  .tls = config->admin.tls_cert[0] != '\0'};
    cp_api_options api = {
        .store = c->store,
        .tenancy = c->tenancy,
        .push = c->push,
        .feed = c->feed,
        .fleet = c->fleet,
        .metrics = c->metrics,
        .software = ORT_VERSION,
        .http = {.listeners = &listener,
                 .listener_count = 1,
                 .allow_plain = config->admin.allow_plain,
                 .tls_cert = listener.tls ? config->admin.tls_cert : NULL,
                 .tls_key = listener.tls ? config->admin.tls_key : NULL,
                 .threads = config->admin.threads,
                 .inflight_max = config->admin.inflight_max,
                 .request_ms = config->admin.request_ms,
                 .cors_origins = (const char *const *)config->admin.cors_origins.items,
                 .cors_origin_count = config->admin.cors_origins.count}};
    ort_err err = cp_api_new(&c->api, &api, diag);

    if (err == ORT_OK) {
        err = ort_http_server_start(cp_api_peek_server(c->api), diag);
        c->serving = err == ORT_OK;
    }
    return err;
}

static ort_err
start(control *c, ort_diag *diag)
{
    ort_err err = open_data_dir(c, diag);

    if (err == ORT_OK) {
        err = open_store(c, diag);
    }
    if (err == ORT_OK) {
        err = ort_metrics_new(&c->metrics);
    }
    if (err == ORT_OK) {
        err = ort_metrics_process(c->metrics);
    }
    if (err == ORT_OK) {
        err = start_rules(c, diag);
    }
    if (err == ORT_OK) {
        err = start_push(c, diag);
    }
    if (err == ORT_OK) {
        err = listen_to_nodes(c, diag);
    }
    if (err == ORT_OK) {
        err = serve(c, diag);
    }
    return err;
}

/* ---- running ---- */

/* What nobody reads any more. Notes and changes are apart: only the latter are in the op log. */
static void
sweep(control *c)
{
    ort_diag diag = {0};
    int64_t now = ort_wall_ms();
    int64_t rollups_ms = (int64_t)c->config.usage.rollup_days * 86400000;
    cp_change change = {.op = "hub.sweep"};
    uint64_t n = 0;
    cp_tx *tx = NULL;
    ort_err err = cp_store_begin_note(c->store, &tx, &diag);

    if (err == ORT_OK) {
        err = cp_idempotency_sweep(tx, now, &n, &diag);
    }
    if (err == ORT_OK) {
        err = cp_usage_sweep(tx, now - rollups_ms, &n, &diag);
    }
    if (err == ORT_OK) {
        err = cp_tx_commit(tx, NULL, NULL, &diag);
        tx = NULL;
    }
    cp_tx_end(tx);
    tx = NULL;
    if (err == ORT_OK) {
        err = cp_store_begin(c->store, &cp_author_system, &tx, &diag);
    }
    if (err == ORT_OK) {
        err = cp_key_sweep(tx, now - FORGET_MS, &n, &diag);
    }
    if (err == ORT_OK) {
        err = cp_join_token_expire(tx, now - FORGET_MS, &n, &diag);
    }
    if (err == ORT_OK) {
        err = cp_tx_commit(tx, &change, NULL, &diag);
        tx = NULL;
    }
    cp_tx_end(tx);
    if (err != ORT_OK) {
        ORT_LOG_WARN(&log_, "sweep.failed", "err=%s detail=%s", ort_err_code(err), diag.text);
    }
}

static void
reload(control *c)
{
    ort_diag diag = {0};

    if (c->config.admin.tls_cert[0] == '\0') {
        ORT_LOG_INFO(&log_, "reload", "tls=off");
        return;
    }
    if (ort_http_server_reload_tls(cp_api_peek_server(c->api), &diag) == ORT_OK) {
        ORT_LOG_INFO(&log_, "reload", "cert=%s", c->config.admin.tls_cert);
    } else {
        ORT_LOG_ERROR(&log_, "reload.failed", "detail=%s", diag.text);
    }
}

static void
wait_for_stop(control *c, const sigset_t *signals)
{
    const struct timespec hour = {.tv_sec = SWEEP_S};

    for (;;) {
        int got = sigtimedwait(signals, NULL, &hour);
        if (got == SIGHUP) {
            reload(c);
        } else if (got == SIGTERM || got == SIGINT) {
            ORT_LOG_INFO(&log_, "stopping", "signal=%d", got);
            return;
        } else if (got < 0 && errno == EAGAIN) {
            sweep(c);
        }
    }
}

/* ---- stopping ---- */

static void
stop(control *c)
{
    if (c->serving) {
        /* Revocations that wait for nodes answer now with what they have. */
        cp_push_stop_waits(c->push);
        if (ort_http_server_drain(cp_api_peek_server(c->api), c->config.admin.drain_grace_ms,
                                  c->config.admin.drain_wait_ms) != ORT_OK) {
            ORT_LOG_WARN(&log_, "drain.timeout", "wait_ms=%u", c->config.admin.drain_wait_ms);
        }
        ort_http_server_stop(cp_api_peek_server(c->api));
    }
    if (c->fleet != NULL) {
        cp_fleet_stop(c->fleet);
    }
    if (c->store != NULL) {
        cp_store_on_change(c->store, NULL, NULL);
    }
    cp_feed_stop(c->feed);
    cp_api_free(c->api);
    ort_metrics_free(c->metrics);
    cp_push_free(c->push);
    cp_tenancy_free(c->tenancy);
    cp_fleet_free(c->fleet);
    cp_store_close(c->store);
    if (c->has_secrets) {
        cp_secrets_fini(&c->secrets);
    }
    ort_fd_close(c->dir_fd);
}

static void
log_started(control *c)
{
    ORT_LOG_INFO(&log_, "started",
                 "software=%s hub=%016" PRIx64 " generation=%" PRIu64 " version=%" PRIu64
                 " admin_port=%u join=%s control=%s hints=%s",
                 ORT_VERSION, c->hub.hub_id, c->hub.generation, cp_push_version(c->push),
                 ort_http_server_port(cp_api_peek_server(c->api), 0),
                 cp_fleet_peek_join_url(c->fleet), cp_fleet_peek_control_url(c->fleet),
                 cp_fleet_peek_hint_url(c->fleet));
}

int
main(int argc, char **argv)
{
    control c = {.dir_fd = -1};
    ort_config_outcome outcome = ORT_CONFIG_RUN;
    ort_diag diag = {0};
    sigset_t signals;

    umask(077);
    ort_err err = ort_config_load(&ort_control_config_schema, argc, (const char *const *)argv, NULL,
                                  &c.config, &outcome, stdout, &diag);
    if (err != ORT_OK) {
        fprintf(stderr, "orthant-control: %s\n", diag.text);
        ort_config_fini(&ort_control_config_schema, &c.config);
        return 2;
    }
    if (outcome == ORT_CONFIG_SHOWN) {
        ort_config_fini(&ort_control_config_schema, &c.config);
        return 0;
    }
    ort_log_set_level((ort_log_level)c.config.log_level);

    /* Before the first thread, so that all of them leave signals to this one. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    err = start(&c, &diag);
    if (err == ORT_OK) {
        log_started(&c);
        wait_for_stop(&c, &signals);
    } else {
        ORT_LOG_ERROR(&log_, "start.failed", "err=%s detail=%s", ort_err_code(err), diag.text);
        fprintf(stderr, "orthant-control: %s\n", diag.text);
    }
    stop(&c);
    if (err == ORT_OK) {
        ORT_LOG_INFO(&log_, "stopped", "version=%s", ORT_VERSION);
    }
    ort_config_fini(&ort_control_config_schema, &c.config);
    return err == ORT_OK ? 0 : 1;
}
