/* What a push costs at scale: the control plane's tables (control-plane/routing) and real sockets,
 * against simulated nodes, all in one process.
 *
 *   bench_push [--nodes 1000] [--tenants 100000] [--rounds 200] [--transport ipc|inproc] [--cold 8]
 *
 * Printed, one line each, key=value:
 *   build        making the state of all nodes from entry texts
 *   cold         whole tables of that many nodes: made, signed, sent, verified, unpacked, applied
 *   one_node     a key is revoked: from the call that makes the change to the ack of its one node
 *   every_node   a tenant gets a new home: from that call to the ack of the last node
 *
 * A simulated node listens to hints, fetches, verifies the signature, unpacks and parses the
 * change, and acks by a signed heartbeat, as a real one does. It keeps no table (a thousand
 * directories of 100,000 would not fit one machine) and writes no disk; what a real node does there
 * is measured by tests/integration/test_push_live. Every answered request is verified and handled
 * as the control plane's own listener does, but for SQLite and the rows of the fleet.
 * control_cpu_ms is what the control plane's side used: the change itself, hints, verifying,
 * diffing, packing, signing. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "routing/push.h"
#include "wire/endpoint.h"

#define HUB_ID 1u
#define KEYS_PER_TENANT 3
#define BATCH 5000u
#define WAIT_MS 60000u

typedef struct {
    ort_node_id id;
    ort_sign_key key;
    ort_req *req;
    ort_sub *sub;
    pthread_t thread;
    uint64_t sequence;
    ort_table_at at; /* of its thread */
} sim;

static struct {
    uint32_t nodes, tenants, rounds, cold;
    const char *transport;
} options = {1000, 100000, 200, 8, "ipc"};

static sim *sims;
static cp_push *push;
static ort_sign_key control_key;
static ort_pub *hints;
static uint64_t version;

static _Atomic uint64_t control_cpu_ns, table_bytes, requests;
static atomic_uint acked; /* nodes at `wanted` or beyond */
static _Atomic uint64_t wanted;
static atomic_bool stopping;

static void
die(const char *what, const char *detail)
{
    fprintf(stderr, "bench_push: %s: %s\n", what, detail);
    exit(1);
}

static void
must(ort_err err, const char *what)
{
    if (err != ORT_OK) {
        die(what, ort_err_code(err));
    }
}

static uint64_t
thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the control plane's side ---- */

static sim *
sim_of(ort_node_id id)
{
    return id.v >= 1 && id.v <= options.nodes ? &sims[id.v - 1] : NULL;
}

static void
reply(ort_msg_type type, const ort_frame *ask, const ort_buf *body, ort_buf *out)
{
    must(ort_frame_write(&(ort_frame){.type = type,
                                      .node = ask->node,
                                      .sequence = ask->sequence,
                                      .body = body->data,
                                      .body_len = body->len},
                         NULL, out),
         "reply");
}

static void
on_request(void *arg, const void *bytes, size_t n, ort_buf *out)
{
    const uint64_t before = thread_cpu_ns();
    ort_frame ask;
    ort_buf body = {0};
    ort_diag diag = {""};
    (void)arg;
    must(ort_frame_read(bytes, n, &ask, &diag), "frame");
    sim *s = sim_of(ask.node);
    if (s == NULL || !ort_frame_verify(bytes, n, &s->key.public)) {
        die("request", "not signed by a node");
    }
    if (ask.type == ORT_MSG_FETCH) {
        ort_fetch m;
        must(ort_fetch_decode(ask.body, ask.body_len, &m, &diag), "fetch");
        must(cp_push_fetch(push, ask.node, &m, &body, &diag), "fetch");
        atomic_fetch_add(&table_bytes, body.len);
        reply(ORT_MSG_FETCH_REPLY, &ask, &body, out);
    } else {
        ort_heartbeat m;
        ort_heartbeat_reply r = {0};
        must(ort_heartbeat_decode(ask.body, ask.body_len, &m, &diag), "heartbeat");
        cp_push_acked(push, ask.node, &m.applied);
        must(cp_push_newest(push, ask.node, &m.applied, &r.newest, &r.fetch), "newest");
        must(ort_heartbeat_reply_encode(&r, &body), "heartbeat");
        reply(ORT_MSG_HEARTBEAT_REPLY, &ask, &body, out);
        if (m.applied.version >= atomic_load(&wanted)) {
            atomic_fetch_add(&acked, 1);
        }
        ort_heartbeat_fini(&m);
    }
    ort_buf_fini(&body);
    atomic_fetch_add(&requests, 1);
    atomic_fetch_add(&control_cpu_ns, thread_cpu_ns() - before);
}

static void
on_hint(void *arg, uint64_t generation, const ort_hint_entry *entries, size_t count)
{
    ort_buf body = {0}, frame = {0};
    (void)arg;
    must(ort_hint_encode(generation, entries, count, &body), "hint");
    must(
        ort_frame_write(&(ort_frame){.type = ORT_MSG_HINT, .body = body.data, .body_len = body.len},
                        NULL, &frame),
        "hint");
    must(ort_pub_send(hints, frame.data, frame.len), "hint");
    ort_buf_fini(&body);
    ort_buf_fini(&frame);
}

/* ---- entries ---- */

static void
put_tenant(ort_buf *out, uint64_t id, uint32_t keys)
{
    ort_buf_puts(out, "{\"epoch\":1,\"keys\":{");
    for (uint32_t k = 0; k < keys; k++) {
        char key[ORT_TOKEN_ID_TEXT_BYTES];
        ort_key_id_format((ort_key_id){{id}, k + 1}, key);
        ort_buf_printf(out,
                       "%s\"%s\":{\"collections\":[],\"expires_at_ms\":null,\"hash\":\"%032" PRIx64
                       "%032" PRIx64
                       "\",\"max_requests_per_minute\":null,\"scopes\":[\"data:read\","
                       "\"data:write\"]}",
                       k > 0 ? "," : "", key, id * 0x9e3779b97f4a7c15u, (uint64_t)k);
    }
    ort_buf_printf(out,
                   "},\"limits\":{\"max_collections\":100,\"max_requests_per_minute\":1000,"
                   "\"max_storage_bytes\":100000000000,\"max_vectors\":10000000,"
                   "\"max_vectors_per_collection\":10000000},\"max_stale_s\":0,\"name\":\"t%" PRIu64
                   "\",\"regions\":[\"eu-central\"],\"state\":\"active\"}",
                   id);
}

/* One tenant's change: with so many keys, on that node. */
static void
change_tenant(uint64_t id, uint64_t home, uint32_t keys, bool denial)
{
    ort_buf entry = {0}, directory = {0};
    ort_diag diag = {""};
    put_tenant(&entry, id, keys);
    ort_buf_printf(&directory, "{\"home\":\"%016" PRIx64 "\",\"regions\":[\"eu-central\"]}", home);
    const cp_push_tenant tenant = {.id = {id},
                                   .home = {home},
                                   .entry = ort_buf_peek_cstr(&entry),
                                   .directory = ort_buf_peek_cstr(&directory),
                                   .denial = denial};
    const cp_push_change change = {.version = version, .tenants = &tenant, .tenant_count = 1};
    must(cp_push_apply(push, &change, &diag), diag.text);
    ort_buf_fini(&entry);
    ort_buf_fini(&directory);
}

static void
build_nodes(void)
{
    for (uint32_t i = 0; i < options.nodes; i++) {
        char text[256];
        ort_diag diag = {""};
        snprintf(text, sizeof text,
                 "{\"endpoint\":\"https://node-%u.example:6333\",\"forward\":"
                 "\"tls+tcp://node-%u.example:7401\",\"region\":\"eu-central\",\"zone\":\"a\"}",
                 i, i);
        const cp_push_node node = {.id = {i + 1}, .entry = text};
        const cp_push_change change = {.version = version, .nodes = &node, .node_count = 1};
        must(cp_push_apply(push, &change, &diag), diag.text);
    }
}

static void
build_tenants(void)
{
    cp_push_tenant *batch = calloc(BATCH, sizeof *batch);
    ort_buf *texts = calloc((size_t)2 * BATCH, sizeof *texts);
    if (batch == NULL || texts == NULL) {
        die("build", "out of memory");
    }
    for (uint32_t first = 0; first < options.tenants; first += BATCH) {
        ort_diag diag = {""};
        uint32_t n = 0;
        for (; n < BATCH && first + n < options.tenants; n++) {
            const uint64_t id = first + n + 1, home = id % options.nodes + 1;
            ort_buf *entry = &texts[2 * n], *directory = &texts[2 * n + 1];
            ort_buf_clear(entry);
            ort_buf_clear(directory);
            put_tenant(entry, id, KEYS_PER_TENANT);
            ort_buf_printf(directory, "{\"home\":\"%016" PRIx64 "\",\"regions\":[\"eu-central\"]}",
                           home);
            batch[n] = (cp_push_tenant){.id = {id},
                                        .home = {home},
                                        .entry = ort_buf_peek_cstr(entry),
                                        .directory = ort_buf_peek_cstr(directory)};
        }
        const cp_push_change change = {.version = version, .tenants = batch, .tenant_count = n};
        must(cp_push_apply(push, &change, &diag), diag.text);
    }
    for (uint32_t i = 0; i < 2 * BATCH; i++) {
        ort_buf_fini(&texts[i]);
    }
    free(texts);
    free(batch);
}

/* ---- the nodes' side ---- */

static void
ask(sim *s, ort_msg_type type, const ort_buf *body, ort_buf *reply_out, ort_frame *frame)
{
    ort_buf request = {0};
    ort_diag diag = {""};
    const ort_frame f = {.type = type,
                         .node = s->id,
                         .incarnation = 1,
                         .sequence = ++s->sequence,
                         .body = body->data,
                         .body_len = body->len};
    must(ort_frame_write(&f, &s->key, &request), "frame");
    must(ort_req_call(s->req, request.data, request.len, WAIT_MS, reply_out, &diag), diag.text);
    must(ort_frame_read(reply_out->data, reply_out->len, frame, &diag), diag.text);
    if (frame->type == ORT_MSG_ERROR) {
        die("the control plane", "answered with an error (is its queue long enough?)");
    }
    ort_buf_fini(&request);
}

/* Fetches from where the node stands (or all) and checks what comes; true: it has moved. */
static bool
fetch(sim *s, bool whole)
{
    ort_buf body = {0}, answer = {0}, text = {0};
    ort_frame frame;
    const void *envelope;
    size_t n;
    bool moved = false;
    const ort_fetch m = {.applied = whole ? (ort_table_at){0} : s->at, .whole = whole};
    must(ort_fetch_encode(&m, &body), "fetch");
    ask(s, ORT_MSG_FETCH, &body, &answer, &frame);
    ort_cursor c = ort_cursor_of(frame.body, frame.body_len);
    while (ort_tables_next(&c, &envelope, &n)) {
        ort_table_head head;
        ort_table *parsed = NULL;
        ort_diag diag = {""};
        must(ort_envelope_open(envelope, n, &control_key.public, &head, &diag), diag.text);
        must(ort_envelope_body(envelope, n, &text, &diag), diag.text);
        must(ort_table_apply(&parsed, NULL, text.data, text.len, NULL, &diag), diag.text);
        ort_table_unref(parsed);
        ort_buf_clear(&text);
        s->at = head.at;
        moved = true;
    }
    ort_buf_fini(&body);
    ort_buf_fini(&answer);
    ort_buf_fini(&text);
    return moved;
}

static void
beat(sim *s)
{
    ort_buf body = {0}, answer = {0};
    ort_frame frame;
    const ort_heartbeat m = {.applied = s->at};
    must(ort_heartbeat_encode(&m, &body), "beat");
    ask(s, ORT_MSG_HEARTBEAT, &body, &answer, &frame);
    ort_buf_fini(&body);
    ort_buf_fini(&answer);
}

static void *
live(void *arg)
{
    sim *s = arg;
    ort_buf bytes = {0};
    while (!atomic_load(&stopping)) {
        ort_frame frame;
        uint64_t generation, newest;
        ort_buf_clear(&bytes);
        if (ort_sub_recv(s->sub, 200, &bytes) == ORT_OK &&
            ort_frame_read(bytes.data, bytes.len, &frame, NULL) == ORT_OK &&
            ort_hint_decode(frame.body, frame.body_len, s->id, &generation, &newest) == ORT_OK &&
            (newest == 0 || newest > s->at.version) && fetch(s, false)) {
            beat(s);
        }
    }
    ort_buf_fini(&bytes);
    return NULL;
}

static void
connect_all(const char *control_url, const char *hint_url)
{
    ort_diag diag = {""};
    for (uint32_t i = 0; i < options.nodes; i++) {
        sim *s = &sims[i];
        bool behind;
        s->id.v = i + 1;
        ort_sign_key_new(&s->key);
        const ort_req_options r = {.url = control_url, .plain_ok = true, .resend_ms = WAIT_MS};
        const ort_pub_options p = {.url = hint_url, .plain_ok = true};
        must(ort_req_open(&s->req, &r, &diag), diag.text);
        must(ort_sub_open(&s->sub, &p, &diag), diag.text);
        /* It starts where it would stand after its first whole table (see `cold`). */
        must(cp_push_newest(push, s->id, &s->at, &s->at, &behind), "newest");
        cp_push_acked(push, s->id, &s->at);
    }
    sleep(2); /* connections are made in the background */
    for (uint32_t i = 0; i < options.nodes; i++) {
        must(ort_thread_start(&sims[i].thread, "node", live, &sims[i], &diag), diag.text);
    }
    usleep(500000);
}

/* ---- measuring ---- */

static int
by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Makes one change and waits for that many acks of it; microseconds. */
static uint64_t
one_change(uint64_t tenant, uint64_t home, uint32_t keys, bool denial, uint32_t acks)
{
    version++;
    atomic_store(&acked, 0);
    atomic_store(&wanted, version);
    const uint64_t cpu = thread_cpu_ns(), from = ort_mono_ns();
    change_tenant(tenant, home, keys, denial);
    atomic_fetch_add(&control_cpu_ns, thread_cpu_ns() - cpu);
    while (atomic_load(&acked) < acks) {
        if (ort_mono_ns() - from > (uint64_t)WAIT_MS * 1000000u) {
            char text[64];
            snprintf(text, sizeof text, "%u of %u acks after %u s", atomic_load(&acked), acks,
                     WAIT_MS / 1000);
            die("wait", text);
        }
        usleep(50);
    }
    return (ort_mono_ns() - from) / 1000;
}

static void
measure(const char *name, uint32_t rounds, bool everyone)
{
    uint64_t *us = calloc(rounds, sizeof *us);
    if (us == NULL) {
        die(name, "out of memory");
    }
    atomic_store(&control_cpu_ns, 0);
    atomic_store(&table_bytes, 0);
    atomic_store(&requests, 0);
    for (uint32_t i = 0; i < rounds; i++) {
        const uint64_t tenant = (uint64_t)i * 7919 % options.tenants + 1;
        const uint64_t home = tenant % options.nodes + 1;
        us[i] = everyone ? one_change(tenant, home % options.nodes + 1, KEYS_PER_TENANT, false,
                                      options.nodes)
                         : one_change(tenant, home, KEYS_PER_TENANT - 1, true, 1);
        usleep(20000);
    }
    const double cpu_ms = (double)atomic_load(&control_cpu_ns) / 1e6 / rounds;
    const uint64_t bytes = atomic_load(&table_bytes) / rounds;
    const uint32_t middle = rounds / 2, late = rounds * 99 / 100;
    qsort(us, rounds, sizeof *us, by_size);
    printf("%s nodes=%u tenants=%u transport=%s rounds=%u acks=%u p50_ms=%.1f p99_ms=%.1f "
           "max_ms=%.1f control_cpu_ms=%.2f table_bytes=%" PRIu64 " requests=%" PRIu64 "\n",
           name, options.nodes, options.tenants, options.transport, rounds,
           everyone ? options.nodes : 1, (double)us[middle] / 1000, (double)us[late] / 1000,
           (double)us[rounds - 1] / 1000, cpu_ms, bytes, atomic_load(&requests) / rounds);
    fflush(stdout);
    free(us);
}

static void
measure_cold(void)
{
    const uint32_t n = options.cold < options.nodes ? options.cold : options.nodes;
    if (n == 0) {
        return;
    }
    atomic_store(&control_cpu_ns, 0);
    atomic_store(&table_bytes, 0);
    const uint64_t from = ort_mono_ns();
    for (uint32_t i = 0; i < n; i++) {
        if (!fetch(&sims[i], true)) {
            die("cold", "no table came");
        }
    }
    printf("cold nodes=%u each_ms=%.1f control_cpu_ms=%.1f table_bytes=%" PRIu64 "\n", n,
           (double)(ort_mono_ns() - from) / 1e6 / n, (double)atomic_load(&control_cpu_ns) / 1e6 / n,
           atomic_load(&table_bytes) / n);
    fflush(stdout);
}

static void
parse_options(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        uint32_t *number = NULL;
        if (strcmp(name, "--nodes") == 0) {
            number = &options.nodes;
        } else if (strcmp(name, "--tenants") == 0) {
            number = &options.tenants;
        } else if (strcmp(name, "--rounds") == 0) {
            number = &options.rounds;
        } else if (strcmp(name, "--cold") == 0) {
            number = &options.cold;
        }
        if (value != NULL && number != NULL) {
            *number = (uint32_t)strtoul(value, NULL, 10);
        } else if (value != NULL && strcmp(name, "--transport") == 0) {
            options.transport = value;
        } else {
            die(name, "usage: bench_push [--nodes N] [--tenants N] [--rounds N] [--cold N] "
                      "[--transport ipc|inproc]");
        }
    }
    if (options.nodes < 2 || options.tenants < options.nodes || options.rounds == 0) {
        die("options", "at least 2 nodes, as many tenants as nodes, and a round");
    }
}

/* Both ends of every connection are in this process. */
static void
raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int
main(int argc, char **argv)
{
    char control_url[96], hint_url[96];
    ort_rep *rep = NULL;
    ort_diag diag = {""};
    struct rusage usage;
    parse_options(argc, argv);
    raise_file_limit();
    ort_log_set_level(ORT_LOG_ERROR_);
    const bool ipc = strcmp(options.transport, "ipc") == 0;
    snprintf(control_url, sizeof control_url, ipc ? "ipc:///tmp/bench-push-%d" : "inproc://c%d",
             (int)getpid());
    snprintf(hint_url, sizeof hint_url, ipc ? "ipc:///tmp/bench-hint-%d" : "inproc://h%d",
             (int)getpid());
    sims = calloc(options.nodes, sizeof *sims);
    if (sims == NULL) {
        die("start", "out of memory");
    }
    ort_sign_key_new(&control_key);
    const ort_pub_options pub = {.url = hint_url, .plain_ok = true};
    must(ort_pub_open(&hints, &pub, &diag), diag.text);
    const cp_push_options po = {
        .hub_id = HUB_ID, .generation = 1, .key = &control_key, .hint = on_hint};
    must(cp_push_new(&push, &po), "push");

    version = 1;
    const uint64_t from = ort_mono_ns();
    build_nodes();
    build_tenants();
    getrusage(RUSAGE_SELF, &usage);
    printf("build nodes=%u tenants=%u keys=%u ms=%.0f rss_mb=%ld\n", options.nodes, options.tenants,
           options.tenants * KEYS_PER_TENANT, (double)(ort_mono_ns() - from) / 1e6,
           usage.ru_maxrss / 1024);
    fflush(stdout);

    const ort_rep_options ro = {.url = control_url,
                                .plain_ok = true,
                                .handler = on_request,
                                .contexts = options.nodes + 64,
                                .queue_max = options.nodes + 64,
                                .threads = 4};
    must(ort_rep_open(&rep, &ro, &diag), diag.text);
    connect_all(control_url, hint_url);
    measure("one_node", options.rounds, false);
    measure("every_node", options.rounds < 20 ? options.rounds : 20, true);
    atomic_store(&stopping, true);
    for (uint32_t i = 0; i < options.nodes; i++) {
        pthread_join(sims[i].thread, NULL);
    }
    measure_cold();
    for (uint32_t i = 0; i < options.nodes; i++) {
        ort_req_close(sims[i].req);
        ort_sub_close(sims[i].sub);
        ort_sign_key_wipe(&sims[i].key);
    }
    ort_rep_close(rep);
    ort_pub_close(hints);
    cp_push_free(push);
    free(sims);
    return 0;
}
