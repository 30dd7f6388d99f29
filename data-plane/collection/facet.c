/* What a field's index knows without a look at any payload: how often each value occurs, how many
 * points have one. */
#include <stdlib.h>

#include "collection/payload_index_internal.h"
#include "collection/query_internal.h"

/* The live slots that match, as a set; the caller's. */
static ort_err
matching(dp_matcher *m, dp_slots **out)
{
    const uint32_t end = dp_points_slot_end(m->reader->points);
    uint32_t *slots;
    size_t count;
    *out = NULL;
    const ort_err err = dp_matcher__collect(m, &slots, &count);
    if (err != ORT_OK) {
        return err;
    }
    uint64_t *words = calloc((size_t)end / 64 + 1, sizeof *words);
    for (size_t i = 0; words != NULL && i < count; i++) {
        words[slots[i] / 64] |= UINT64_C(1) << (slots[i] % 64);
    }
    *out = words != NULL ? dp_slots_of_words(words, end) : NULL;
    free(words);
    free(slots);
    return *out != NULL ? ORT_OK : ort_fail(m->diag, ORT_ENOMEM, "out of memory");
}

ort_err
dp_query__facet(dp_shard *s, const char *field, size_t len, const dp_filter *filter, dp_facet_fn fn,
                void *ctx, ort_diag *diag)
{
    dp_reader reader;
    dp_slots *among = NULL;
    ort_err err = ORT_OK;
    pthread_rwlock_rdlock(&s->view);
    const dp_payload_index *index = dp_payload__find(s, field, len);
    if (index == NULL) {
        pthread_rwlock_unlock(&s->view);
        dp_payload__schedule(s);
        return ORT_ENOTFOUND;
    }
    dp_reader_init(&reader, s->points);
    dp_matcher m = {.s = s,
                    .reader = &reader,
                    .schema = s->schema,
                    .filter = filter,
                    .column = -1,
                    .diag = diag};
    if (!dp_filter_is_empty(filter)) {
        err = matching(&m, &among);
    }
    if (err == ORT_OK) {
        err = dp_payload_index_facet(index, among != NULL ? among : s->payload->live, fn, ctx);
    }
    if (err == ORT_OK) {
        err = dp_points_check_readable(s->points, diag);
    }
    dp_slots_free(among);
    dp_matcher__fini(&m);
    dp_reader_fini(&reader);
    pthread_rwlock_unlock(&s->view);
    return err;
}

bool
dp_query__field_points(dp_shard *s, const char *field, size_t len, uint64_t *out)
{
    pthread_rwlock_rdlock(&s->view);
    const dp_payload_index *index = dp_payload__find(s, field, len);
    if (index != NULL) {
        *out = dp_payload_index_points(index, s->payload->live);
    }
    pthread_rwlock_unlock(&s->view);
    return index != NULL;
}
