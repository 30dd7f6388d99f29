/* The index of a payload field, against the payloads. */
#include <inttypes.h>
#include <stdlib.h>

#include "filter/payload_index.h"
#include "inspect/inspect_internal.h"

/* The live slots below `end`; NULL: no memory. */
static dp_slots *
live_below(const dp_points *points, uint32_t end)
{
    const size_t count = (size_t)end / 64 + 1;
    const _Atomic(uint64_t) *live = dp_points_live_words(points);
    uint64_t *words = calloc(count, sizeof *words);
    if (words == NULL) {
        return NULL;
    }
    for (size_t w = 0; w * 64 < end; w++) {
        words[w] =
            atomic_load_explicit((_Atomic(uint64_t) *)(uintptr_t)&live[w], memory_order_relaxed);
    }
    dp_slots *set = dp_slots_of_words(words, end);
    free(words);
    return set;
}

static ort_err
add_payload(dp_payload_index *to, dp_reader *reader, uint32_t slot, ort_diag *diag)
{
    const char *text;
    size_t len;
    ort_json_doc *doc = NULL;
    ort_err err = dp_points_payload(reader, slot, &text, &len, diag);
    if (err == ORT_OK && len > 0 &&
        ort_json_parse(&doc, text, len, (ort_json_limits){0}, NULL) == ORT_ENOMEM) {
        err = ORT_ENOMEM;
    }
    if (err == ORT_OK) {
        err = dp_payload_index_add(to, slot, doc != NULL ? ort_json_root(doc) : (ort_json){0});
    }
    ort_json_free(doc);
    return err;
}

/* Made once more from the payloads, it says of as many points that they have a value. Of points
 * that the log behind the checkpoint deletes, an index may have let go already. */
static ort_err
compare(const dp_derived_files *d, const dp_payload_index *index, dp_fields *fields, size_t field,
        uint32_t end, ort_diag *diag)
{
    dp_payload_index *fresh = NULL;
    dp_reader reader;
    dp_slots *live = live_below(d->points, end);
    ort_err err = live == NULL ? ORT_ENOMEM : dp_payload_index_new(&fresh, fields, field);
    dp_reader_init(&reader, d->points);
    for (uint32_t slot = dp_points_next_live(d->points, 0);
         err == ORT_OK && slot != DP_SLOT_NONE && slot < end;
         slot = dp_points_next_live(d->points, slot + 1)) {
        err = add_payload(fresh, &reader, slot, diag);
    }
    dp_reader_fini(&reader);
    if (err == ORT_OK) {
        const uint64_t has = dp_payload_index_points(index, live);
        const uint64_t wanted = dp_payload_index_points(fresh, live);
        if (has > wanted || (has < wanted && d->folded)) {
            err = ort_fail(diag, ORT_ECORRUPT,
                           "%" PRIu64 " points have a value in it, and in their payloads %" PRIu64,
                           has, wanted);
        }
    }
    dp_payload_index_free(fresh);
    dp_slots_free(live);
    return err;
}

ort_err
dp_inspect__payload_index(dp_derived_files *d, size_t field, ort_diag *diag)
{
    dp_fields *fields = dp_schema_fields(d->entry->schema);
    dp_payload_index *index = NULL;
    const dp_payload_index_stamp stamp = {.tenant = d->tenant,
                                          .collection = d->entry->id,
                                          .generation = dp_points_generation(d->points),
                                          .slot_end = dp_points_sealed_end(d->points)};
    ort_err err = dp_payload_index_load(&index, fields, field, d->index_dir, &stamp, diag);
    if (err == ORT_OK) {
        err = compare(d, index, fields, field, stamp.slot_end, diag);
    }
    dp_payload_index_free(index);
    return err;
}
