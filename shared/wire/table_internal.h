/* shared/wire/table_internal.h: how sections lie in memory.
 *
 *   section ──► 1,024 buckets ──► entries, ascending by id
 *
 * All three are counted and, once shared, never written again: an edit copies the section's array
 * of buckets, then each bucket it touches, once. 100,000 entries make buckets of about 100: a
 * change costs 8 KiB for the array and 1 KiB for the bucket, and a look-up seven steps. */
#ifndef ORT_TABLE_INTERNAL_H
#define ORT_TABLE_INTERNAL_H
#include <stdatomic.h>

#include "wire/table.h"

#define ORT_TABLE_BUCKETS 1024u

typedef struct {
    atomic_uint refs;
    ort_table_kind kind;
    const ort_table_codec *codec;
    uint64_t id;
    ort_hash hash;
    void *decoded;
    size_t len;
    char text[];
} ort_table__entry;

typedef struct {
    atomic_uint refs;
    uint32_t count;
    uint32_t cap;
    ort_table__entry *entries[];
} ort_table__bucket;

struct ort_section {
    atomic_uint refs;
    ort_table_kind kind;
    size_t count;
    ort_hash hash;
    ort_table__bucket *buckets[ORT_TABLE_BUCKETS]; /* NULL = empty */
};

struct ort_table {
    atomic_uint refs;
    const ort_section *sections[ORT_TABLE_KINDS];
};

extern const char *const ort_table__section_names[ORT_TABLE_KINDS];
#endif /* ORT_TABLE_INTERNAL_H */
