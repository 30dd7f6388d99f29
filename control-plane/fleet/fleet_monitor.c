/* control-plane/fleet/fleet_monitor.c: one thread that notices silence, and hands to the store what
 * nodes report: in batches, because a thousand heartbeats a second are a thousand transactions only
 * for who makes them so. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "fleet/fleet_internal.h"
#include "store/hub.h"
#include "store/keys.h"
#include "store/nodes.h"
#include "tenancy/node.h"
#include "tenancy/tenant.h"

#define TICK_MS 500u
#define FLUSH_MS 2000u
/* While tenants wait for a home they are looked at this often, whatever nodes say. */
#define PLACE_MS 5000u
/* Reports in one transaction: at 20 us each it holds the writer for 40 ms. */
#define REPORTS_MAX 2000u

/* ---- usage, last seen, last used ---- */

/* What one node has waiting, taken out of the registry. */
typedef struct {
    ort_node_id node;
    uint64_t incarnation;
    cp_node_seen seen;
    bool seen_dirty;
    cp_usage_report *reports;
    size_t report_count;
    ort_map *key_used;
} parcel;

static void
parcel_fini(parcel *p)
{
    free(p->reports);
    if (p->key_used != NULL) {
        ort_map_free(p->key_used, free);
    }
}

/* Lock held. false: nothing waits (or no memory: it waits on). */
static bool
pack(fleet_node *node, parcel *p)
{
    ort_map *fresh_usage = NULL;
    ort_map *fresh_keys = NULL;
    size_t count = ort_map_count(node->usage);
    size_t at = 0;
    void *value = NULL;

    if (!node->seen_dirty && count == 0 && ort_map_count(node->key_used) == 0) {
        return false;
    }
    *p = (parcel){.node = node->id,
                  .incarnation = node->incarnation,
                  .seen_dirty = node->seen_dirty,
                  .seen = {.node = node->id,
                           .incarnation = node->incarnation,
                           .seen_at_ms = node->seen_at_ms,
                           .applied_generation = node->applied.generation,
                           .applied_version = node->applied.version,
                           .applied_hash = node->applied.hash,
                           .used_bytes = node->load.used_bytes}};
    p->reports = calloc(count > 0 ? count : 1, sizeof *p->reports);
    if (p->reports == NULL || ort_map_new(&fresh_usage) != ORT_OK ||
        ort_map_new(&fresh_keys) != ORT_OK) {
        free(p->reports);
        *p = (parcel){0}; /* whoever packs also calls parcel_fini() */
        if (fresh_usage != NULL) {
            ort_map_free(fresh_usage, NULL);
        }
        return false;
    }
    while (ort_map_next(node->usage, &at, NULL, NULL, &value)) {
        p->reports[p->report_count++] = *(cp_usage_report *)value;
    }
    ort_map_free(node->usage, free);
    node->usage = fresh_usage;
    p->key_used = node->key_used;
    node->key_used = fresh_keys;
    node->seen_dirty = false;
    return true;
}

static ort_err
write_reports(cp_fleet *fleet, const parcel *p, size_t *done, ort_diag *diag)
{
    cp_tx *tx = NULL;
    size_t n = p->report_count - *done;
    ort_err err = cp_store_begin_note(fleet->options.store, &tx, diag);

    n = n < REPORTS_MAX ? n : REPORTS_MAX;
    if (err == ORT_OK && n > 0) {
        err = cp_usage_take(tx, p->node, p->incarnation, p->reports + *done, n, diag);
    }
    if (err == ORT_OK && *done == 0 && p->seen_dirty) {
        err = cp_node_seen_put(tx, &p->seen, diag);
        err = err == ORT_ESTALE ? ORT_OK : err; /* replaced meanwhile */
    }
    for (size_t at = 0; err == ORT_OK && *done == 0;) {
        const void *key = NULL;
        size_t len = 0;
        void *value = NULL;
        char id[ORT_TOKEN_ID_TEXT_BYTES] = "";
        if (!ort_map_next(p->key_used, &at, &key, &len, &value)) {
            break;
        }
        memcpy(id, key, len < sizeof id ? len : sizeof id - 1);
        err = cp_key_used(tx, id, *(int64_t *)value, diag);
    }
    if (err == ORT_OK) {
        err = cp_tx_commit(tx, NULL, NULL, diag);
        tx = NULL;
    }
    cp_tx_end(tx);
    if (err == ORT_OK) {
        *done += n;
    }
    return err;
}

static size_t
list_nodes(cp_fleet *fleet, fleet_node ***out)
{
    size_t at = 0;
    size_t n = 0;
    void *value = NULL;

    pthread_mutex_lock(&fleet->mutex);
    size_t count = ort_map_count(fleet->nodes);
    *out = calloc(count > 0 ? count : 1, sizeof **out);
    while (*out != NULL && ort_map_next(fleet->nodes, &at, NULL, NULL, &value)) {
        (*out)[n++] = value;
    }
    pthread_mutex_unlock(&fleet->mutex);
    return n;
}

void
cp_fleet__flush(cp_fleet *fleet)
{
    fleet_node **nodes = NULL;
    size_t count = list_nodes(fleet, &nodes);

    for (size_t i = 0; i < count; i++) {
        parcel p = {0};
        ort_diag diag = {0};
        size_t done = 0;
        ort_err err = ORT_OK;
        pthread_mutex_lock(&fleet->mutex);
        bool some = pack(nodes[i], &p);
        pthread_mutex_unlock(&fleet->mutex);
        while (some && err == ORT_OK) {
            err = write_reports(fleet, &p, &done, &diag);
            if (done >= p.report_count) {
                break;
            }
        }
        if (err != ORT_OK) {
            /* Totals come again with the next beats; what is lost is the time of last use. */
            pthread_mutex_lock(&fleet->mutex);
            fleet->stats.usage_failures_total++;
            pthread_mutex_unlock(&fleet->mutex);
            ORT_LOG_ERROR(&cp_fleet__log, "fleet.usage_failed",
                          "node=%016" PRIx64 " err=%s detail=%s", nodes[i]->id.v, ort_err_code(err),
                          diag.text);
        }
        parcel_fini(&p);
    }
    free(nodes);
}

/* ---- what heartbeats ask for ---- */

static void
do_gone(cp_fleet *fleet, fleet_node *node)
{
    ort_map *gone = NULL;
    ort_map *fresh = NULL;
    const void *key = NULL;
    size_t at = 0;

    if (ort_map_new(&fresh) != ORT_OK) {
        return;
    }
    pthread_mutex_lock(&fleet->mutex);
    gone = node->gone;
    node->gone = fresh;
    pthread_mutex_unlock(&fleet->mutex);
    while (ort_map_next(gone, &at, &key, NULL, &(void *){NULL})) {
        ort_tenant_id tenant;
        ort_diag diag = {0};
        bool done = false;
        memcpy(&tenant.v, key, sizeof tenant.v);
        ort_err err = cp_tenant_gone(fleet->listen.tenancy, tenant, node->id, &done, NULL, &diag);
        if (err == ORT_OK && done) {
            ORT_LOG_INFO(&cp_fleet__log, "tenant.deleted", "tenant=%016" PRIx64, tenant.v);
        } else if (err != ORT_OK && err != ORT_ECONFLICT && err != ORT_ENOTFOUND) {
            /* The node goes on reporting it until its table says that the tenant is no more. */
            ORT_LOG_WARN(&cp_fleet__log, "fleet.gone_failed",
                         "tenant=%016" PRIx64 " node=%016" PRIx64 " err=%s detail=%s", tenant.v,
                         node->id.v, ort_err_code(err), diag.text);
        }
    }
    ort_map_free(gone, NULL);
}

static void
do_ready(cp_fleet *fleet, fleet_node *node)
{
    ort_diag diag = {0};
    ort_err err = cp_node_ready(fleet->listen.tenancy, node->id, NULL, &diag);

    pthread_mutex_lock(&fleet->mutex);
    node->is_ready = err == ORT_OK;
    fleet->poked = fleet->poked || err == ORT_OK;
    pthread_mutex_unlock(&fleet->mutex);
    if (err != ORT_OK) {
        ORT_LOG_WARN(&cp_fleet__log, "fleet.ready_failed", "node=%016" PRIx64 " err=%s detail=%s",
                     node->id.v, ort_err_code(err), diag.text);
    }
}

static void
do_work(cp_fleet *fleet)
{
    fleet_node **nodes = NULL;
    size_t count = list_nodes(fleet, &nodes);

    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&fleet->mutex);
        bool ready = nodes[i]->ready_due;
        bool gone = ort_map_count(nodes[i]->gone) > 0;
        nodes[i]->ready_due = false;
        pthread_mutex_unlock(&fleet->mutex);
        if (ready) {
            do_ready(fleet, nodes[i]);
        }
        if (gone) {
            do_gone(fleet, nodes[i]);
        }
    }
    free(nodes);
}

/* ---- placement, health ---- */

static ort_err
stop_at_first(void *ctx, const cp_tenant *row)
{
    (void)row;
    *(bool *)ctx = true;
    return ORT_OK;
}

static bool
anyone_unplaced(cp_fleet *fleet)
{
    cp_tx *tx = NULL;
    cp_tenant_query query = {.page = {.limit = 1}, .unplaced = true};
    bool found = false;

    if (cp_store_begin_read(fleet->options.store, &tx, NULL) == ORT_OK &&
        cp_tenant_list(tx, &query, stop_at_first, &found, NULL) != ORT_OK) {
        found = false;
    }
    cp_tx_end(tx);
    return found;
}

static void
place(cp_fleet *fleet)
{
    uint64_t placed = 0;

    do {
        ort_diag diag = {0};
        if (!anyone_unplaced(fleet)) {
            return;
        }
        ort_err err = cp_tenant_place_pending(fleet->listen.tenancy, &placed, NULL, &diag);
        if (err != ORT_OK) {
            ORT_LOG_WARN(&cp_fleet__log, "fleet.place_failed", "err=%s detail=%s",
                         ort_err_code(err), diag.text);
            return;
        }
        if (placed > 0) {
            ORT_LOG_INFO(&cp_fleet__log, "fleet.placed", "tenants=%" PRIu64, placed);
        }
    } while (placed > 0);
}

/* Says what has changed; true when someone came up. */
static bool
look_at_health(cp_fleet *fleet)
{
    fleet_node **nodes = NULL;
    size_t count = list_nodes(fleet, &nodes);
    bool up = false;

    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&fleet->mutex);
        cp_health was = nodes[i]->shown;
        cp_health is = cp_fleet__health(fleet, nodes[i]);
        bool removed = nodes[i]->is_removed;
        nodes[i]->shown = is;
        pthread_mutex_unlock(&fleet->mutex);
        if (was == is || removed) {
            continue;
        }
        up = up || is == CP_HEALTH_UP;
        ORT_LOG_AT(&cp_fleet__log, is == CP_HEALTH_UP ? ORT_LOG_INFO_ : ORT_LOG_WARN_,
                   "fleet.health", "node=%016" PRIx64 " from=%s to=%s", nodes[i]->id.v,
                   cp_health_name(was), cp_health_name(is));
    }
    free(nodes);
    return up;
}

/* ---- a store that came from a backup ---- */

void
cp_fleet__check_restored(cp_fleet *fleet, ort_node_id node, const ort_table_at *applied)
{
    uint64_t generation = cp_push_generation(fleet->listen.push);
    uint64_t version = cp_push_version(fleet->listen.push);
    uint64_t least = 0;

    if (applied->generation > generation) {
        least = applied->generation + 1;
    } else if (applied->generation == generation && applied->version > version) {
        least = generation + 1;
    }
    if (least > fleet->generation_asked) {
        fleet->generation_asked = least;
        fleet->work_due = true;
        pthread_cond_signal(&fleet->wake);
        ORT_LOG_ERROR(&cp_fleet__log, "fleet.store_is_older",
                      "node=%016" PRIx64 " node_generation=%" PRIu64 " node_version=%" PRIu64
                      " generation=%" PRIu64 " version=%" PRIu64,
                      node.v, applied->generation, applied->version, generation, version);
    }
}

static void
bump_generation(cp_fleet *fleet)
{
    cp_tx *tx = NULL;
    cp_change change = {.op = "hub.restored"};
    ort_diag diag = {0};
    uint64_t generation = 0;

    pthread_mutex_lock(&fleet->mutex);
    uint64_t least = fleet->generation_asked;
    pthread_mutex_unlock(&fleet->mutex);
    if (least <= cp_push_generation(fleet->listen.push)) {
        return;
    }
    ort_err err = cp_store_begin(fleet->options.store, &cp_author_system, &tx, &diag);
    if (err == ORT_OK) {
        err = cp_hub_bump_generation(tx, least, &generation, &diag);
    }
    if (err == ORT_OK) {
        err = cp_tx_commit(tx, &change, NULL, &diag);
        tx = NULL;
    }
    cp_tx_end(tx);
    if (err == ORT_OK) {
        cp_push_set_generation(fleet->listen.push, generation);
        ORT_LOG_WARN(&cp_fleet__log, "fleet.generation", "generation=%" PRIu64, generation);
    } else {
        ORT_LOG_ERROR(&cp_fleet__log, "fleet.generation_failed", "err=%s detail=%s",
                      ort_err_code(err), diag.text);
    }
}

/* Sleeps to the next tick, or until there is work. false: stopping. */
static bool
sleep_a_tick(cp_fleet *fleet, bool *work, bool *poked)
{
    uint64_t until = ort_mono_ns() + TICK_MS * 1000000ull;

    pthread_mutex_lock(&fleet->mutex);
    while (!fleet->stopping && !fleet->work_due && !fleet->poked) {
        if (!ort_cond_wait_until(&fleet->wake, &fleet->mutex, until)) {
            break;
        }
        break; /* woken: a node came up */
    }
    *work = fleet->work_due;
    *poked = fleet->poked;
    fleet->work_due = false;
    fleet->poked = false;
    bool go = !fleet->stopping;
    pthread_mutex_unlock(&fleet->mutex);
    return go;
}

void *
cp_fleet__monitor(void *arg)
{
    cp_fleet *fleet = arg;
    uint64_t flush_ns =
        (fleet->listen.flush_ms != 0 ? fleet->listen.flush_ms : FLUSH_MS) * 1000000ull;
    uint64_t flushed_ns = ort_mono_ns();
    uint64_t placed_ns = 0;
    bool work = false;
    bool poked = true;

    while (sleep_a_tick(fleet, &work, &poked)) {
        bool up = look_at_health(fleet);
        if (work) {
            bump_generation(fleet);
            do_work(fleet);
        }
        uint64_t now = ort_mono_ns();
        if (poked || up || now - placed_ns >= PLACE_MS * 1000000ull) {
            placed_ns = now;
            place(fleet);
        }
        if (now - flushed_ns >= flush_ns) {
            flushed_ns = now;
            cp_fleet__flush(fleet);
        }
    }
    return NULL;
}
