/* What an operation does to the points of a shard. The same function runs for a write of a moment
 * ago, for a restart's replay and (later) on a replica, and looks at nothing but the record and the
 * points: equal logs make equal points. */
#include <stdlib.h>
#include <string.h>

#include "collection/match_internal.h"
#include "collection/payload_index_internal.h"
#include "collection/payload_internal.h"

#define COPIES_MAX DP_COLUMNS_MAX

/* One record being applied. */
typedef struct {
    dp_shard *s;
    const dp_op_record *record;
    uint64_t lsn;
    dp_reader reader;
    dp_filter *filter; /* parsed when the record has one */
    uint32_t changed;
    bool missing;        /* an id that had to be there is not */
    ort_point_id absent; /* the first of those */
    ort_diag *diag;
} apply;

/* A point on its way into a new slot. */
typedef struct {
    dp_point_in in;
    dp_value values[DP_COLUMNS_MAX];
    void *copies[COPIES_MAX]; /* of what was borrowed from an old slot's blocks */
    uint32_t copy_count;
    ort_buf payload;
} draft;

static void
draft_fini(draft *d)
{
    for (uint32_t i = 0; i < d->copy_count; i++) {
        free(d->copies[i]);
    }
    ort_buf_fini(&d->payload);
}

static size_t
row_bytes(const dp_vector_schema *v)
{
    return (size_t)v->size * dp_elem_bytes(v->elem);
}

static bool
is_bytes_column(const dp_vector_schema *v)
{
    return v->sparse || v->multi;
}

/* --- derived data: counts, sparse lists, what graphs must hear of -------------------------------
 */

static ort_err
list_vector(apply *a, uint32_t column, uint32_t slot, bool dead)
{
    dp_shard *s = a->s;
    dp_derived *derived = &s->derived[column];
    const void *data;
    size_t len;
    if (!dp_points_has(&a->reader, column, slot)) {
        return ORT_OK;
    }
    derived->live_count = dead ? derived->live_count - 1 : derived->live_count + 1;
    if (derived->sparse == NULL) {
        return ORT_OK;
    }
    ort_err err = dp_points_bytes(&a->reader, column, slot, &data, &len, a->diag);
    if (err != ORT_OK) {
        return err;
    }
    if (dead) {
        const dp_slot_set live = {.words = dp_points_live_words(s->points),
                                  .slot_end = dp_points_slot_end(s->points)};
        dp_sparse__remove(derived->sparse, &live, data, (uint32_t)(len / 8));
        return ORT_OK;
    }
    return dp_sparse__add(derived->sparse, slot, data, (uint32_t)(len / 8));
}

static ort_err
list_slot(apply *a, uint32_t slot, bool dead)
{
    ort_err err = ORT_OK;
    for (uint32_t c = 0; err == ORT_OK && c < a->s->derived_count; c++) {
        err = list_vector(a, c, slot, dead);
    }
    if (dead) {
        dp_shard__note_dead(a->s, slot);
        dp_payload__remove(a->s, slot);
    } else {
        dp_payload__add(a->s, &a->reader, slot);
    }
    return err;
}

static ort_err
put_draft(apply *a, draft *d)
{
    uint32_t slot, old;
    d->in.version = a->lsn;
    d->in.values = d->values;
    ort_err err = dp_points_put(a->s->points, &d->in, &slot, &old, a->diag);
    if (err == ORT_OK && old != DP_SLOT_NONE) {
        err = list_slot(a, old, true);
    }
    err = err == ORT_OK ? list_slot(a, slot, false) : err;
    a->changed += err == ORT_OK;
    return err;
}

/* --- drafts -------------------------------------------------------------------------------------
 */

/* Everything the point of this slot has. */
static ort_err
draft_from_slot(apply *a, uint32_t slot, draft *d)
{
    const char *payload;
    size_t len;
    d->in.id = dp_points_id(&a->reader, slot);
    ort_err err = dp_points_payload(&a->reader, slot, &payload, &len, a->diag);
    if (err != ORT_OK) {
        return err;
    }
    ort_buf_put(&d->payload, payload, len);
    d->in.payload = (dp_value){.data = d->payload.data, .len = d->payload.len};
    for (uint32_t c = 0; c < a->s->derived_count; c++) {
        const dp_vector_schema *v = dp_schema_peek_vector(a->s->schema, c);
        const void *data;
        if (!dp_points_has(&a->reader, c, slot)) {
            continue;
        }
        if (!is_bytes_column(v)) {
            err = dp_points_check_row(&a->reader, c, slot, a->diag);
            if (err != ORT_OK) {
                return err;
            }
            d->values[c] =
                (dp_value){.data = dp_points_row(&a->reader, c, slot), .len = row_bytes(v)};
            continue;
        }
        err = dp_points_bytes(&a->reader, c, slot, &data, &len, a->diag);
        void *copy = err == ORT_OK ? malloc(len + 1) : NULL;
        if (copy == NULL) {
            return err != ORT_OK ? err : ORT_ENOMEM;
        }
        memcpy(copy, data, len);
        d->copies[d->copy_count++] = copy;
        d->values[c] = (dp_value){.data = copy, .len = len};
    }
    return ort_buf_check(&d->payload);
}

static void
set_vectors(apply *a, const dp_op_point *point, draft *d)
{
    ort_cursor at = point->vectors;
    dp_op_vector v;
    for (uint32_t n = point->vector_count; dp_op__next_vector(a->record, &at, &n, &v);) {
        /* An empty sparse vector is there, with nothing in it. */
        d->values[v.column] = (dp_value){.data = v.data, .len = v.bytes};
    }
}

static ort_err
find(apply *a, ort_point_id id, uint32_t *slot)
{
    *slot = DP_SLOT_NONE;
    const ort_err err = dp_points_find(&a->reader, id, slot, a->diag);
    return err == ORT_ENOTFOUND ? ORT_OK : err;
}

static void
note_missing(apply *a, ort_point_id id)
{
    if (!a->missing) {
        a->missing = true;
        a->absent = id;
    }
}

static ort_err
filter_holds(apply *a, uint32_t slot, bool *out)
{
    dp_matcher m = {.s = a->s,
                    .record = true,
                    .reader = &a->reader,
                    .schema = a->s->schema,
                    .filter = a->filter,
                    .column = -1,
                    .diag = a->diag};
    *out = dp_matcher__matches(&m, slot);
    dp_matcher__fini(&m);
    return m.err;
}

/* --- the operations -----------------------------------------------------------------------------
 */

static ort_err
upsert_point(apply *a, const dp_op_point *point)
{
    uint32_t slot;
    bool holds = true;
    ort_err err = find(a, point->id, &slot);
    if (err == ORT_OK && slot != DP_SLOT_NONE && a->filter != NULL) {
        err = filter_holds(a, slot, &holds);
    }
    const bool exists = slot != DP_SLOT_NONE;
    if (err != ORT_OK || !holds || (exists && a->record->mode == DP_MODE_INSERT_ONLY) ||
        (!exists && a->record->mode == DP_MODE_UPDATE_ONLY)) {
        return err;
    }
    draft d = {.in = {.id = point->id,
                      .payload = {.data = point->payload.text, .len = point->payload.len}}};
    set_vectors(a, point, &d);
    return put_draft(a, &d);
}

static ort_err
update_vectors_of(apply *a, const dp_op_point *point)
{
    uint32_t slot;
    bool holds = true;
    draft d = {0};
    ort_err err = find(a, point->id, &slot);
    if (err == ORT_OK && slot == DP_SLOT_NONE) {
        note_missing(a, point->id);
        return ORT_OK;
    }
    if (err == ORT_OK && a->filter != NULL) {
        err = filter_holds(a, slot, &holds);
    }
    if (err == ORT_OK && holds) {
        err = draft_from_slot(a, slot, &d);
        if (err == ORT_OK) {
            set_vectors(a, point, &d);
            err = put_draft(a, &d);
        }
    }
    draft_fini(&d);
    return err;
}

static ort_err
apply_points(apply *a)
{
    ort_cursor c = a->record->points;
    dp_op_point point;
    ort_err err = ORT_OK;
    for (uint32_t left = a->record->point_count;
         err == ORT_OK && dp_op__next_point(a->record, &c, &left, &point);) {
        err = a->record->kind == DP_OP_UPSERT ? upsert_point(a, &point)
                                              : update_vectors_of(a, &point);
    }
    return err;
}

static ort_err
delete_point(apply *a, ort_point_id id)
{
    uint32_t old;
    const ort_err err = dp_points_kill(a->s->points, id, &old, a->diag);
    if (err != ORT_OK || old == DP_SLOT_NONE) {
        return err;
    }
    a->changed++;
    return list_slot(a, old, true);
}

/* The new payload of a draft that holds the old one. */
static ort_err
change_payload(apply *a, draft *d)
{
    const dp_op_record *r = a->record;
    ort_buf now = {0};
    ort_err err = ORT_OK;
    switch (r->kind) {
    case DP_OP_SET_PAYLOAD:
        err = dp_payload__merge(d->payload.data, d->payload.len, r->payload, r->key, &now, a->diag);
        break;
    case DP_OP_OVERWRITE_PAYLOAD:
        if (r->key.len > 0) {
            err = dp_payload__merge(d->payload.data, d->payload.len, r->payload, r->key, &now,
                                    a->diag);
        } else {
            ort_buf_put(&now, r->payload.text, r->payload.len);
            err = ort_buf_check(&now);
        }
        break;
    case DP_OP_DELETE_PAYLOAD:
        err = dp_payload__delete(d->payload.data, d->payload.len, r->names, r->name_count, &now,
                                 a->diag);
        break;
    default: /* clear */
        break;
    }
    ort_buf_fini(&d->payload);
    d->payload = now;
    d->in.payload = (dp_value){.data = now.data, .len = now.len};
    return err;
}

static ort_err
change_point(apply *a, uint32_t slot)
{
    const dp_op_record *r = a->record;
    draft d = {0};
    ort_err err = draft_from_slot(a, slot, &d);
    if (err == ORT_OK && r->kind == DP_OP_DELETE_VECTORS) {
        for (uint32_t i = 0; i < r->column_count; i++) {
            d.values[ort_get_u16(r->columns + (size_t)i * 2)] = (dp_value){0};
        }
    } else if (err == ORT_OK) {
        err = change_payload(a, &d);
    }
    err = err == ORT_OK ? put_draft(a, &d) : err;
    draft_fini(&d);
    return err;
}

static ort_err
change_id(apply *a, ort_point_id id)
{
    uint32_t slot;
    if (a->record->kind == DP_OP_DELETE) {
        return delete_point(a, id);
    }
    const ort_err err = find(a, id, &slot);
    if (err != ORT_OK || slot == DP_SLOT_NONE) {
        if (err == ORT_OK && a->record->kind != DP_OP_DELETE_VECTORS) {
            note_missing(a, id);
        }
        return err;
    }
    return change_point(a, slot);
}

/* Who matches is settled before the first is changed: a change makes a new slot, which a walk would
 * meet again. */
static ort_err
apply_filter(apply *a)
{
    uint32_t *slots;
    size_t count;
    dp_matcher m = {.s = a->s,
                    .record = true,
                    .reader = &a->reader,
                    .schema = a->s->schema,
                    .filter = a->filter,
                    .column = -1,
                    .diag = a->diag};
    ort_err err = dp_matcher__collect(&m, &slots, &count);
    dp_matcher__fini(&m);
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        err = change_id(a, dp_points_id(&a->reader, slots[i]));
    }
    free(slots);
    return err;
}

static ort_err
apply_target(apply *a)
{
    ort_err err = ORT_OK;
    if (a->record->target == DP_TARGET_FILTER) {
        return apply_filter(a);
    }
    for (uint32_t i = 0; err == ORT_OK && i < a->record->id_count; i++) {
        err = change_id(a, dp_op__id(a->record, i));
    }
    return err;
}

static ort_err
begin(apply *a, dp_shard *s, const dp_op_record *record, ort_diag *diag)
{
    *a = (apply){.s = s, .record = record, .diag = diag};
    if (record->filter.len > 0) {
        const ort_err err =
            dp_filter_parse_text(&a->filter, record->filter.text, record->filter.len, diag);
        if (err != ORT_OK) {
            return err == ORT_ENOMEM ? err : ORT_ECORRUPT;
        }
    }
    dp_reader_init(&a->reader, s->points);
    return ORT_OK;
}

static void
end(apply *a)
{
    dp_reader_fini(&a->reader);
    dp_filter_free(a->filter);
}

ort_err
dp_shard__apply(dp_shard *s, const dp_op_record *record, uint64_t lsn, uint32_t *points_out,
                ort_diag *diag)
{
    apply a;
    ort_err err = begin(&a, s, record, diag);
    *points_out = 0;
    if (err != ORT_OK) {
        return err;
    }
    a.lsn = lsn;
    const bool points = record->kind == DP_OP_UPSERT || record->kind == DP_OP_UPDATE_VECTORS;
    err = points ? apply_points(&a) : apply_target(&a);
    end(&a);
    atomic_store_explicit(&s->slot_end, dp_points_slot_end(s->points), memory_order_release);
    *points_out = a.changed;
    if (err == ORT_OK && a.missing) {
        char text[ORT_POINT_ID_TEXT_BYTES];
        ort_point_id_format(a.absent, text);
        return ort_fail(diag, ORT_ENOTFOUND, "No point with id %s found", text);
    }
    return err;
}

ort_err
dp_shard__list_all(dp_shard *s, ort_diag *diag)
{
    apply a = {.s = s, .diag = diag};
    ort_err err = ORT_OK;
    dp_reader_init(&a.reader, s->points);
    for (uint32_t slot = dp_points_next_live(s->points, 0); err == ORT_OK && slot != DP_SLOT_NONE;
         slot = dp_points_next_live(s->points, slot + 1)) {
        err = list_slot(&a, slot, false);
    }
    dp_reader_fini(&a.reader);
    return err;
}

typedef struct {
    apply a;
    ort_err err;
} relocation;

static void
list_moved(void *ctx, uint32_t old_slot, uint32_t new_slot)
{
    relocation *r = ctx;
    ort_err err = list_slot(&r->a, old_slot, true);
    err = err == ORT_OK ? list_slot(&r->a, new_slot, false) : err;
    r->err = r->err == ORT_OK ? err : r->err;
}

ort_err
dp_shard__relocate(dp_shard *s, uint32_t max, uint32_t *moved, ort_diag *diag)
{
    relocation r = {.a = {.s = s, .diag = diag}};
    *moved = 0;
    dp_reader_init(&r.a.reader, s->points);
    const ort_err err = dp_points_relocate(s->points, max, list_moved, &r, moved, diag);
    dp_reader_fini(&r.a.reader);
    atomic_store_explicit(&s->slot_end, dp_points_slot_end(s->points), memory_order_release);
    return err != ORT_OK ? err : r.err;
}

/* --- what an operation would add ----------------------------------------------------------------
 */

static int64_t
point_bytes(const dp_op_record *record, const dp_op_point *point)
{
    ort_cursor at = point->vectors;
    dp_op_vector v;
    size_t bytes = ORT_POINT_ID_BYTES + point->payload.len;
    for (uint32_t n = point->vector_count; dp_op__next_vector(record, &at, &n, &v);) {
        bytes += v.bytes;
    }
    return (int64_t)bytes;
}

/* What a payload operation may add to one point: the patch, its path as nested keys, commas. */
static int64_t
payload_growth(const dp_op_record *record)
{
    const bool grows = record->kind == DP_OP_SET_PAYLOAD || record->kind == DP_OP_OVERWRITE_PAYLOAD;
    return grows ? (int64_t)record->payload.len + 6 * (int64_t)record->key.len + 8 : 0;
}

void
dp_shard__worst(const dp_shard *s, const dp_op_record *record, dp_amount *out, bool *bounded)
{
    ort_cursor c = record->points;
    dp_op_point point;
    (void)s;
    *out = (dp_amount){0};
    *bounded = true;
    for (uint32_t left = record->point_count; dp_op__next_point(record, &c, &left, &point);) {
        out->bytes += point_bytes(record, &point);
        out->points += record->kind == DP_OP_UPSERT && record->mode != DP_MODE_UPDATE_ONLY;
    }
    const int64_t growth = payload_growth(record);
    out->bytes += growth * record->id_count;
    *bounded = growth == 0 || record->target != DP_TARGET_FILTER;
}

/* A point of an upsert, for finding repeats: the last one counts. */
typedef struct {
    ort_point_id id;
    uint32_t index;
    int64_t bytes;
} planned;

static int
order_planned(const void *a, const void *b)
{
    const planned *x = a, *y = b;
    const int c = ort_point_id_cmp(x->id, y->id);
    return c != 0 ? c : x->index < y->index ? -1 : 1;
}

static ort_err
plan_point(apply *a, const planned *p, dp_amount *out)
{
    uint32_t slot;
    uint64_t bytes = 0;
    bool holds = true;
    ort_err err = find(a, p->id, &slot);
    if (err == ORT_OK && slot != DP_SLOT_NONE) {
        err = dp_points_slot_bytes(&a->reader, slot, &bytes, a->diag);
        if (err == ORT_OK && a->filter != NULL) {
            err = filter_holds(a, slot, &holds);
        }
        if (holds && a->record->mode != DP_MODE_INSERT_ONLY) {
            out->bytes += p->bytes - (int64_t)bytes;
        }
    } else if (err == ORT_OK && a->record->mode != DP_MODE_UPDATE_ONLY) {
        out->points++;
        out->bytes += p->bytes;
    }
    return err;
}

static ort_err
plan_upsert(apply *a, dp_amount *out)
{
    const uint32_t count = a->record->point_count;
    planned *list = calloc((size_t)count + 1, sizeof *list);
    ort_cursor c = a->record->points;
    dp_op_point point;
    uint32_t n = 0;
    ort_err err = ORT_OK;
    if (list == NULL) {
        return ORT_ENOMEM;
    }
    for (uint32_t left = count; dp_op__next_point(a->record, &c, &left, &point); n++) {
        list[n] = (planned){.id = point.id, .index = n, .bytes = point_bytes(a->record, &point)};
    }
    qsort(list, n, sizeof *list, order_planned);
    for (uint32_t i = 0; err == ORT_OK && i < n; i++) {
        if (i + 1 == n || !ort_point_id_eq(list[i].id, list[i + 1].id)) {
            err = plan_point(a, &list[i], out);
        }
    }
    free(list);
    return err;
}

ort_err
dp_shard__plan(dp_shard *s, const dp_op_record *record, dp_amount *out, ort_diag *diag)
{
    apply a;
    bool bounded;
    ort_err err = begin(&a, s, record, diag);
    if (err != ORT_OK) {
        return err;
    }
    dp_shard__worst(s, record, out, &bounded);
    if (record->kind == DP_OP_UPSERT) {
        *out = (dp_amount){0};
        err = plan_upsert(&a, out);
    } else if (!bounded) {
        uint64_t count;
        dp_matcher m = {.s = s,
                        .record = true,
                        .reader = &a.reader,
                        .schema = s->schema,
                        .filter = a.filter,
                        .column = -1,
                        .diag = diag};
        err = dp_matcher__count(&m, &count);
        dp_matcher__fini(&m);
        out->bytes = payload_growth(record) * (int64_t)count;
    }
    /* A batch that shrinks in sum needs no room, though it may pass through larger states: those
     * are seen by nobody. */
    out->points = out->points > 0 ? out->points : 0;
    out->bytes = out->bytes > 0 ? out->bytes : 0;
    end(&a);
    return err;
}
