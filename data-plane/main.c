/* orthant-node: a data-plane process.
 *
 *   start   configuration → data directory (locked) → tenants → gate → API → HTTP front (health
 *           answers, readyz says 503) → agent: credential and table from disk, or join → ready
 *   run     the main thread waits for signals and does what a new table asks for
 *   stop    SIGTERM, SIGINT: readyz 503, a grace for balancers, requests in work end, files close
 *
 * The control plane is needed for the first join and never again: with a credential and a table on
 * disk the node starts and serves by itself. SIGHUP reads the certificate files again.
 *
 * `orthant-node verify|repair|dump` looks at what is on disk instead: inspect/. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "index/flat.h"
#include "inspect/inspect.h"
#include "node.h"
#include "tenant/snapshots.h"

static const ort_log log_node = {"node"};

#define TOKEN_FILE_BYTES_MAX 512u
#define TICK_MS 100
#define ARENAS_MIN 4

static void
on_table(void *arg, const dp_table *old_table, const dp_table *new_table)
{
    dp_node_process *node = arg;
    (void)old_table;

    dp_gate_prune(node->gate, new_table);
    atomic_store(&node->table_changed, true);
    dp_api_set_ready(node->api, true);
}

/* Removes the data of tenants that the table wants deleted. A tenant that is merely missing from
 * the table keeps its data: an old backup of the control plane must not destroy what it has not
 * heard of. */
static void
reconcile(dp_node_process *node)
{
    const dp_table *table = dp_routes_acquire(node->routes);
    uint64_t at = 0;
    const dp_tenant_entry *entry;
    bool any = false, again = false;

    while ((entry = dp_table_next_tenant(table, &at)) != NULL) {
        if (entry->state != DP_TENANT_DELETING || !dp_tenants_exists(node->tenants, entry->id)) {
            continue;
        }
        ort_diag diag = {{0}};
        const ort_err err = dp_tenants_delete(node->tenants, entry->id, &diag);
        if (err != ORT_OK) {
            again = true;
            ORT_LOG_WARN(&log_node, "tenant.delete_failed",
                         "tenant=%016" PRIx64 " err=%s detail=%s", entry->id.v, ort_err_code(err),
                         diag.text);
        } else {
            any = true;
            ORT_LOG_INFO(&log_node, "tenant.deleted", "tenant=%016" PRIx64, entry->id.v);
        }
    }
    dp_table_release(table);
    if (again) {
        atomic_store(&node->table_changed, true);
    }
    if (any) {
        dp_agent_poke(atomic_load(&node->agent));
    }
}

static dp_forward *
get_forward(void *arg)
{
    dp_node_process *node = arg;
    return atomic_load(&node->forward);
}

static ort_err
get_hub(void *arg, dp_agent_hub *out)
{
    dp_node_process *node = arg;
    dp_agent *agent = atomic_load(&node->agent);
    return agent != NULL ? dp_agent_hub_get(agent, out) : ORT_EBUSY;
}

static bool
is_plain_url(const char *url)
{
    return strncmp(url, "tls+", 4) != 0;
}

/* Forwarding needs the certificate that came with the join, so it begins once that is there. */
static void
start_forwarding(dp_node_process *node)
{
    const bool listens = node->config.forward.listen[0] != '\0';
    const bool plain = is_plain_url(node->config.forward.listen);
    ort_tls tls = {0};
    ort_diag diag = {{0}};

    if (!listens || (!plain && dp_agent_tls(atomic_load(&node->agent), &tls) != ORT_OK)) {
        return;
    }
    dp_forward *running = atomic_load(&node->forward);
    const bool renewed = running != NULL && tls.cert_pem != node->forward_cert;
    if (node->forward_server != NULL && running != NULL && !renewed) {
        return;
    }
    ort_err err = ORT_OK;
    if (renewed) {
        /* The agent keeps a renewed certificate's text at another address. What comes in while the
         * listener is made anew is asked again by the other side. */
        err = dp_forward_set_tls(running, &tls);
        if (err == ORT_OK) {
            dp_forward_server_close(node->forward_server);
            node->forward_server = NULL;
            node->forward_cert = tls.cert_pem;
        }
    }
    if (err == ORT_OK && node->forward_server == NULL) {
        const dp_forward_server_options options = {
            .url = node->config.forward.listen,
            .tls = plain ? NULL : &tls,
            .plain_ok = plain,
            .handler = dp_api_answer_forward,
            .arg = node->http,
        };
        err = dp_forward_server_open(&node->forward_server, &options, &diag);
    }
    if (err == ORT_OK && running == NULL) {
        const dp_forward_options options = {
            .tls = plain ? NULL : &tls,
            .plain_ok = plain,
            .timeout_ms = node->config.forward.timeout_ms,
        };
        dp_forward *forward = NULL;
        err = dp_forward_new(&forward, &options, &diag);
        node->forward_cert = tls.cert_pem;
        atomic_store(&node->forward, forward);
    }
    if (err != ORT_OK) {
        static uint64_t said_ms;
        const uint64_t now = ort_mono_ms();
        if (said_ms == 0 || now - said_ms > 10000) {
            said_ms = now;
            ORT_LOG_ERROR(&log_node, "forward.failed", "err=%s detail=%s", ort_err_code(err),
                          diag.text);
        }
    }
}

static ort_err
open_dirs(dp_node_process *node, ort_diag *diag)
{
    const char *dir = node->config.data_dir;

    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return ort_fail_errno(diag, ORT_EIO, "mkdir %s", dir);
    }
    node->data_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (node->data_fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", dir);
    }
    const ort_err err = ort_dir_make(node->data_fd, "node", diag);
    if (err != ORT_OK) {
        return err;
    }
    node->node_fd = ort_open_beneath(node->data_fd, "node", O_RDONLY | O_DIRECTORY, 0);
    if (node->node_fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s/node", dir);
    }
    if (fchmod(node->node_fd, 0700) != 0) {
        return ort_fail_errno(diag, ORT_EIO, "chmod %s/node", dir);
    }
    struct statvfs fs;
    node->capacity_bytes = node->config.limits.disk_bytes;
    if (node->capacity_bytes == 0 && fstatvfs(node->data_fd, &fs) == 0) {
        node->capacity_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    }
    return ORT_OK;
}

static uint32_t
build_threads(const dp_node_process *node, double cpus)
{
    if (node->config.index.build_threads != 0) {
        return node->config.index.build_threads;
    }
    return cpus >= 2 ? (uint32_t)cpus : 1;
}

/* Whether requests wait for a processor. Builds end after the gate, which holds tenants. */
static bool
requests_wait(void *arg)
{
    dp_node_process *node = arg;

    pthread_mutex_lock(&node->gate_lock);
    const bool waiting = node->gate != NULL && dp_gate_waiting(node->gate) > 0;
    pthread_mutex_unlock(&node->gate_lock);
    return waiting;
}

static ort_err
start_storage(dp_node_process *node, ort_diag *diag)
{
    ort_process_last last = {0};
    ort_process_load load;

    ort_process_load_read(&last, &load);
    const uint64_t memory = node->config.limits.memory_bytes != 0
                                ? node->config.limits.memory_bytes
                                : load.memory_limit_bytes / 10 * 8;
    ort_err err =
        ort_pool_new(&node->workers, "build", build_threads(node, load.cpu_count), 4096, diag);
    if (err != ORT_OK) {
        return err;
    }
    const dp_tenants_config tenants = {
        .collection = {.workers = node->workers,
                       .build_threads = build_threads(node, load.cpu_count),
                       .busy = requests_wait,
                       .arg = node},
        .memory_budget_bytes = memory / 10 * 7, /* the rest is for requests and the heap's slack */
        .open_max = node->config.limits.collections_open,
        .idle_close_ms = (uint64_t)node->config.limits.tenant_idle_s * 1000,
        .scrub_bytes_per_s = node->config.scrub.bytes_per_s,
        .scrub_round_ms = (uint64_t)node->config.scrub.round_hours * 3600 * 1000,
    };
    err = dp_tenants_open(&node->tenants, node->data_fd, &tenants, diag);
    if (err == ORT_OK) {
        err = dp_routes_new(&node->routes);
    }
    if (err != ORT_OK) {
        return err;
    }
    const uint32_t slots = node->config.limits.cpu_slots != 0 ? node->config.limits.cpu_slots
                           : load.cpu_count > 1               ? (uint32_t)load.cpu_count
                                                              : 1;
    const dp_gate_config gate = {
        .routes = node->routes,
        .tenants = node->tenants,
        .admission = {.slots = slots, .queue_max = node->config.limits.queue_per_tenant},
        .body_bytes_max = memory / 8,
        .body_bytes_tenant_max = memory / 32,
        .table_age_ms = dp_node__table_age_ms,
        .arg = node,
    };
    return dp_gate_new(&node->gate, &gate);
}

static ort_err
start_http(dp_node_process *node, ort_diag *diag)
{
    const ort_node_config *c = &node->config;
    const bool tls = c->http.tls_cert[0] != '\0';
    const ort_http_listener listeners[] = {
        {.address = c->http.listen, .tls = tls},
        {.address = c->http.listen_plain, .tls = false},
    };
    const dp_api_config api = {
        .gate = node->gate,
        .tenants = node->tenants,
        .metrics = node->metrics,
        .metrics_public = c->http.metrics_public,
        .forward = get_forward,
        .hub = get_hub,
        .arg = node,
    };
    ort_http_options options = {
        .name = "api",
        .listeners = listeners,
        .listener_count = c->http.listen_plain[0] != '\0' ? 2 : 1,
        .allow_plain = c->http.allow_plain,
        .tls_cert = tls ? c->http.tls_cert : NULL,
        .tls_key = tls ? c->http.tls_key : NULL,
        .threads = c->http.threads,
        .inflight_max = c->http.inflight_max,
        .keep_alive_ms = c->http.keep_alive_ms,
        .head_ms = c->http.head_ms,
        .request_ms = c->http.request_ms,
        .body_chunk_ms = c->http.body_chunk_ms,
        .body_total_ms = c->http.body_total_ms,
        .body_bytes_max = c->http.body_bytes_max,
        .cors_origins = (const char *const *)c->http.cors_origins.items,
        .cors_origin_count = c->http.cors_origins.count,
    };
    ort_err err = dp_api_new(&node->api, &api);
    if (err == ORT_OK) {
        dp_api_serve(node->api, &options);
        err = ort_http_server_new(&node->http, &options, diag);
    }
    if (err == ORT_OK) {
        err = ort_http_server_start(node->http, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    /* Where clients find us: as configured, or as bound. */
    if (c->http.endpoint[0] != '\0') {
        snprintf(node->endpoint, sizeof node->endpoint, "%s", c->http.endpoint);
    } else {
        const char *colon = strrchr(c->http.listen, ':');
        const int host = colon != NULL ? (int)(colon - c->http.listen) : 0;
        snprintf(node->endpoint, sizeof node->endpoint, "%s://%.*s:%u", tls ? "https" : "http",
                 host, c->http.listen, ort_http_server_port(node->http, 0));
    }
    return ORT_OK;
}

/* The join token of its file, without white space at its end; "" when no file is configured or it
 * is gone, as it should be once the node has joined. */
static ort_err
read_join_token(const dp_node_process *node, char out[TOKEN_FILE_BYTES_MAX], ort_diag *diag)
{
    const char *path = node->config.hub.join_token_file;
    ort_buf text = {0};

    out[0] = '\0';
    if (path[0] == '\0') {
        return ORT_OK;
    }
    const ort_err err = ort_file_read(AT_FDCWD, path, TOKEN_FILE_BYTES_MAX - 1, &text, diag);
    if (err == ORT_OK && text.len > 0) {
        size_t len = text.len;
        while (len > 0 && (text.data[len - 1] == '\n' || text.data[len - 1] == '\r' ||
                           text.data[len - 1] == ' ')) {
            len--;
        }
        memcpy(out, text.data, len);
        out[len] = '\0';
        explicit_bzero(text.data, text.len);
    }
    ort_buf_fini(&text);
    return err == ORT_ENOTFOUND ? ORT_OK : err;
}

static const char *
first_or_null(const ort_config_strings *list)
{
    return list->count > 0 ? list->items[0] : NULL;
}

static ort_err
start_agent(dp_node_process *node, ort_diag *diag)
{
    const ort_node_config *c = &node->config;
    char token[TOKEN_FILE_BYTES_MAX];
    char host[65] = "";
    dp_agent *agent = NULL;

    ort_err err = read_join_token(node, token, diag);
    if (err != ORT_OK) {
        return err;
    }
    gethostname(host, sizeof host - 1);
    const dp_agent_options options = {
        .dir_fd = node->node_fd,
        .join_url = first_or_null(&c->hub.urls),
        .join_token = token[0] != '\0' ? token : NULL,
        .control_url = c->hub.control[0] != '\0' ? c->hub.control : NULL,
        .hint_url = first_or_null(&c->hub.publish),
        .plain_ok = c->hub.urls.count > 0 && is_plain_url(c->hub.urls.items[0]),
        .name = c->name[0] != '\0' ? c->name : host,
        .region = c->region,
        .zone = c->zone,
        .endpoint = node->endpoint,
        .forward_url = c->forward.url[0] != '\0' ? c->forward.url : c->forward.listen,
        .software = DP_NODE_SOFTWARE,
        .capacity_bytes = node->capacity_bytes,
        .beat_ms = c->hub.heartbeat_ms,
        .owner = {.arg = node, .on_table = on_table, .collect = dp_node__collect_beat},
    };
    err = dp_agent_start(&agent, node->routes, &options, diag);
    explicit_bzero(token, sizeof token);
    atomic_store(&node->agent, agent);
    return err;
}

/* Growing writes stop before the disk is full: the log, the tables and the deletes that would make
 * room need some themselves. */
static void
watch_disk(dp_node_process *node)
{
    struct statvfs fs;
    if (fstatvfs(node->data_fd, &fs) == 0) {
        const uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        const bool low = free_bytes < node->config.limits.disk_reserve_bytes;
        dp_gate_set_disk_low(node->gate, low);
        dp_tenants_set_disk_low(node->tenants, low);
    }
}

static void
run(dp_node_process *node, const sigset_t *signals)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000L};
    for (unsigned ticks = 0;; ticks++) {
        if (ticks % (1000 / TICK_MS) == 0) {
            watch_disk(node);
        }
        const int sig = sigtimedwait(signals, NULL, &tick);
        if (sig == SIGTERM || sig == SIGINT) {
            ORT_LOG_INFO(&log_node, "node.stopping", "signal=%d", sig);
            return;
        }
        if (sig == SIGHUP) {
            ort_diag diag = {{0}};
            const ort_err err = ort_http_server_reload_tls(node->http, &diag);
            if (err != ORT_OK) {
                ORT_LOG_ERROR(&log_node, "tls.reload_failed", "err=%s detail=%s", ort_err_code(err),
                              diag.text);
            } else {
                ORT_LOG_INFO(&log_node, "tls.reloaded", "listen=%s", node->config.http.listen);
            }
        }
        start_forwarding(node);
        if (atomic_exchange(&node->table_changed, false)) {
            reconcile(node);
        }
    }
}

/* In the reverse order of the start. What was answered OK is on disk already; this makes the next
 * start quick. */
static void
stop(dp_node_process *node)
{
    if (node->http != NULL) {
        const ort_err err = ort_http_server_drain(node->http, node->config.http.drain_grace_ms,
                                                  node->config.http.drain_wait_ms);
        if (err != ORT_OK) {
            ORT_LOG_WARN(&log_node, "drain.incomplete", "err=%s", ort_err_code(err));
        }
    }
    dp_node__census_stop(node);
    dp_forward_server_close(node->forward_server);
    dp_agent *agent = atomic_exchange(&node->agent, NULL);
    if (agent != NULL) {
        dp_agent_stop(agent);
    }
    ort_http_server_free(node->http);
    dp_forward_free(atomic_load(&node->forward));
    dp_api_free(node->api);
    pthread_mutex_lock(&node->gate_lock);
    dp_gate *gate = node->gate;
    node->gate = NULL;
    pthread_mutex_unlock(&node->gate_lock);
    dp_gate_free(gate);
    if (node->routes != NULL) {
        dp_routes_free(node->routes);
    }
    if (node->tenants != NULL) {
        dp_tenants_close(node->tenants);
    }
    if (node->workers != NULL) {
        ort_pool_free(node->workers);
    }
    ort_metrics_free(node->metrics);
    ort_fd_close(node->node_fd);
    ort_fd_close(node->data_fd);
}

static ort_err
start(dp_node_process *node, ort_diag *diag)
{
    ort_err err = open_dirs(node, diag);
    if (err == ORT_OK) {
        err = ort_metrics_new(&node->metrics);
    }
    if (err == ORT_OK) {
        err = start_storage(node, diag);
    }
    if (err == ORT_OK) {
        err = dp_node__observe_init(node);
    }
    if (err == ORT_OK) {
        err = start_http(node, diag);
    }
    if (err == ORT_OK) {
        err = start_agent(node, diag);
    }
    return err == ORT_OK ? dp_node__census_start(node, diag) : err;
}

/* glibc would give threads eight arenas a processor, and a node has a thread a connection: what
 * thousands of collections were made of, opened by one thread and closed by another, is left in
 * pieces in all of them. Two a processor are as quick, and kept 22 MB where sixteen kept 31 after
 * 54,500 collections were opened and closed (docs/architecture/many-tenants.md). */
static void
few_arenas(void)
{
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    (void)mallopt(M_ARENA_MAX, cpus > ARENAS_MIN / 2 ? 2 * (int)cpus : ARENAS_MIN);
}

int
main(int argc, char **argv)
{
    static dp_node_process node = {
        .data_fd = -1, .node_fd = -1, .gate_lock = PTHREAD_MUTEX_INITIALIZER};
    ort_config_outcome outcome;
    ort_diag diag = {{0}};
    sigset_t signals;

    if (argc > 1 && dp_inspect_is_command(argv[1])) {
        return dp_inspect_main(argc, argv, stdout);
    }
    dp_flat_blas_prepare(argv); /* may begin this program anew */
    ort_err err = ort_config_load(&ort_node_config_schema, argc, (const char *const *)argv, NULL,
                                  &node.config, &outcome, stdout, &diag);
    if (err != ORT_OK) {
        fprintf(stderr, "orthant-node: %s\n", diag.text);
        ort_config_fini(&ort_node_config_schema, &node.config);
        return 2;
    }
    if (outcome == ORT_CONFIG_SHOWN) {
        ort_config_fini(&ort_node_config_schema, &node.config);
        return 0;
    }
    ort_log_set_level((ort_log_level)node.config.log_level);
    few_arenas();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before the first thread, for all of them */

    err = start(&node, &diag);
    if (err != ORT_OK) {
        ORT_LOG_ERROR(&log_node, "node.start_failed", "err=%s detail=%s", ort_err_code(err),
                      diag.text);
        fprintf(stderr, "orthant-node: %s: %s\n", ort_err_code(err), diag.text);
    } else {
        ORT_LOG_INFO(&log_node, "node.started", "endpoint=%s region=%s data_dir=%s", node.endpoint,
                     node.config.region, node.config.data_dir);
        run(&node, &signals);
    }
    stop(&node);
    ort_config_fini(&ort_node_config_schema, &node.config);
    ORT_LOG_INFO(&log_node, "node.stopped", "err=%s", ort_err_code(err));
    return err == ORT_OK ? 0 : 1;
}
