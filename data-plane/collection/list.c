/* Reading points without comparing vectors: by id, in id order, counted. */
#include <stdlib.h>

#include "collection/payload_index_internal.h"
#include "collection/query_internal.h"
#include "collection/view_internal.h"

#define PAGE 256u

#define SORTED_MAX 4096u /* matches that are listed by sorting their ids, not by walking all */

/* Where a listing has come to. */
typedef struct {
    ort_err (*fn)(void *ctx, dp_id_slot at);
    void *ctx;
    uint64_t limit, found;
    bool *more;
    ort_point_id *next;
} listing;

/* One match; *full: it was one too many, and is where the next page begins. */
static ort_err
list_one(listing *l, dp_id_slot at, bool *full)
{
    *full = l->found++ == l->limit;
    if (*full) {
        *l->more = true;
        *l->next = at.id;
        return ORT_OK;
    }
    return l->fn(l->ctx, at);
}

static int
order_by_id(const void *a, const void *b)
{
    return ort_point_id_cmp(((const dp_id_slot *)a)->id, ((const dp_id_slot *)b)->id);
}

/* Few matches, known to the indexes. */
static ort_err
list_told(listing *l, dp_matcher *m, const dp_verdict *told, const ort_point_id *from)
{
    const size_t most = (size_t)told->max;
    uint32_t *slots = malloc((most + 1) * sizeof *slots);
    dp_id_slot *found = malloc((most + 1) * sizeof *found);
    size_t n = 0;
    ort_err err = slots != NULL && found != NULL ? ORT_OK : ORT_ENOMEM;
    if (err == ORT_OK) {
        dp_slots_list(told->sure, slots);
        if (told->maybe != NULL) {
            dp_slots_list(told->maybe, slots + told->min);
        }
    }
    for (size_t i = 0; err == ORT_OK && i < most; i++) {
        const dp_id_slot at = {.id = dp_points_id(m->reader, slots[i]), .slot = slots[i]};
        if ((from == NULL || ort_point_id_cmp(at.id, *from) >= 0) &&
            (i < told->min || dp_matcher__matches(m, at.slot))) {
            found[n++] = at;
        }
        err = m->err;
    }
    if (err == ORT_OK && n > 1) {
        qsort(found, n, sizeof *found, order_by_id);
    }
    bool full = false;
    for (size_t i = 0; err == ORT_OK && i < n && !full; i++) {
        err = list_one(l, found[i], &full);
    }
    free(slots);
    free(found);
    return err;
}

/* In the order of ids, asking each point; told NULL: the indexes know nothing. */
static ort_err
list_walking(listing *l, dp_matcher *m, const dp_verdict *told, const ort_point_id *from)
{
    dp_id_slot page[PAGE];
    ort_point_id at = from != NULL ? *from : ort_point_id_of(0);
    bool after = false, full = false;
    size_t n = PAGE;
    while (n == PAGE && !full) {
        ort_err err = dp_points_scroll(m->reader, &at, after, page, PAGE, &n, m->diag);
        for (size_t i = 0; err == ORT_OK && i < n && !full; i++) {
            const uint32_t slot = page[i].slot;
            const bool sure = told != NULL && dp_slots_has(told->sure, slot);
            const bool open =
                told == NULL || (told->maybe != NULL && dp_slots_has(told->maybe, slot));
            if (sure || (open && dp_matcher__matches(m, slot))) {
                err = list_one(l, page[i], &full);
            }
            err = err == ORT_OK ? m->err : err;
        }
        if (err != ORT_OK) {
            return err;
        }
        if (n > 0) {
            at = page[n - 1].id;
            after = true;
        }
    }
    return ORT_OK;
}

ort_err
dp_query__list(dp_shard *s, dp_reader *reader, const dp_filter *filter, const ort_point_id *from,
               uint64_t limit, ort_err (*fn)(void *ctx, dp_id_slot at), void *ctx, bool *more,
               ort_point_id *next, ort_diag *diag)
{
    dp_matcher m = {.s = s,
                    .reader = reader,
                    .schema = s->schema,
                    .filter = filter,
                    .column = -1,
                    .diag = diag};
    listing l = {.fn = fn, .ctx = ctx, .limit = limit, .more = more, .next = next};
    dp_verdict told;
    bool useful;
    *more = false;
    ort_err err = dp_payload__evaluate(&m, &told, &useful);
    if (useful) {
        err = told.max <= SORTED_MAX ? list_told(&l, &m, &told, from)
                                     : list_walking(&l, &m, &told, from);
        dp_verdict_fini(&told);
    } else if (err == ORT_OK) {
        err = list_walking(&l, &m, NULL, from);
    }
    dp_matcher__fini(&m);
    return err;
}

/* One locked look at a shard. */
typedef struct {
    dp_reader reader;
    dp_viewer viewer;
} look;

static look *
look_begin(dp_shard *s, bool want_payload, dp_point_fn fn, void *ctx, ort_diag *diag)
{
    look *l = calloc(1, sizeof *l);
    if (l == NULL) {
        (void)ort_fail(diag, ORT_ENOMEM, "out of memory");
        return NULL;
    }
    pthread_rwlock_rdlock(&s->view);
    dp_reader_init(&l->reader, s->points);
    l->viewer = (dp_viewer){.s = s,
                            .reader = &l->reader,
                            .want_payload = want_payload,
                            .fn = fn,
                            .ctx = ctx,
                            .diag = diag};
    return l;
}

/* What the answer is: err, or that what was read was not there to be read. */
static ort_err
look_end(look *l, ort_err err)
{
    dp_shard *s = l->viewer.s;
    if (err == ORT_OK) {
        err = dp_points_check_readable(s->points, l->viewer.diag);
    }
    dp_viewer__fini(&l->viewer);
    dp_reader_fini(&l->reader);
    pthread_rwlock_unlock(&s->view);
    free(l);
    return err;
}

ort_err
dp_query__retrieve(dp_shard *s, const ort_point_id *ids, size_t count, bool want_payload,
                   dp_point_fn fn, void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    look *l = look_begin(s, want_payload, fn, ctx, diag);
    uint64_t *shown = l != NULL ? calloc((size_t)dp_points_slot_end(s->points) / 64 + 1, 8) : NULL;
    if (shown == NULL) {
        (void)ort_fail(diag, ORT_ENOMEM, "out of memory");
        err = ORT_ENOMEM;
    }
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        uint32_t slot;
        err = dp_points_find(&l->reader, ids[i], &slot, diag);
        if (err == ORT_ENOTFOUND) {
            err = ORT_OK;
        } else if (err == ORT_OK && (shown[slot / 64] >> (slot % 64) & 1) == 0) {
            shown[slot / 64] |= UINT64_C(1) << (slot % 64);
            err = dp_viewer__show(&l->viewer, 0, slot, 0);
        }
    }
    free(shown);
    if (l != NULL) {
        err = look_end(l, err);
    }
    return err;
}

static ort_err
show(void *ctx, dp_id_slot at)
{
    return dp_viewer__show(ctx, 0, at.slot, 0);
}

ort_err
dp_query__scroll(dp_shard *s, const dp_filter *filter, const ort_point_id *from, uint64_t limit,
                 bool want_payload, dp_point_fn fn, void *ctx, bool *more, ort_point_id *next,
                 ort_diag *diag)
{
    look *l = look_begin(s, want_payload, fn, ctx, diag);
    if (l == NULL) {
        return ORT_ENOMEM;
    }
    const ort_err err =
        dp_query__list(s, &l->reader, filter, from, limit, show, &l->viewer, more, next, diag);
    return look_end(l, err);
}

ort_err
dp_query__count(dp_shard *s, const dp_filter *filter, uint64_t *out, ort_diag *diag)
{
    look *l = look_begin(s, false, NULL, NULL, diag);
    if (l == NULL) {
        return ORT_ENOMEM;
    }
    dp_matcher m = {.s = s,
                    .reader = &l->reader,
                    .schema = s->schema,
                    .filter = filter,
                    .column = -1,
                    .diag = diag};
    const ort_err err = dp_matcher__count(&m, out);
    dp_matcher__fini(&m);
    return look_end(l, err);
}
