/* tests/bench/bench_fleet.c: what one change costs a hub of many nodes and tenants, through all of
 * the control plane: admin API, store, op log, tables. (bench_push is the push alone.)
 *
 *   tests/bench/run fleet [--nodes 1000] [--tenants 100000] [--rounds 100]
 *
 * A database is filled, then the real orthant-control is started on it. The fleet is simulated in
 * this process over ipc (no TLS): each node has its own sockets and thread, listens for hints,
 * fetches, verifies the signature, applies the difference to a real table, and acknowledges; tables
 * share what is equal, or 1,000 directories of 100,000 tenants would not fit a machine. The nodes'
 * work is on the same CPUs as the control plane's, so times are upper bounds; CPU and bytes are the
 * control process's own (/proc, /metrics). */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "routing/compile.h"
#include "store/keys.h"
#include "store/placements.h"
#include "store/regions.h"
#include "store/tenants.h"
#include "support/process.h"
#include "support/rest.h"
#include "tenancy/admin.h"
#include "wire/endpoint.h"

#define BATCH 2000u
#define CALL_MS 30000u
#define REACH_MS 60000u

typedef struct {
    ort_node_id id;
    ort_sign_key key;
    uint64_t sequence;
    ort_req *req;
    ort_sub *sub;
    ort_table *table;
    ort_table_at at;
    pthread_t thread;
    _Atomic uint64_t version;    /* at.version, for who watches */
    _Atomic uint64_t applied_ns; /* when it got there */
} node;

typedef struct {
    ort_tenant_id id;
    size_t home; /* index of its node */
    char key[ORT_TOKEN_ID_TEXT_BYTES];
} tenant;

static struct {
    size_t node_count, tenant_count, rounds;
    char dir[256];
    char data[300];
    char token[ORT_TOKEN_TEXT_BYTES];
    char url[128];
    char control_url[300];
    char hint_url[300];
    node *nodes;
    tenant *tenants;
    uint64_t hub_id;
    ort_sign_public control_key;
    pid_t pid;
    atomic_bool stop;
    atomic_ulong failures;
} b;

static void
die(const char *what, ort_err err, const ort_diag *diag)
{
    fprintf(stderr, "bench_fleet: %s: %s %s\n", what, ort_err_code(err),
            diag != NULL ? diag->text : "");
    if (b.pid > 0) {
        kill(b.pid, SIGKILL);
    }
    exit(1);
}

static void
must(ort_err err, const char *what, const ort_diag *diag)
{
    if (err != ORT_OK) {
        die(what, err, diag);
    }
}

/* ---- filling the database ---- */

static void
put_nodes(cp_store *store)
{
    ort_diag diag = {0};
    cp_tx *tx = NULL;
    cp_region region = {.name = "eu"};
    cp_change change = {.op = "bench.nodes"};

    must(cp_store_begin(store, &cp_author_system, &tx, &diag), "begin", &diag);
    must(cp_region_put(tx, &region, &diag), "region", &diag);
    for (size_t i = 0; i < b.node_count; i++) {
        node *n = &b.nodes[i];
        n->id.v = ort_id_random();
        ort_sign_key_new(&n->key);
        cp_node row = {.id = n->id,
                       .region = "eu",
                       .zone = "a",
                       .endpoint = "http://127.0.0.1:1",
                       .forward = "tls+tcp://127.0.0.1:2",
                       .software = "bench",
                       .capacity_bytes = 1u << 30,
                       .weight = 100,
                       .state = CP_NODE_READY,
                       .key = n->key.public,
                       .joined_at_ms = ort_wall_ms()};
        snprintf(row.name, sizeof row.name, "node-%zu", i);
        must(cp_node_put(tx, &row, &diag), "node", &diag);
    }
    must(cp_tx_commit(tx, &change, NULL, &diag), "commit", &diag);
    must(cp_store_begin_note(store, &tx, &diag), "begin", &diag);
    for (size_t i = 0; i < b.node_count; i++) {
        cp_node_seen seen = {.node = b.nodes[i].id, .incarnation = 1, .seen_at_ms = ort_wall_ms()};
        must(cp_node_seen_put(tx, &seen, &diag), "seen", &diag);
    }
    must(cp_tx_commit(tx, NULL, NULL, &diag), "commit", &diag);
}

static void
put_tenant(cp_tx *tx, size_t i, ort_diag *diag)
{
    tenant *t = &b.tenants[i];
    cp_home home;
    cp_tenant row = {.plan = "default"};
    cp_key key = {.scopes = CP_SCOPES_ALL, .max_requests_per_minute = CP_UNLIMITED};
    ort_token token;

    t->id.v = ort_id_random();
    t->home = i % b.node_count;
    row.id = t->id;
    row.created_at_ms = row.updated_at_ms = key.created_at_ms = ort_wall_ms();
    snprintf(row.name, sizeof row.name, "tenant-%zu", i);
    must(cp_tenant_put(tx, &row, diag), "tenant", diag);
    must(cp_home_set(tx, t->id, b.nodes[t->home].id, 0, &home, diag), "home", diag);
    ort_token_make(&token, ORT_TOKEN_LIVE, t->id, NULL);
    ort_key_id_format(token.id, t->key);
    memcpy(key.id, t->key, sizeof key.id);
    key.tenant = t->id;
    ort_secret_random(key.hash.b, sizeof key.hash.b);
    must(cp_key_put(tx, &key, diag), "key", diag);
}

static void
put_tenants(cp_store *store)
{
    cp_change change = {.op = "bench.tenants"};

    for (size_t i = 0; i < b.tenant_count;) {
        ort_diag diag = {0};
        cp_tx *tx = NULL;
        must(cp_store_begin(store, &cp_author_system, &tx, &diag), "begin", &diag);
        for (size_t end = i + BATCH; i < end && i < b.tenant_count; i++) {
            put_tenant(tx, i, &diag);
        }
        must(cp_tx_commit(tx, &change, NULL, &diag), "commit", &diag);
    }
}

/* Gives every node the table the control plane is going to compile, sharing what is equal. */
static void
make_tables(cp_store *store)
{
    ort_diag diag = {0};
    cp_tx *tx = NULL;
    ort_section_edit *directory = NULL;
    ort_section_edit *nodes = NULL;
    ort_section_edit **own = calloc(b.node_count, sizeof(ort_section_edit *));

    must(cp_store_begin_read(store, &tx, &diag), "begin", &diag);
    must(ort_section_edit_begin(&directory, ORT_TABLE_DIRECTORY, NULL, NULL), "edit", NULL);
    must(ort_section_edit_begin(&nodes, ORT_TABLE_NODES, NULL, NULL), "edit", NULL);
    for (size_t i = 0; i < b.node_count; i++) {
        cp_node row;
        ort_buf text = {0};
        must(ort_section_edit_begin(&own[i], ORT_TABLE_TENANTS, NULL, NULL), "edit", NULL);
        must(cp_node_get(tx, b.nodes[i].id, &row, &diag), "node", &diag);
        cp_compile_node(&row, &text);
        must(ort_section_edit_put(nodes, row.id.v, text.data, text.len, &diag), "put", &diag);
        ort_buf_fini(&text);
    }
    for (size_t i = 0; i < b.tenant_count; i++) {
        cp_compiled c = {0};
        tenant *t = &b.tenants[i];
        must(cp_compile_tenant(tx, t->id, &c, &diag), "compile", &diag);
        must(ort_section_edit_put(own[t->home], t->id.v, c.entry.data, c.entry.len, &diag), "put",
             &diag);
        must(ort_section_edit_put(directory, t->id.v, c.directory.data, c.directory.len, &diag),
             "put", &diag);
        cp_compiled_fini(&c);
    }
    ort_section *all_tenants = ort_section_edit_done(directory);
    ort_section *all_nodes = ort_section_edit_done(nodes);
    for (size_t i = 0; i < b.node_count; i++) {
        ort_section *mine = ort_section_edit_done(own[i]);
        node *n = &b.nodes[i];
        must(ort_table_new(&n->table, mine, all_tenants, all_nodes), "table", NULL);
        n->at.generation = 1;
        n->at.version = cp_tx_version(tx);
        ort_table_hash(n->table, &n->at.hash);
        atomic_store(&n->version, n->at.version);
        ort_section_unref(mine);
    }
    ort_section_unref(all_tenants);
    ort_section_unref(all_nodes);
    free(own);
    cp_tx_end(tx);
}

static void
fill(void)
{
    ort_diag diag = {0};
    cp_secrets secrets;
    cp_store *store = NULL;
    cp_tenancy *tenancy = NULL;
    char path[400];
    uint64_t begin = ort_mono_ms();

    snprintf(b.data, sizeof b.data, "%s/control", b.dir);
    mkdir(b.data, 0700);
    int fd = open(b.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(cp_secrets_open(&secrets, fd, true, "bench", &diag), "secrets", &diag);
    b.control_key = secrets.signing.public;
    snprintf(path, sizeof path, "%s/hub.db", b.data);
    cp_store_options options = {.path = path};
    must(cp_store_open(&store, &options, &diag), "store", &diag);
    cp_tenancy_options rules = {.store = store, .secrets = &secrets};
    must(cp_tenancy_new(&tenancy, &rules, &diag), "tenancy", &diag);
    must(cp_admin_bootstrap(tenancy, b.token, &diag), "bootstrap", &diag);
    put_nodes(store);
    put_tenants(store);
    make_tables(store);
    cp_tenancy_free(tenancy);
    cp_store_close(store);
    cp_secrets_fini(&secrets);
    close(fd);
    printf("filled: %zu nodes, %zu tenants, %zu keys in %.1f s\n", b.node_count, b.tenant_count,
           b.tenant_count, (double)(ort_mono_ms() - begin) / 1000.0);
}

/* ---- the control plane ---- */

static double
cpu_s(void)
{
    char path[64];
    char text[1024] = "";
    unsigned long user = 0;
    unsigned long sys = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)b.pid);
    FILE *f = fopen(path, "r");
    if (f != NULL) {
        (void)!fgets(text, sizeof text, f);
        fclose(f);
    }
    const char *at = strrchr(text, ')');
    if (at != NULL) {
        (void)sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
    }
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double
rss_mib(void)
{
    char path[64];
    char line[256];
    double kib = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)b.pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        (void)sscanf(line, "VmRSS: %lf", &kib);
    }
    if (f != NULL) {
        fclose(f);
    }
    return kib / 1024.0;
}

static rest_reply
call(const char *method, const char *path, const char *body, int status)
{
    char url[512];
    char field[200];
    const char *headers[] = {field, "If-Match: *", NULL};

    snprintf(url, sizeof url, "%s%s", b.url, path);
    snprintf(field, sizeof field, "Authorization: Bearer %s", b.token);
    rest_reply reply = rest_call(method, url, headers, body);
    if (reply.status != status) {
        fprintf(stderr, "%s %s: %d %s\n", method, path, reply.status, reply.body);
        die("the admin API", ORT_EIO, NULL);
    }
    return reply;
}

static double
metric(const char *name)
{
    rest_reply reply = call("GET", "/metrics", NULL, 200);
    char want[128];
    double value = 0;

    snprintf(want, sizeof want, "\n%s ", name);
    const char *at = strstr(reply.body, want);
    if (at != NULL) {
        value = strtod(at + strlen(want), NULL);
    }
    rest_reply_free(&reply);
    return value;
}

static uint64_t
json_u64(const char *body, const char *name)
{
    json_t *json = json_loads(body, 0, NULL);
    uint64_t v = (uint64_t)json_integer_value(json_object_get(json, name));

    json_decref(json);
    return v;
}

static uint64_t
hub_version(void)
{
    rest_reply reply = call("GET", "/v1/hub", NULL, 200);
    uint64_t version = json_u64(reply.body, "version");

    rest_reply_free(&reply);
    return version;
}

static void
start_control(void)
{
    char data[400], join[400], control_url[400], hints[400], out[400], err[400], line[4096];
    const char *args[] = {data,
                          "--admin.listen=127.0.0.1:0",
                          "--hub.allow_plain=true",
                          "--log.level=info",
                          "--admin.drain_grace_ms=0",
                          join,
                          control_url,
                          hints,
                          NULL};
    uint64_t begin = ort_mono_ms();

    snprintf(b.control_url, sizeof b.control_url, "ipc://%s/control.sock", b.dir);
    snprintf(b.hint_url, sizeof b.hint_url, "ipc://%s/hints.sock", b.dir);
    snprintf(data, sizeof data, "--data_dir=%s", b.data);
    snprintf(join, sizeof join, "--hub.listen=ipc://%s/join.sock", b.dir);
    snprintf(control_url, sizeof control_url, "--hub.control=%s", b.control_url);
    snprintf(hints, sizeof hints, "--hub.publish=%s", b.hint_url);
    snprintf(out, sizeof out, "%s/control.out", b.dir);
    snprintf(err, sizeof err, "%s/control.err", b.dir);
    b.pid = process_start("orthant-control", args, out, err);
    if (!process_wait_line(b.pid, err, "\"started\"", 120000, line, sizeof line)) {
        die("orthant-control did not start; see its log in", ORT_EIO, NULL);
    }
    json_t *started = json_loads(line, 0, NULL);
    snprintf(b.url, sizeof b.url, "http://127.0.0.1:%s",
             json_string_value(json_object_get(started, "admin_port")));
    json_decref(started);
    rest_reply hub = call("GET", "/v1/hub", NULL, 200);
    json_t *json = json_loads(hub.body, 0, NULL);
    const char *id = json_string_value(json_object_get(json, "id"));
    must(ort_id_parse(id, strlen(id), &b.hub_id), "hub id", NULL);
    json_decref(json);
    rest_reply_free(&hub);
    printf("control plane: up in %.1f s with every table compiled, %.1f s CPU, %.0f MiB\n",
           (double)(ort_mono_ms() - begin) / 1000.0, cpu_s(), rss_mib());
}

/* ---- the fleet ---- */

static bool
ask(node *n, ort_msg_type type, const ort_buf *body, ort_buf *reply, ort_frame *frame)
{
    ort_frame head = {.type = type,
                      .is_signed = true,
                      .node = n->id,
                      .incarnation = 1,
                      .sequence = ++n->sequence,
                      .body = body->data,
                      .body_len = body->len};
    ort_buf request = {0};
    ort_diag diag = {0};

    must(ort_frame_write(&head, &n->key, &request), "frame", NULL);
    ort_err err = ort_req_call(n->req, request.data, request.len, CALL_MS, reply, &diag);
    ort_buf_fini(&request);
    if (err != ORT_OK || ort_frame_read(reply->data, reply->len, frame, &diag) != ORT_OK ||
        frame->type == ORT_MSG_ERROR) {
        atomic_fetch_add(&b.failures, 1);
        return false;
    }
    return true;
}

static void
apply(node *n, const void *envelope, size_t len)
{
    ort_table_head head;
    ort_table *next = NULL;
    ort_buf text = {0};
    ort_hash hash;
    ort_diag diag = {0};

    must(ort_envelope_open(envelope, len, &b.control_key, &head, &diag), "envelope", &diag);
    if (head.node.v != n->id.v || (head.base != 0 && head.base != n->at.version)) {
        die("a table for another node, or of another base", ORT_EINVAL, NULL);
    }
    must(ort_envelope_body(envelope, len, &text, &diag), "body", &diag);
    must(ort_table_apply(&next, head.base != 0 ? n->table : NULL, text.data, text.len, NULL, &diag),
         "apply", &diag);
    ort_table_hash(next, &hash);
    if (!ort_hash_equal(&hash, &head.at.hash)) {
        die("a table that is not what it says", ORT_ECORRUPT, NULL);
    }
    ort_table_unref(n->table);
    n->table = next;
    n->at = head.at;
    atomic_store(&n->applied_ns, ort_mono_ns());
    atomic_store(&n->version, n->at.version);
    ort_buf_fini(&text);
}

static bool
fetch(node *n)
{
    ort_fetch m = {.applied = n->at};
    ort_buf body = {0};
    ort_buf reply = {0};
    ort_frame frame;
    const void *envelope = NULL;
    size_t len = 0;
    bool some = false;

    must(ort_fetch_encode(&m, &body), "fetch", NULL);
    if (ask(n, ORT_MSG_FETCH, &body, &reply, &frame)) {
        ort_cursor at = ort_cursor_of(frame.body, frame.body_len);
        while (ort_tables_next(&at, &envelope, &len)) {
            apply(n, envelope, len);
            some = true;
        }
    }
    ort_buf_fini(&body);
    ort_buf_fini(&reply);
    return some;
}

static void
beat(node *n)
{
    ort_heartbeat m = {.applied = n->at};
    ort_heartbeat_reply answer = {0};
    ort_buf body = {0};
    ort_buf reply = {0};
    ort_frame frame;
    ort_diag diag = {0};

    must(ort_heartbeat_encode(&m, &body), "beat", NULL);
    if (ask(n, ORT_MSG_HEARTBEAT, &body, &reply, &frame)) {
        must(ort_heartbeat_reply_decode(frame.body, frame.body_len, &answer, &diag), "beat reply",
             &diag);
    }
    ort_buf_fini(&body);
    ort_buf_fini(&reply);
    if (answer.fetch && fetch(n)) {
        beat(n);
    }
}

static void *
live(void *arg)
{
    node *n = arg;
    ort_frame frame;
    uint64_t due = ort_mono_ms() + n->id.v % 1000;

    while (!atomic_load(&b.stop)) {
        ort_buf message = {0};
        uint64_t now = ort_mono_ms();
        uint64_t generation = 0;
        uint64_t version = 0;
        if (now >= due) {
            beat(n);
            due = now + 1000;
        }
        if (ort_sub_recv(n->sub, due > now ? (uint32_t)(due - now) : 1, &message) == ORT_OK &&
            ort_frame_read(message.data, message.len, &frame, NULL) == ORT_OK &&
            ort_hint_decode(frame.body, frame.body_len, n->id, &generation, &version) == ORT_OK &&
            (version == 0 || version > n->at.version) && fetch(n)) {
            beat(n);
        }
        ort_buf_fini(&message);
    }
    return NULL;
}

static void
start_fleet(void)
{
    uint64_t begin = ort_mono_ms();
    ort_diag diag = {0};
    double cpu = cpu_s();

    for (size_t i = 0; i < b.node_count; i++) {
        node *n = &b.nodes[i];
        ort_req_options req = {.url = b.control_url, .plain_ok = true, .resend_ms = 20000};
        ort_pub_options sub = {.url = b.hint_url, .plain_ok = true};
        must(ort_req_open(&n->req, &req, &diag), "req", &diag);
        must(ort_sub_open(&n->sub, &sub, &diag), "sub", &diag);
        must(ort_thread_start(&n->thread, "node", live, n, &diag), "thread", &diag);
    }
    /* Up, and at the version the control plane restarted with. */
    for (;;) {
        rest_reply reply = call("GET", "/v1/hub", NULL, 200);
        json_t *json = json_loads(reply.body, 0, NULL);
        json_int_t up = json_integer_value(json_object_get(json_object_get(json, "nodes"), "up"));
        json_decref(json);
        rest_reply_free(&reply);
        if ((size_t)up == b.node_count) {
            break;
        }
        if (ort_mono_ms() - begin > 120000) {
            die("the fleet does not come up", ORT_ETIMEOUT, NULL);
        }
        usleep(100000);
    }
    printf("fleet: %zu nodes heard in %.1f s, %.2f s CPU of the control plane, %lu failures\n",
           b.node_count, (double)(ort_mono_ms() - begin) / 1000.0, cpu_s() - cpu,
           atomic_load(&b.failures));
}

static void
stop_fleet(void)
{
    atomic_store(&b.stop, true);
    for (size_t i = 0; i < b.node_count; i++) {
        ort_sub_stop(b.nodes[i].sub);
    }
    for (size_t i = 0; i < b.node_count; i++) {
        node *n = &b.nodes[i];
        pthread_join(n->thread, NULL);
        ort_req_close(n->req);
        ort_sub_close(n->sub);
        ort_table_unref(n->table);
    }
}

/* ---- measuring ---- */

static int
by_value(const void *x, const void *y)
{
    double a = *(const double *)x;
    double c = *(const double *)y;

    return (a > c) - (a < c);
}

static double
quantile(double *v, size_t n, double q)
{
    size_t at = (size_t)(q * (double)(n - 1) + 0.5);

    qsort(v, n, sizeof *v, by_value);
    return v[at];
}

/* ms from begin_ns until the node has that version. */
static double
reached(node *n, uint64_t version, uint64_t begin_ns)
{
    uint64_t until = ort_mono_ms() + REACH_MS;

    while (atomic_load(&n->version) < version) {
        if (ort_mono_ms() > until) {
            die("a change that does not arrive", ORT_ETIMEOUT, NULL);
        }
        usleep(200);
    }
    return (double)(atomic_load(&n->applied_ns) - begin_ns) / 1e6;
}

typedef struct {
    double cpu_s;
    double bytes;
    double deltas;
} cost;

static cost
cost_now(void)
{
    return (cost){.cpu_s = cpu_s(),
                  .bytes = metric("orthant_table_sent_bytes_total"),
                  .deltas =
                      metric("orthant_table_deltas_total") + metric("orthant_table_wholes_total")};
}

static void
report(const char *what, double *last, size_t rounds, cost before)
{
    cost now = cost_now();

    qsort(last, rounds, sizeof *last, by_value);
    printf("%-34s %4zu x  p50 %8.1f ms  p99 %8.1f ms  max %8.1f ms   control CPU %7.2f ms, "
           "%5.0f tables, %9.0f bytes a change\n",
           what, rounds, quantile(last, rounds, 0.5), quantile(last, rounds, 0.99),
           last[rounds - 1], (now.cpu_s - before.cpu_s) * 1000.0 / (double)rounds,
           (now.deltas - before.deltas) / (double)rounds,
           (now.bytes - before.bytes) / (double)rounds);
    fflush(stdout);
}

/* One key is revoked: one node needs to know. */
static void
bench_revoke(void)
{
    double *ms = calloc(b.rounds, sizeof *ms);
    char path[160];
    cost before = cost_now();

    for (size_t i = 0; i < b.rounds; i++) {
        const tenant *t = &b.tenants[(i * 7919) % b.tenant_count];
        snprintf(path, sizeof path, "/v1/tenants/%016" PRIx64 "/keys/%s", t->id.v, t->key);
        uint64_t begin = ort_mono_ns();
        rest_reply reply = call("DELETE", path, NULL, 200);
        uint64_t version = json_u64(reply.body, "version");
        rest_reply_free(&reply);
        ms[i] = reached(&b.nodes[t->home], version, begin);
    }
    report("revoke a key: its node", ms, b.rounds, before);
    free(ms);
}

/* A tenant is created: every node learns where to forward. */
static void
bench_create(size_t rounds)
{
    double *first = calloc(rounds, sizeof *first);
    double *last = calloc(rounds, sizeof *last);
    double *each = calloc(b.node_count, sizeof *each);
    char body[64];
    cost before = cost_now();

    for (size_t i = 0; i < rounds; i++) {
        snprintf(body, sizeof body, "{\"name\":\"new-%zu-%d\"}", i, (int)getpid());
        uint64_t begin = ort_mono_ns();
        rest_reply reply = call("POST", "/v1/tenants", body, 201);
        rest_reply_free(&reply);
        uint64_t version = hub_version();
        for (size_t n = 0; n < b.node_count; n++) {
            each[n] = reached(&b.nodes[n], version, begin);
        }
        first[i] = quantile(each, b.node_count, 0.5); /* sorts */
        last[i] = each[b.node_count - 1];
    }
    report("create a tenant: every node", last, rounds, before);
    printf("%-34s         p50 %8.1f ms  (the median node)\n", "", quantile(first, rounds, 0.5));
    free(first);
    free(last);
    free(each);
}

/* A limit of the plan of all tenants is lowered: every entry on every node. */
static void
bench_plan(size_t rounds)
{
    double *last = calloc(rounds, sizeof *last);
    double *each = calloc(b.node_count, sizeof *each);
    char body[96];
    cost before = cost_now();

    for (size_t i = 0; i < rounds; i++) {
        snprintf(body, sizeof body, "{\"limits\":{\"max_collections\":%zu}}", 90 - i);
        uint64_t begin = ort_mono_ns();
        rest_reply reply = call("PATCH", "/v1/plans/default", body, 200);
        rest_reply_free(&reply);
        uint64_t version = hub_version();
        for (size_t n = 0; n < b.node_count; n++) {
            each[n] = reached(&b.nodes[n], version, begin);
        }
        (void)quantile(each, b.node_count, 1.0);
        last[i] = each[b.node_count - 1];
    }
    report("lower a plan's limit: every tenant", last, rounds, before);
    free(last);
    free(each);
}

static void
bench_idle(unsigned seconds)
{
    double cpu = cpu_s();
    double beats = metric("orthant_node_heartbeats_total");

    sleep(seconds);
    printf("idle: %.0f heartbeats a second take %.1f %% of one CPU; %.0f MiB\n",
           (metric("orthant_node_heartbeats_total") - beats) / seconds,
           (cpu_s() - cpu) * 100.0 / seconds, rss_mib());
}

/* What a node without a table costs: bytes on the wire and time until it is there (not applied). */
static void
bench_whole(void)
{
    ort_fetch m = {.whole = true};
    ort_req_options options = {.url = b.control_url, .plain_ok = true};
    ort_diag diag = {0};

    for (int i = 0; i < 3; i++) {
        node n = {.id = b.nodes[i].id, .key = b.nodes[i].key, .sequence = 1u << 30};
        ort_buf body = {0};
        ort_buf reply = {0};
        ort_frame frame;
        must(ort_req_open(&n.req, &options, &diag), "req", &diag);
        must(ort_fetch_encode(&m, &body), "fetch", NULL);
        double cpu = cpu_s();
        uint64_t begin = ort_mono_ns();
        if (ask(&n, ORT_MSG_FETCH, &body, &reply, &frame)) {
            printf("a whole table: %.2f MB in %.0f ms, %.0f ms CPU%s\n", (double)reply.len / 1e6,
                   (double)(ort_mono_ns() - begin) / 1e6, (cpu_s() - cpu) * 1000.0,
                   i == 0 ? " (the first also writes the directory's text)" : "");
        }
        ort_req_close(n.req);
        ort_buf_fini(&body);
        ort_buf_fini(&reply);
    }
}

static void
options(int argc, char **argv)
{
    b.node_count = 1000;
    b.tenant_count = 100000;
    b.rounds = 100;
    for (int i = 1; i < argc; i += 2) {
        size_t v = i + 1 < argc ? strtoul(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--nodes") == 0 && v > 0 && v <= 4096) {
            b.node_count = v;
        } else if (strcmp(argv[i], "--tenants") == 0 && v > 0 && v <= 1000000) {
            b.tenant_count = v;
        } else if (strcmp(argv[i], "--rounds") == 0 && v > 0 && v <= 10000) {
            b.rounds = v;
        } else {
            fputs("usage: bench_fleet [--nodes N] [--tenants N] [--rounds N]\n", stderr);
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    struct rlimit files;
    struct utsname os;

    options(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* four descriptors a node, two of them here */
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    uname(&os);
    printf("fleet: %zu nodes, %zu tenants; %ld CPUs, %s %s\n", b.node_count, b.tenant_count,
           sysconf(_SC_NPROCESSORS_ONLN), os.sysname, os.release);
    b.nodes = calloc(b.node_count, sizeof *b.nodes);
    b.tenants = calloc(b.tenant_count, sizeof *b.tenants);
    test_dir_make(b.dir, sizeof b.dir);
    fill();
    start_control();
    start_fleet();
    bench_idle(5);
    bench_revoke();
    bench_create(b.rounds < 20 ? b.rounds : 20);
    bench_plan(3);
    stop_fleet();
    bench_whole();
    printf("control plane at the end: %.0f MiB; %lu failed calls\n", rss_mib(),
           atomic_load(&b.failures));
    (void)process_end(b.pid, SIGTERM, 30000);
    test_dir_remove(b.dir);
    free(b.nodes);
    free(b.tenants);
    return 0;
}
