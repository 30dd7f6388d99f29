/* Reading points without comparing vectors: by id, in id order, counted. */
#include <stdlib.h>

#include "collection/match_internal.h"
#include "collection/query_internal.h"
#include "collection/view_internal.h"

#define PAGE 256u

ort_err
dp_query__list(dp_shard *s, dp_reader *reader, const dp_filter *filter, const ort_point_id *from,
               uint64_t limit, ort_err (*fn)(void *ctx, dp_id_slot at), void *ctx, bool *more,
               ort_point_id *next, ort_diag *diag)
{
    dp_id_slot page[PAGE];
    dp_matcher m = {
        .reader = reader, .schema = s->schema, .filter = filter, .column = -1, .diag = diag};
    ort_point_id at = from != NULL ? *from : ort_point_id_of(0);
    bool after = false;
    size_t n = PAGE;
    uint64_t found = 0;
    *more = false;
    while (n == PAGE) {
        ort_err err = dp_points_scroll(reader, &at, after, page, PAGE, &n, diag);
        for (size_t i = 0; err == ORT_OK && i < n; i++) {
            if (!dp_matcher__matches(&m, page[i].slot)) {
                err = m.err;
                continue;
            }
            if (found++ == limit) {
                *more = true;
                *next = page[i].id;
                return ORT_OK;
            }
            err = fn(ctx, page[i]);
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
    dp_matcher m = {
        .reader = &l->reader, .schema = s->schema, .filter = filter, .column = -1, .diag = diag};
    const ort_err err = dp_matcher__count(&m, out);
    return look_end(l, err);
}
