/* data-plane/filter/payload_index.h: which points have which values in one field of their payload.
 */
#ifndef DP_PAYLOAD_INDEX_H
#define DP_PAYLOAD_INDEX_H
#include "base/id.h"
#include "base/point_id.h"
#include "filter/field.h"
#include "filter/slots.h"

/* The index of one declared field over slots. What a slot holds never changes, so a slot is added
 * once, and taken out by a sweep after it died; in between it stands here although it is dead, and
 * whoever asks leaves dead slots out. Threads: any number of readers, or one writer. */
typedef struct dp_payload_index dp_payload_index;

/* An empty index. A reference to fields is kept. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_payload_index_new(dp_payload_index **out, dp_fields *fields,
                                           size_t field_index);
void dp_payload_index_free(dp_payload_index *index); /* NULL is fine */

const dp_declared_field *dp_payload_index_field(const dp_payload_index *index);

/* Adds a slot with this payload (NONE stands for {}). The slot was not added before, or swept.
 * ORT_ENOMEM: part of it may stand there; the index is of no use any more. */
ORT_NODISCARD ort_err dp_payload_index_add(dp_payload_index *index, uint32_t slot,
                                           ort_json payload);

/* Takes dead slots out. ORT_ENOMEM: some may be left; they may be swept again. */
ORT_NODISCARD ort_err dp_payload_index_sweep(dp_payload_index *index, const dp_slots *dead);

/* Slots that stand in it and are not of `live`; the caller's. NULL: no memory. */
dp_slots *dp_payload_index_stray(const dp_payload_index *index, const dp_slots *live);

/* Gives spare memory back, after a build. */
void dp_payload_index_trim(dp_payload_index *index);

size_t dp_payload_index_bytes(const dp_payload_index *index);

/* How many slots of `live` have a value there that is neither null nor an empty array. */
uint64_t dp_payload_index_points(const dp_payload_index *index, const dp_slots *live);

/* --- the file: `indexes/payload-<hash of the name>.pidx` -----------------------------------------
 */

/* What a file belongs to: compared on load, never interpreted. */
typedef struct {
    ort_tenant_id tenant;
    ort_collection_id collection;
    uint64_t generation; /* of the checkpoint that numbers the slots */
    uint32_t slot_end;   /* slots from here on are not in the file */
} dp_payload_index_stamp;

#define DP_PAYLOAD_INDEX_NAME_BYTES 40u
void dp_payload_index_file_name(const dp_declared_field *field,
                                char out[DP_PAYLOAD_INDEX_NAME_BYTES]);

/* Replaces the file beneath dir_fd; a crash leaves the old one or the new.
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM: the old file stands. */
ORT_NODISCARD ort_err dp_payload_index_save(const dp_payload_index *index, int dir_fd,
                                            const dp_payload_index_stamp *stamp, ort_diag *diag);

/* The same in steps, for an index that slots from stamp->slot_end on are added to meanwhile:
 * whoever does that, and whoever calls new and step, keep out of each other's way; sweeps, and the
 * index's end, wait for the last step. free(NULL) is fine. */
typedef struct dp_payload_saving dp_payload_saving;
ORT_NODISCARD ort_err dp_payload_saving_new(dp_payload_saving **out, const dp_payload_index *index,
                                            const dp_payload_index_stamp *stamp);
void dp_payload_saving_free(dp_payload_saving *saving);

/* Copies some of the index, for about a millisecond; false: it has all of it. */
bool dp_payload_saving_step(dp_payload_saving *saving);

/* Replaces the file; the index is not looked at any more. Errors as of dp_payload_index_save(). */
ORT_NODISCARD ort_err dp_payload_saving_write(dp_payload_saving *saving, int dir_fd,
                                              ort_diag *diag);

/* Reads an index back. Whatever the bytes are: what is given is a sound index, or an error, and
 * then the caller builds anew.
 *
 * ORT_ENOTFOUND no file. ORT_ECORRUPT damaged. ORT_EVERSION of a newer program, or of another
 * version of ICU. ORT_ESTALE of another owner, checkpoint or declaration. ORT_ENOMEM, ORT_EIO */
ORT_NODISCARD ort_err dp_payload_index_load(dp_payload_index **out, dp_fields *fields,
                                            size_t field_index, int dir_fd,
                                            const dp_payload_index_stamp *stamp, ort_diag *diag);

/* The same from bytes in memory. */
ORT_NODISCARD ort_err dp_payload_index_decode(dp_payload_index **out, dp_fields *fields,
                                              size_t field_index, const void *bytes, size_t len,
                                              const dp_payload_index_stamp *stamp, ort_diag *diag);

/* --- values --------------------------------------------------------------------------------------
 */

/* A value as an index holds it. Strings are borrowed from the index. */
typedef struct {
    dp_field_kind kind;
    const char *text; /* KEYWORD, UUID */
    size_t len;
    int64_t integer; /* INTEGER, BOOL, DATETIME (microseconds since 1970) */
    double number;   /* FLOAT */
} dp_payload_value;

/* Counts, for each value, the slots of `among` that have it: every value that one of them has is
 * told once, in the order of values, until fn returns something else than ORT_OK, which is
 * returned. KEYWORD, UUID, INTEGER, BOOL; the others tell nothing. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_payload_index_facet(const dp_payload_index *index, const dp_slots *among,
                                             ort_err (*fn)(void *ctx, const dp_payload_value *value,
                                                           uint64_t count),
                                             void *ctx);

/* Spells a string that a filter asks this field for as its index holds it: a UUID in lower case
 * with hyphens (in room), whatever else as it is. */
void dp_payload_value_spell(dp_payload_value *value, const dp_declared_field *field,
                            char room[ORT_POINT_ID_TEXT_BYTES]);

/* The slots that have this value, dead ones too. KEYWORD, UUID, INTEGER, BOOL; the value's kind is
 * the index's, KEYWORD for any string, which is spelt as the index holds it.
 *
 * set  borrowed from the index until it changes, or the caller's `own`; NULL for another kind
 * own  for the caller to free; NULL where set is borrowed
 *
 * ORT_ENOMEM: both are NULL. */
ORT_NODISCARD ort_err dp_payload_index_slots(const dp_payload_index *index,
                                             const dp_payload_value *value, const dp_slots **set,
                                             dp_slots **own);

/* Calls fn for each value that an index of this field would take from the payload, of the kinds
 * above, until it returns something else than ORT_OK, which is returned. A value that is there
 * twice in a row is told once. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_field_each_value(const dp_declared_field *field, ort_json payload,
                                          ort_err (*fn)(void *ctx, const dp_payload_value *value),
                                          void *ctx);

/* Walks (value, slot) in the order of values, slots of one value ascending; a slot comes once for
 * each of its values, dead slots too. INTEGER, FLOAT, DATETIME, UUID, KEYWORD, BOOL. The index must
 * not change meanwhile: hold what keeps writers out.
 *
 * start  NULL, or where to begin (included); of the kind's own: integer or number or text */
typedef struct dp_payload_walk dp_payload_walk;
ORT_NODISCARD ort_err dp_payload_walk_new(dp_payload_walk **out, const dp_payload_index *index,
                                          bool descending, const dp_payload_value *start);
/* ORT_ENOTFOUND: no more. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_payload_walk_next(dp_payload_walk *walk, dp_payload_value *value,
                                           uint32_t *slot);
void dp_payload_walk_free(dp_payload_walk *walk); /* NULL is fine */
#endif                                            /* DP_PAYLOAD_INDEX_H */
