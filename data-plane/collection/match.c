/* Filters against points. Payload indexes, or the ids that a filter names, say who is looked at. */
#include "collection/match_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "collection/payload_index_internal.h"

static bool
has_vector(void *ctx, const char *name)
{
    const dp_matcher *m = ctx;
    const int column = dp_schema_find_vector(m->schema, name, strlen(name));
    return column >= 0 && dp_points_has(m->reader, (uint32_t)column, m->slot);
}

ort_err
dp_matcher__bind(dp_matcher *m)
{
    if (!m->bound) {
        dp_fields *fields = m->record ? NULL : dp_schema_fields(m->schema);
        m->err = dp_filter_bind(m->filter, fields, &m->texts, m->diag);
        m->bound = m->err == ORT_OK;
    }
    return m->err;
}

void
dp_matcher__fini(dp_matcher *m)
{
    dp_filter_texts_free(m->texts);
    m->texts = NULL;
    m->bound = false;
}

/* A filter may be as costly as it likes and the points many: a request ends at its deadline. */
#define ASKED_BETWEEN 16u

static bool
is_late(dp_matcher *m)
{
    const uint64_t until = dp_filter_until_ns(m->filter);
    if (until == 0 || m->asked++ % ASKED_BETWEEN != 0 || ort_mono_ns() < until) {
        return false;
    }
    m->err = ort_fail(m->diag, ORT_ETIMEOUT, "the filter took too long: declare indexes for it");
    return true;
}

bool
dp_matcher__matches(dp_matcher *m, uint32_t slot)
{
    const char *payload = NULL;
    size_t len = 0;
    if (m->err != ORT_OK ||
        (m->column >= 0 && !dp_points_has(m->reader, (uint32_t)m->column, slot))) {
        return false;
    }
    if (dp_filter_is_empty(m->filter)) {
        return true;
    }
    if (is_late(m) || (!m->bound && dp_matcher__bind(m) != ORT_OK)) {
        return false;
    }
    if (dp_filter_wants_payload(m->filter)) {
        m->err = dp_points_payload(m->reader, slot, &payload, &len, m->diag);
        if (m->err != ORT_OK) {
            return false;
        }
    }
    m->slot = slot;
    const dp_filter_point point = {.id = dp_points_id(m->reader, slot),
                                   .payload = payload,
                                   .payload_len = len,
                                   .has_vector = has_vector,
                                   .ctx = m,
                                   .texts = m->texts,
                                   .err = &m->err};
    return dp_filter_match(m->filter, &point) && m->err == ORT_OK;
}

typedef struct {
    uint32_t *slots;
    size_t count, cap;
} slot_list;

static ort_err
add_slot(slot_list *list, uint32_t slot)
{
    if (list->count == list->cap) {
        const size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        uint32_t *grown = realloc(list->slots, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        list->slots = grown;
        list->cap = cap;
    }
    list->slots[list->count++] = slot;
    return ORT_OK;
}

typedef struct {
    dp_matcher *m;
    ort_err (*keep)(void *ctx, uint32_t slot);
    void *ctx;
    bool sure;
    ort_err err;
} keeping;

static bool
keep_told(void *ctx, uint32_t slot)
{
    keeping *k = ctx;
    dp_matcher *m = k->m;
    const bool matches = k->sure
                             ? m->column < 0 || dp_points_has(m->reader, (uint32_t)m->column, slot)
                             : dp_matcher__matches(m, slot);
    k->err = matches ? k->keep(k->ctx, slot) : m->err;
    return k->err == ORT_OK && m->err == ORT_OK;
}

/* Those that the indexes are sure of, then those they leave open. */
static ort_err
each_told(dp_matcher *m, const dp_verdict *v, ort_err (*keep)(void *ctx, uint32_t slot), void *ctx)
{
    keeping k = {.m = m, .keep = keep, .ctx = ctx, .sure = true};
    dp_slots_each(v->sure, keep_told, &k);
    if (k.err == ORT_OK && m->err == ORT_OK && v->maybe != NULL) {
        k.sure = false;
        dp_slots_each(v->maybe, keep_told, &k);
    }
    return k.err != ORT_OK ? k.err : m->err;
}

/* Calls keep for every live slot that matches. */
static ort_err
each_match(dp_matcher *m, ort_err (*keep)(void *ctx, uint32_t slot), void *ctx)
{
    const dp_points *points = m->reader->points;
    const ort_point_id *ids;
    size_t count;
    ort_err err = ORT_OK;
    dp_verdict told;
    bool useful = false;
    if (dp_filter_peek_ids(m->filter, &ids, &count)) {
        for (size_t i = 0; err == ORT_OK && i < count; i++) {
            uint32_t slot;
            const ort_err found = dp_points_find(m->reader, ids[i], &slot, m->diag);
            if (found != ORT_OK && found != ORT_ENOTFOUND) {
                return found;
            }
            if (found == ORT_OK && dp_matcher__matches(m, slot)) {
                err = keep(ctx, slot);
            }
        }
        return err != ORT_OK ? err : m->err;
    }
    err = dp_payload__evaluate(m, &told, &useful);
    if (useful) {
        err = each_told(m, &told, keep, ctx);
        dp_verdict_fini(&told);
    } else if (err == ORT_OK) {
        for (uint32_t slot = dp_points_next_live(points, 0);
             err == ORT_OK && m->err == ORT_OK && slot != DP_SLOT_NONE;
             slot = dp_points_next_live(points, slot + 1)) {
            if (dp_matcher__matches(m, slot)) {
                err = keep(ctx, slot);
            }
        }
    }
    return err != ORT_OK ? err : m->err;
}

static ort_err
keep_slot(void *ctx, uint32_t slot)
{
    return add_slot(ctx, slot);
}

ort_err
dp_matcher__collect(dp_matcher *m, uint32_t **slots_out, size_t *count_out)
{
    slot_list list = {0};
    const ort_err err = each_match(m, keep_slot, &list);
    if (err != ORT_OK) {
        free(list.slots);
        list = (slot_list){0};
    }
    *slots_out = list.slots;
    *count_out = list.count;
    return err;
}

ort_err
dp_matcher__collect_told(dp_matcher *m, const dp_verdict *told, uint32_t **slots_out,
                         size_t *count_out)
{
    slot_list list = {0};
    const ort_err err = each_told(m, told, keep_slot, &list);
    if (err != ORT_OK) {
        free(list.slots);
        list = (slot_list){0};
    }
    *slots_out = list.slots;
    *count_out = list.count;
    return err;
}

static ort_err
keep_count(void *ctx, uint32_t slot)
{
    (void)slot;
    ++*(uint64_t *)ctx;
    return ORT_OK;
}

ort_err
dp_matcher__count(dp_matcher *m, uint64_t *out)
{
    *out = 0;
    if (dp_filter_is_empty(m->filter) && m->column < 0) {
        *out = dp_points_live_count(m->reader->points);
        return ORT_OK;
    }
    return each_match(m, keep_count, out);
}
