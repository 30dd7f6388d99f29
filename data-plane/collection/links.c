/* Graph links among points of one value: which fields have them, telling the graph, and asking. */
#include "collection/links_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "crypto/hash.h"

#define SLICE_SLOTS 1024u          /* as of the graph */
#define BEHIND_MAX 16384u          /* slots not yet linked that a search looks at one by one */
#define UNINDEXED_BEHIND_MAX 1024u /* the same, by their payloads */
#define PLAN_VALUES_MAX 8u         /* of a filter, that are looked up */

static const ort_log log_ = {.module = "collection"};

/* --- numbers ------------------------------------------------------------------------------------
 */

static uint64_t
number_of(const ort_hash *hash)
{
    const uint64_t n = ort_get_u64(hash->b);
    return n != 0 ? n : 1;
}

/* By name and kind: declared anew as another kind it is another field. */
static uint64_t
field_number(const dp_declared_field *f)
{
    const unsigned char kind = (unsigned char)f->kind;
    ort_hasher h;
    ort_hash hash;
    ort_hasher_init(&h);
    ort_hasher_put(&h, &kind, 1);
    ort_hasher_put(&h, f->name, f->name_len);
    ort_hasher_done(&h, &hash);
    return number_of(&hash);
}

static uint64_t
value_number(const dp_payload_value *v)
{
    unsigned char integer[8];
    ort_hash hash;
    if (v->text != NULL) {
        ort_hash_of(&hash, v->text, v->len);
    } else {
        ort_put_u64(integer, (uint64_t)v->integer);
        ort_hash_of(&hash, integer, sizeof integer);
    }
    return number_of(&hash);
}

/* --- which fields -------------------------------------------------------------------------------
 */

static bool
has_links(const dp_hnsw_settings *set, const dp_declared_field *f)
{
    const bool kind = f->kind == DP_FIELD_KEYWORD || f->kind == DP_FIELD_UUID ||
                      f->kind == DP_FIELD_INTEGER || f->kind == DP_FIELD_BOOL;
    return kind && f->links && set->value_m > 0 && (f->is_tenant || set->value_m_all);
}

/* Tenants' fields first, where there are more than a graph takes. */
static size_t
fields_of(const dp_schema *schema, uint32_t column,
          const dp_declared_field *out[DP_HNSW_FIELDS_MAX])
{
    const dp_vector_schema *v = dp_schema_peek_vector(schema, column);
    const dp_fields *fields = dp_schema_fields(schema);
    size_t n = 0;
    for (int tenants = 1; tenants >= 0; tenants--) {
        for (size_t i = 0; i < dp_fields_count(fields) && n < DP_HNSW_FIELDS_MAX; i++) {
            const dp_declared_field *f = dp_fields_peek(fields, i);
            if (f->is_tenant == (tenants == 1) && has_links(&v->hnsw, f)) {
                out[n++] = f;
            }
        }
    }
    return n;
}

bool
dp_links__are_wanted(const dp_schema *schema, uint32_t column)
{
    const dp_declared_field *fields[DP_HNSW_FIELDS_MAX];
    return fields_of(schema, column, fields) > 0;
}

static bool
is_among(const dp_declared_field *const *fields, size_t count, uint64_t number)
{
    for (size_t i = 0; i < count; i++) {
        if (field_number(fields[i]) == number) {
            return true;
        }
    }
    return false;
}

/* Nobody may search meanwhile. */
static void
drop_field(dp_shard *s, uint32_t column, uint64_t number)
{
    dp_derived *d = &s->derived[column];
    pthread_rwlock_wrlock(&s->view);
    dp_hnsw_field_drop(d->graph, number);
    pthread_rwlock_unlock(&s->view);
    d->graph_dirty = true;
}

void
dp_links__declare(dp_shard *s, uint32_t column)
{
    const dp_declared_field *fields[DP_HNSW_FIELDS_MAX];
    const dp_derived *d = &s->derived[column];
    const uint32_t m = dp_schema_peek_vector(s->kept, column)->hnsw.value_m;
    const size_t count = fields_of(s->kept, column, fields);
    ort_diag diag;
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        uint32_t kept_m;
        const uint64_t number = dp_hnsw_field_at(d->graph, i, &kept_m);
        if (number != 0 && (kept_m != m || !is_among(fields, count, number))) {
            drop_field(s, column, number);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (dp_hnsw_field_add(d->graph, field_number(fields[i]), m, &diag) != ORT_OK) {
            ORT_LOG_WARN(&log_, "links.failed", "collection=%016" PRIx64 " column=%u err=%s",
                         s->collection.v, column, diag.text);
            atomic_store(&s->graph_retry_ns, ort_mono_ns() + DP_RETRY_NS);
        }
    }
}

void
dp_links__forget_from(dp_hnsw *graph, uint32_t slot)
{
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        uint32_t m;
        const uint64_t number = dp_hnsw_field_at(graph, i, &m);
        if (number != 0) {
            dp_hnsw_field_rewind(graph, number, slot);
        }
    }
}

/* --- telling ------------------------------------------------------------------------------------
 */

typedef struct {
    uint64_t *values;
    size_t count, cap;
} gathering;

static ort_err
gather(void *ctx, const dp_payload_value *value)
{
    gathering *g = ctx;
    if (g->count == g->cap) {
        const size_t cap = g->cap == 0 ? 16 : g->cap * 2;
        uint64_t *grown = realloc(g->values, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        g->values = grown;
        g->cap = cap;
    }
    g->values[g->count] = value_number(value);
    g->count += g->count == 0 || g->values[g->count] != g->values[0];
    return ORT_OK;
}

/* One slot of the graph, all of its fields that lack it. */
static ort_err
tell_slot(dp_shard *s, dp_reader *reader, uint32_t column, const dp_declared_field *const *fields,
          size_t count, uint32_t slot, gathering *g)
{
    dp_hnsw *graph = s->derived[column].graph;
    const char *text;
    size_t len;
    ort_json_doc *doc = NULL;
    ort_err err = dp_points_payload(reader, slot, &text, &len, NULL);
    if (err != ORT_OK) {
        return dp_points_is_live(s->points, slot) ? err : ORT_OK;
    }
    if (len == 0) {
        return ORT_OK;
    }
    err = ort_json_parse(&doc, text, len, (ort_json_limits){0}, NULL);
    if (err != ORT_OK) {
        return err == ORT_ENOMEM ? err : ORT_OK; /* damage matches as {} */
    }
    for (size_t i = 0; i < count && err == ORT_OK; i++) {
        const uint64_t number = field_number(fields[i]);
        if (slot < dp_hnsw_field_end(graph, number)) {
            continue;
        }
        g->count = 0;
        err = dp_field_each_value(fields[i], ort_json_root(doc), gather, g);
        if (err == ORT_OK && g->count > 0) {
            err = dp_hnsw_value_add(graph, number, slot, g->values, g->count);
            err = err == ORT_EEXISTS || err == ORT_ENOTFOUND ? ORT_OK : err; /* it died */
        }
    }
    ort_json_free(doc);
    return err;
}

/* Slots below are known to all fields. */
static uint32_t
told_end(const dp_hnsw *graph, const dp_declared_field *const *fields, size_t count)
{
    uint32_t end = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        const uint32_t one = dp_hnsw_field_end(graph, field_number(fields[i]));
        end = one < end ? one : end;
    }
    return end;
}

static ort_err
advance(dp_hnsw *graph, const dp_declared_field *const *fields, size_t count, uint32_t end)
{
    ort_err err = ORT_OK;
    for (size_t i = 0; i < count; i++) {
        const uint64_t number = field_number(fields[i]);
        if (end > dp_hnsw_field_end(graph, number)) {
            const ort_err one = dp_hnsw_field_advance(graph, number, end);
            err = err == ORT_OK ? one : err;
        }
    }
    return err;
}

uint32_t
dp_links__tend(dp_shard *s, uint32_t column)
{
    const dp_declared_field *fields[DP_HNSW_FIELDS_MAX];
    dp_derived *d = &s->derived[column];
    const size_t count = fields_of(s->kept, column, fields);
    const uint32_t end = atomic_load_explicit(&d->indexed_end, memory_order_relaxed);
    uint32_t slot = told_end(d->graph, fields, count);
    if (count == 0 || slot >= end) {
        return 0;
    }
    const uint32_t stop = end - slot > SLICE_SLOTS ? slot + SLICE_SLOTS : end;
    gathering g = {0};
    dp_reader reader;
    ort_err err = ORT_OK;
    dp_reader_init(&reader, s->points);
    for (; slot < stop && err == ORT_OK && !atomic_load_explicit(&s->stop, memory_order_relaxed);
         slot++) {
        if (dp_hnsw_has(d->graph, slot)) {
            err = tell_slot(s, &reader, column, fields, count, slot, &g);
        }
    }
    slot -= err != ORT_OK; /* it stays in the tail, which is scanned */
    const ort_err late = advance(d->graph, fields, count, slot);
    dp_reader_fini(&reader);
    free(g.values);
    d->graph_dirty = true;
    if (err != ORT_OK || late != ORT_OK) {
        atomic_store(&s->graph_retry_ns, ort_mono_ns() + DP_RETRY_NS);
    }
    return end - slot;
}

uint64_t
dp_links__due(const dp_shard *s, uint32_t column)
{
    const dp_declared_field *fields[DP_HNSW_FIELDS_MAX];
    const dp_derived *d = &s->derived[column];
    const size_t count = fields_of(s->schema, column, fields);
    const uint32_t end = atomic_load_explicit(&d->indexed_end, memory_order_acquire);
    const uint32_t told = count > 0 ? told_end(d->graph, fields, count) : end;
    return told < end ? end - told : 0;
}

/* --- asking -------------------------------------------------------------------------------------
 */

void
dp_links__plan_fini(dp_links_plan *plan)
{
    dp_slots_free(plan->own);
    *plan = (dp_links_plan){0};
}

/* The points of one value that a filter asks for; false: it has no links, or too many slots wait
 * for theirs. */
static bool
plan_value(dp_shard *s, uint32_t column, const dp_filter_value *asked, dp_links_plan *out)
{
    const dp_hnsw *graph = s->derived[column].graph;
    const dp_declared_field *f = dp_fields_find(s->payload->fields, asked->path);
    const uint32_t slots = dp_points_slot_end(s->points);
    dp_payload_value value = asked->value;
    char room[ORT_POINT_ID_TEXT_BYTES];
    *out = (dp_links_plan){.alone = asked->alone};
    if (f == NULL) {
        return false;
    }
    dp_payload_value_spell(&value, f, room);
    out->among = (dp_hnsw_among){.field = field_number(f), .value = value_number(&value)};
    out->end = dp_hnsw_field_end(graph, out->among.field);
    const dp_payload_index *index = out->end > 0 ? dp_payload__find(s, f->name, f->name_len) : NULL;
    if (index == NULL && out->end > 0 && slots - out->end <= UNINDEXED_BEHIND_MAX) {
        out->count = dp_hnsw_value_points(graph, out->among.field, out->among.value);
        return out->count > 0;
    }
    if (index == NULL || slots - out->end > BEHIND_MAX ||
        dp_payload_index_slots(index, &value, &out->slots, &out->own) != ORT_OK ||
        out->slots == NULL) {
        return false;
    }
    out->count = dp_slots_count(out->slots);
    return true;
}

bool
dp_links__plan(dp_shard *s, uint32_t column, const dp_filter *filter, dp_links_plan *out)
{
    dp_filter_value asked;
    uint32_t m;
    bool found = false;
    *out = (dp_links_plan){0};
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX && !found; i++) {
        found = dp_hnsw_field_at(s->derived[column].graph, i, &m) != 0;
    }
    if (!found) {
        return false;
    }
    found = false;
    for (size_t i = 0; i < PLAN_VALUES_MAX && dp_filter_peek_value(filter, i, &asked); i++) {
        dp_links_plan one;
        if (plan_value(s, column, &asked, &one) && (!found || one.count < out->count)) {
            dp_links__plan_fini(out);
            *out = one;
            found = true;
        } else {
            dp_links__plan_fini(&one);
        }
    }
    return found;
}
