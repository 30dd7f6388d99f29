/* control-plane/routing/feed.c: see the header. */
#include "routing/feed.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "base/log.h"
#include "base/map.h"
#include "base/thread.h"
#include "crypto/token.h"
#include "routing/compile.h"
#include "store/oplog.h"
#include "store/tenants.h"

static const ort_log log_ = {"feed"};

#define COALESCE_MS 20u
#define RETRY_MS 1000u
/* Tenants that are compiled before they are applied, at the start; bounds its memory. */
#define CHUNK_TENANTS 4096u
/* Op-log records read at a time. */
#define RECORDS_MAX 4096u

struct cp_feed {
    cp_feed_options options;
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; /* guards the rest; leaf */
    pthread_cond_t wake;
    bool stopping;
    uint64_t announced;    /* newest version heard of */
    uint64_t announced_ns; /* when the first one since the last compile was */
    cp_feed_stats stats;
};

/* What the records after a version touched. */
typedef struct {
    ort_map *tenants; /* id → (void *)1, or 2 when a denial is among it */
    ort_map *nodes;   /* id → (void *)1 */
    ort_map *plans;   /* name → (void *)1 or 2 */
    uint64_t last;    /* newest record seen */
    uint32_t count;
    bool denial;
} touched;

static void
touched_fini(touched *t)
{
    ort_map_free(t->tenants, NULL);
    ort_map_free(t->nodes, NULL);
    ort_map_free(t->plans, NULL);
}

static ort_err
touched_init(touched *t)
{
    ort_err err = ort_map_new(&t->tenants);

    if (err == ORT_OK) {
        err = ort_map_new(&t->nodes);
    }
    if (err == ORT_OK) {
        err = ort_map_new(&t->plans);
    }
    return err;
}

static ort_err
mark(ort_map *map, const void *key, size_t len, bool denial)
{
    uintptr_t old = (uintptr_t)ort_map_get(map, key, len);
    uintptr_t new = denial || old == 2 ? 2 : 1;

    return ort_map_set(map, key, len, (void *)new, NULL);
}

static ort_err
mark_tenant(touched *t, ort_tenant_id id, bool denial)
{
    return mark(t->tenants, &id.v, sizeof id.v, denial);
}

/* Rows are called "table/key"; which of them tables depend on is known here and nowhere else. */
static ort_err
mark_row(touched *t, const char *row, size_t len, bool denial)
{
    const char *slash = memchr(row, '/', len);
    size_t table_len = slash != NULL ? (size_t)(slash - row) : 0;
    const char *key = slash != NULL ? slash + 1 : row;
    size_t key_len = slash != NULL ? len - table_len - 1 : 0;
    uint64_t id = 0;
    ort_key_id key_id;

    if (slash == NULL) {
        return ORT_OK;
    }
    if (table_len == 5 && memcmp(row, "plans", 5) == 0) {
        return mark(t->plans, key, key_len, denial);
    }
    if (table_len == 5 && memcmp(row, "nodes", 5) == 0) {
        return ort_id_parse(key, key_len, &id) == ORT_OK ? mark(t->nodes, &id, sizeof id, denial)
                                                         : ORT_OK;
    }
    if (table_len == 4 && memcmp(row, "keys", 4) == 0) {
        return ort_key_id_parse(key, key_len, &key_id) == ORT_OK
                   ? mark_tenant(t, key_id.tenant, denial)
                   : ORT_OK;
    }
    /* tenants, quotas, homes: all are keyed by the tenant. Others that are keyed by an id of
     * something else name a tenant that does not exist, which compiles to nothing. */
    if (ort_id_parse(key, key_len, &id) == ORT_OK) {
        return mark_tenant(t, (ort_tenant_id){id}, denial);
    }
    return ORT_OK;
}

static ort_err
mark_rows(touched *t, const char *json, bool denial)
{
    ort_json_doc *doc = NULL;
    ort_err err = ort_json_parse(&doc, json, strlen(json), (ort_json_limits){0}, NULL);

    if (err != ORT_OK) {
        return err;
    }
    for (ort_json_iter it = ort_json_each(ort_json_root(doc));
         err == ORT_OK && ort_json_step(&it);) {
        size_t len = 0;
        const char *row = ort_json_str(it.key, &len);
        err = row != NULL ? mark_row(t, row, len, denial) : ORT_ENOMEM;
    }
    ort_json_free(doc);
    return err;
}

static ort_err
take_record(void *ctx, const cp_oplog_record *record)
{
    touched *t = ctx;
    ort_err err = ORT_OK;

    t->last = record->version;
    t->count++;
    t->denial = t->denial || record->denial;
    if (record->tenant.v != 0) {
        err = mark_tenant(t, record->tenant, record->denial);
    }
    if (err == ORT_OK) {
        err = mark_rows(t, record->before, record->denial);
    }
    if (err == ORT_OK) {
        err = mark_rows(t, record->after, record->denial);
    }
    return err;
}

static ort_err
read_records(cp_tx *tx, uint64_t after, touched *t, ort_diag *diag)
{
    ort_err err = ORT_OK;

    t->last = after;
    do {
        cp_oplog_query query = {.after = t->last, .limit = RECORDS_MAX};
        t->count = 0;
        err = cp_oplog_list(tx, &query, take_record, t, diag);
    } while (err == ORT_OK && t->count == RECORDS_MAX);
    return err;
}

/* ---- a change being put together ---- */

typedef struct {
    cp_tx *tx;
    cp_push_node *nodes;
    ort_buf *node_texts;
    size_t node_count, node_cap;
    cp_push_tenant *tenants;
    cp_compiled *compiled;
    size_t tenant_count, tenant_cap;
    touched *touched;
    bool denial; /* of the plan whose tenants are being marked */
    ort_diag *diag;
} batch;

static void
batch_clear(batch *b)
{
    for (size_t i = 0; i < b->tenant_count; i++) {
        cp_compiled_fini(&b->compiled[i]);
    }
    for (size_t i = 0; i < b->node_count; i++) {
        ort_buf_fini(&b->node_texts[i]);
    }
    b->tenant_count = 0;
    b->node_count = 0;
}

static void
batch_fini(batch *b)
{
    batch_clear(b);
    free(b->nodes);
    free(b->node_texts);
    free(b->tenants);
    free(b->compiled);
}

static bool
grow(void *array, size_t size, size_t cap)
{
    void **at = array;
    void *grown = realloc(*at, size * cap);

    if (grown != NULL) {
        *at = grown;
    }
    return grown != NULL;
}

static ort_err
batch_tenant(batch *b, ort_tenant_id id, bool denial)
{
    if (b->tenant_count == b->tenant_cap) {
        size_t cap = b->tenant_cap == 0 ? 64 : b->tenant_cap * 2;
        if (!grow(&b->tenants, sizeof *b->tenants, cap) ||
            !grow(&b->compiled, sizeof *b->compiled, cap)) {
            return ORT_ENOMEM;
        }
        b->tenant_cap = cap;
    }
    cp_compiled *c = &b->compiled[b->tenant_count];
    *c = (cp_compiled){0};
    b->tenants[b->tenant_count] = (cp_push_tenant){.id = id, .denial = denial};
    b->tenant_count++;
    ort_err err = cp_compile_tenant(b->tx, id, c, b->diag);
    if (err == ORT_OK && c->home.v != 0) {
        cp_push_tenant *t = &b->tenants[b->tenant_count - 1];
        t->home = c->home;
        t->entry = ort_buf_peek_cstr(&c->entry);
        t->directory = ort_buf_peek_cstr(&c->directory);
        err = t->entry != NULL && t->directory != NULL ? ORT_OK : ORT_ENOMEM;
    }
    return err;
}

static ort_err
batch_node(void *ctx, const cp_node *node)
{
    batch *b = ctx;

    if (b->node_count == b->node_cap) {
        size_t cap = b->node_cap == 0 ? 16 : b->node_cap * 2;
        if (!grow(&b->nodes, sizeof *b->nodes, cap) ||
            !grow(&b->node_texts, sizeof *b->node_texts, cap)) {
            return ORT_ENOMEM;
        }
        b->node_cap = cap;
    }
    ort_buf *text = &b->node_texts[b->node_count];
    *text = (ort_buf){0};
    cp_push_node *n = &b->nodes[b->node_count++];
    *n = (cp_push_node){.id = node->id};
    cp_compile_node(node, text);
    if (text->len > 0 || text->failed) {
        n->entry = ort_buf_peek_cstr(text);
        return n->entry != NULL ? ORT_OK : ORT_ENOMEM;
    }
    return ORT_OK;
}

static ort_err
batch_apply(batch *b, cp_push *push)
{
    cp_push_change change = {.version = cp_tx_version(b->tx),
                             .nodes = b->nodes,
                             .node_count = b->node_count,
                             .tenants = b->tenants,
                             .tenant_count = b->tenant_count};

    return cp_push_apply(push, &change, b->diag);
}

static ort_err
mark_plan_tenant(void *ctx, const cp_tenant *tenant)
{
    batch *b = ctx;

    return mark_tenant(b->touched, tenant->id, b->denial);
}

/* A plan's limits stand in the entry of each of its tenants. */
static ort_err
spread_plans(batch *b)
{
    ort_err err = ORT_OK;
    const void *key = NULL;
    size_t at = 0;
    size_t len = 0;
    void *value = NULL;

    while (err == ORT_OK && ort_map_next(b->touched->plans, &at, &key, &len, &value)) {
        char name[CP_SLUG_BYTES];
        if (len >= sizeof name) {
            continue;
        }
        memcpy(name, key, len);
        name[len] = '\0';
        cp_tenant_query query = {.plan = name};
        b->denial = value == (void *)2;
        err = cp_tenant_list(b->tx, &query, mark_plan_tenant, b, b->diag);
    }
    return err;
}

static ort_err
collect(batch *b)
{
    ort_err err = spread_plans(b);
    const void *key = NULL;
    void *value = NULL;
    uint64_t id = 0;

    for (size_t at = 0;
         err == ORT_OK && ort_map_next(b->touched->nodes, &at, &key, NULL, &value);) {
        cp_node node;
        memcpy(&id, key, sizeof id);
        err = cp_node_get(b->tx, (ort_node_id){id}, &node, b->diag);
        if (err == ORT_ENOTFOUND) {
            node = (cp_node){.id = {id}, .state = CP_NODE_REMOVED};
            err = ORT_OK;
        }
        if (err == ORT_OK) {
            err = batch_node(b, &node);
        }
    }
    for (size_t at = 0;
         err == ORT_OK && ort_map_next(b->touched->tenants, &at, &key, NULL, &value);) {
        memcpy(&id, key, sizeof id);
        err = batch_tenant(b, (ort_tenant_id){id}, value == (void *)2);
    }
    return err;
}

/* ---- the whole hub, at the start ---- */

typedef struct {
    uint64_t ids[CHUNK_TENANTS];
    size_t count;
} chunk;

static ort_err
take_id(void *ctx, const cp_tenant *tenant)
{
    chunk *c = ctx;

    c->ids[c->count++] = tenant->id.v;
    return ORT_OK;
}

/* Chunks share one version; nobody is served before the last of them is in. */
static ort_err
compile_whole(cp_feed *feed, batch *b)
{
    chunk *c = malloc(sizeof *c);
    char after[ORT_ID_TEXT_BYTES] = "";
    ort_err err = c != NULL ? ORT_OK : ORT_ENOMEM;

    if (err == ORT_OK) {
        err = cp_node_list(b->tx, false, (cp_page){0}, batch_node, b, b->diag);
    }
    if (err == ORT_OK) {
        err = batch_apply(b, feed->options.push);
    }
    do {
        if (err != ORT_OK) {
            break;
        }
        batch_clear(b);
        c->count = 0;
        cp_tenant_query query = {.page = {.after = after, .limit = CHUNK_TENANTS}};
        err = cp_tenant_list(b->tx, &query, take_id, c, b->diag);
        for (size_t i = 0; err == ORT_OK && i < c->count; i++) {
            err = batch_tenant(b, (ort_tenant_id){c->ids[i]}, false);
        }
        if (err == ORT_OK && c->count > 0) {
            ort_id_format(c->ids[c->count - 1], after);
            err = batch_apply(b, feed->options.push);
        }
    } while (err == ORT_OK && c->count == CHUNK_TENANTS);
    free(c);
    return err;
}

static ort_err
start_whole(cp_feed *feed, ort_diag *diag)
{
    batch b = {.diag = diag};
    uint64_t begin_ns = ort_mono_ns();
    ort_err err = cp_store_begin_read(feed->options.store, &b.tx, diag);

    if (err == ORT_OK) {
        err = compile_whole(feed, &b);
    }
    if (err == ORT_OK) {
        ORT_LOG_INFO(&log_, "feed.started", "version=%" PRIu64 " duration_ms=%" PRIu64,
                     cp_tx_version(b.tx), (ort_mono_ns() - begin_ns) / 1000000u);
    }
    batch_fini(&b);
    cp_tx_end(b.tx);
    return err;
}

/* ---- following ---- */

/* Compiles what the records after the tables' version touched. *wait_out: nothing among them is a
 * denial and may_wait, so nothing was done yet. */
static ort_err
follow(cp_feed *feed, bool may_wait, bool *wait_out, size_t *tenants_out, ort_diag *diag)
{
    touched t = {0};
    batch b = {.diag = diag, .touched = &t};
    ort_err err = touched_init(&t);

    *wait_out = false;
    *tenants_out = 0;
    if (err == ORT_OK) {
        err = cp_store_begin_read(feed->options.store, &b.tx, diag);
    }
    if (err == ORT_OK) {
        err = read_records(b.tx, cp_push_version(feed->options.push), &t, diag);
    }
    if (err == ORT_OK && may_wait && !t.denial) {
        *wait_out = true;
    } else if (err == ORT_OK) {
        err = collect(&b);
        if (err == ORT_OK) {
            err = batch_apply(&b, feed->options.push);
            *tenants_out = b.tenant_count;
        }
    }
    batch_fini(&b);
    cp_tx_end(b.tx);
    touched_fini(&t);
    return err;
}

/* Sleeps until something newer than `seen` is announced (or time is up, when until_ns is not 0).
 * false: stopping. */
static bool
sleep_until_new(cp_feed *feed, uint64_t seen, uint64_t until_ns, uint64_t *announced_ns)
{
    pthread_mutex_lock(&feed->mutex);
    while (!feed->stopping && feed->announced <= seen) {
        if (until_ns == 0) {
            pthread_cond_wait(&feed->wake, &feed->mutex);
        } else if (!ort_cond_wait_until(&feed->wake, &feed->mutex, until_ns)) {
            break;
        }
    }
    *announced_ns = feed->announced_ns;
    bool go = !feed->stopping;
    pthread_mutex_unlock(&feed->mutex);
    return go;
}

static uint64_t
announced(cp_feed *feed)
{
    pthread_mutex_lock(&feed->mutex);
    uint64_t version = feed->announced;
    pthread_mutex_unlock(&feed->mutex);
    return version;
}

static void
note(cp_feed *feed, ort_err err, const ort_diag *diag, size_t tenants, uint64_t announced_ns,
     uint64_t begin_ns)
{
    uint64_t now = ort_mono_ns();

    pthread_mutex_lock(&feed->mutex);
    if (err == ORT_OK) {
        feed->stats.compiles_total++;
        feed->stats.tenants_total += tenants;
        feed->stats.compile_ns_total += now - begin_ns;
        feed->stats.wait_ns_total += begin_ns > announced_ns ? begin_ns - announced_ns : 0;
        feed->announced_ns = 0;
    } else {
        feed->stats.failures_total++;
    }
    pthread_mutex_unlock(&feed->mutex);
    if (err != ORT_OK) {
        ORT_LOG_ERROR(&log_, "feed.failed", "err=%s detail=%s", ort_err_code(err), diag->text);
    }
}

static void *
run(void *arg)
{
    cp_feed *feed = arg;
    uint64_t announced_ns = 0;
    uint64_t coalesce_ns = feed->options.coalesce_ms == UINT32_MAX
                               ? 0
                               : (uint64_t)feed->options.coalesce_ms * 1000000u;

    while (sleep_until_new(feed, cp_push_version(feed->options.push), 0, &announced_ns)) {
        ort_diag diag = {0};
        size_t tenants = 0;
        bool wait = false;
        uint64_t seen = announced(feed);
        uint64_t begin_ns = ort_mono_ns();
        uint64_t due_ns = announced_ns + coalesce_ns;
        ort_err err = follow(feed, begin_ns < due_ns, &wait, &tenants, &diag);
        if (wait) {
            /* Another change may be a denial: look again at each. */
            (void)sleep_until_new(feed, seen, due_ns, &announced_ns);
            continue;
        }
        note(feed, err, &diag, tenants, announced_ns, begin_ns);
        if (err != ORT_OK) {
            /* The nodes serve on from what they have; heartbeats bring them here again. */
            (void)sleep_until_new(feed, UINT64_MAX, ort_mono_ns() + RETRY_MS * 1000000ull,
                                  &announced_ns);
        }
    }
    return NULL;
}

void
cp_feed_changed(void *ctx, uint64_t version)
{
    cp_feed *feed = ctx;

    pthread_mutex_lock(&feed->mutex);
    if (version > feed->announced) {
        feed->announced = version;
        if (feed->announced_ns == 0) {
            feed->announced_ns = ort_mono_ns();
        }
        pthread_cond_signal(&feed->wake);
    }
    pthread_mutex_unlock(&feed->mutex);
}

ort_err
cp_feed_start(cp_feed **out, const cp_feed_options *options, ort_diag *diag)
{
    cp_feed *feed = calloc(1, sizeof *feed);
    ort_err err = ORT_OK;

    *out = NULL;
    if (feed == NULL) {
        return ORT_ENOMEM;
    }
    feed->options = *options;
    if (feed->options.coalesce_ms == 0) {
        feed->options.coalesce_ms = COALESCE_MS;
    }
    pthread_mutex_init(&feed->mutex, NULL);
    ort_cond_init(&feed->wake);
    err = start_whole(feed, diag);
    if (err == ORT_OK) {
        err = ort_thread_start(&feed->thread, "feed", run, feed, diag);
    }
    if (err != ORT_OK) {
        cp_feed_stop(feed);
        return err;
    }
    feed->started = true;
    *out = feed;
    return ORT_OK;
}

void
cp_feed_stop(cp_feed *feed)
{
    if (feed == NULL) {
        return;
    }
    pthread_mutex_lock(&feed->mutex);
    feed->stopping = true;
    pthread_cond_signal(&feed->wake);
    pthread_mutex_unlock(&feed->mutex);
    if (feed->started) {
        pthread_join(feed->thread, NULL);
    }
    pthread_cond_destroy(&feed->wake);
    pthread_mutex_destroy(&feed->mutex);
    free(feed);
}

void
cp_feed_stats_get(cp_feed *feed, cp_feed_stats *out)
{
    pthread_mutex_lock(&feed->mutex);
    *out = feed->stats;
    pthread_mutex_unlock(&feed->mutex);
}
