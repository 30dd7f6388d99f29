/* Sections: counted, copied on write. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "wire/table_internal.h"

struct ort_section_edit {
    ort_section *section; /* ours alone */
    const ort_table_codec *codec;
    bool own[ORT_TABLE_BUCKETS]; /* whether that bucket is ours alone too */
};

static const char KIND_BYTE[ORT_TABLE_KINDS] = {'t', 'd', 'n'};

/* Ids are random, but nothing here depends on it: Fibonacci hashing, the top 10 bits. */
static uint32_t
bucket_of(uint64_t id)
{
    return (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 54);
}

static void
entry_unref(ort_table__entry *e)
{
    if (e != NULL && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1) {
        if (e->decoded != NULL && e->codec != NULL && e->codec->free != NULL) {
            e->codec->free(e->kind, e->decoded);
        }
        free(e);
    }
}

static void
bucket_unref(ort_table__bucket *b)
{
    if (b != NULL && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        for (uint32_t i = 0; i < b->count; i++) {
            entry_unref(b->entries[i]);
        }
        free(b);
    }
}

ort_section *
ort_section_ref(const ort_section *section)
{
    /* Counting is no change that a reader of a const section could see. */
    ort_section *s = (ort_section *)(uintptr_t)section;
    if (s != NULL) {
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    }
    return s;
}

void
ort_section_unref(const ort_section *section)
{
    ort_section *s = (ort_section *)(uintptr_t)section;
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        for (uint32_t i = 0; i < ORT_TABLE_BUCKETS; i++) {
            bucket_unref(s->buckets[i]);
        }
        free(s);
    }
}

size_t
ort_section_count(const ort_section *section)
{
    return section != NULL ? section->count : 0;
}

void
ort_section_hash(const ort_section *section, ort_hash *out)
{
    *out = section != NULL ? section->hash : (ort_hash){{0}};
}

/* The place of id in a bucket, or where it would go. */
static uint32_t
bucket_find(const ort_table__bucket *b, uint64_t id, bool *found)
{
    uint32_t low = 0, high = b->count;
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        if (b->entries[mid]->id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *found = low < b->count && b->entries[low]->id == id;
    return low;
}

static void
entry_show(const ort_table__entry *e, ort_entry *out)
{
    *out = (ort_entry){.id = e->id, .text = e->text, .len = e->len, .decoded = e->decoded};
}

bool
ort_section_get(const ort_section *section, uint64_t id, ort_entry *out)
{
    bool found = false;
    const ort_table__bucket *b = section != NULL ? section->buckets[bucket_of(id)] : NULL;
    const uint32_t at = b != NULL ? bucket_find(b, id, &found) : 0;
    if (found) {
        entry_show(b->entries[at], out);
    }
    return found;
}

bool
ort_section_next(const ort_section *section, uint64_t *at, ort_entry *out)
{
    uint64_t bucket = *at >> 32, place = *at & UINT32_MAX;
    while (section != NULL && bucket < ORT_TABLE_BUCKETS) {
        const ort_table__bucket *b = section->buckets[bucket];
        if (b != NULL && place < b->count) {
            entry_show(b->entries[place], out);
            *at = bucket << 32 | (place + 1);
            return true;
        }
        bucket++;
        place = 0;
    }
    *at = (uint64_t)ORT_TABLE_BUCKETS << 32;
    return false;
}

ort_err
ort_section_edit_begin(ort_section_edit **out, ort_table_kind kind, const ort_section *base,
                       const ort_table_codec *codec)
{
    assert(kind < ORT_TABLE_KINDS && (base == NULL || base->kind == kind));
    *out = NULL;
    ort_section_edit *edit = calloc(1, sizeof *edit);
    ort_section *s = calloc(1, sizeof *s);
    if (edit == NULL || s == NULL) {
        free(edit);
        free(s);
        return ORT_ENOMEM;
    }
    atomic_init(&s->refs, 1);
    s->kind = kind;
    if (base != NULL) {
        s->count = base->count;
        s->hash = base->hash;
        memcpy(s->buckets, base->buckets, sizeof s->buckets);
        for (uint32_t i = 0; i < ORT_TABLE_BUCKETS; i++) {
            if (s->buckets[i] != NULL) {
                atomic_fetch_add_explicit(&s->buckets[i]->refs, 1, memory_order_relaxed);
            }
        }
    }
    edit->section = s;
    edit->codec = codec;
    *out = edit;
    return ORT_OK;
}

/* Makes bucket i ours alone, with room for one more entry. */
static ort_table__bucket *
bucket_own(ort_section_edit *edit, uint32_t i)
{
    ort_table__bucket *old = edit->section->buckets[i], *b;
    const uint32_t count = old != NULL ? old->count : 0;
    if (old != NULL && edit->own[i] && count < old->cap) {
        return old;
    }
    const uint32_t cap = count + count / 2 + 2;
    b = malloc(sizeof *b + cap * sizeof b->entries[0]);
    if (b == NULL) {
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->count = count;
    b->cap = cap;
    if (count > 0) {
        memcpy(b->entries, old->entries, count * sizeof b->entries[0]);
    }
    if (edit->own[i]) {
        free(old); /* its references moved along */
    } else {
        for (uint32_t k = 0; k < count; k++) {
            atomic_fetch_add_explicit(&b->entries[k]->refs, 1, memory_order_relaxed);
        }
        bucket_unref(old);
    }
    edit->own[i] = true;
    edit->section->buckets[i] = b;
    return b;
}

static ort_err
entry_new(ort_table__entry **out, ort_table_kind kind, const ort_table_codec *codec, uint64_t id,
          const char *text, size_t len, ort_diag *diag)
{
    char key[ORT_ID_TEXT_BYTES];
    ort_hasher h;
    ort_err err = ORT_OK;
    ort_table__entry *e = malloc(sizeof *e + len + 1);
    if (e == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "table entry");
    }
    *e = (ort_table__entry){.kind = kind, .codec = codec, .id = id, .len = len};
    atomic_init(&e->refs, 1);
    memcpy(e->text, text, len);
    e->text[len] = '\0';
    ort_id_format(id, key);
    ort_hasher_init(&h);
    ort_hasher_put(&h, &KIND_BYTE[kind], 1);
    ort_hasher_put(&h, key, sizeof key - 1);
    ort_hasher_put(&h, text, len);
    ort_hasher_done(&h, &e->hash);
    if (codec != NULL && codec->decode != NULL) {
        err = codec->decode(kind, id, e->text, len, &e->decoded, diag);
    }
    if (err != ORT_OK) {
        ort_diag_prefix(diag, "%s.%s", ort_table__section_names[kind], key);
        free(e);
        return err;
    }
    *out = e;
    return ORT_OK;
}

ort_err
ort_section_edit_put(ort_section_edit *edit, uint64_t id, const char *text, size_t len,
                     ort_diag *diag)
{
    ort_section *s = edit->section;
    ort_table__entry *e = NULL;
    bool found;
    if (id == 0) {
        return ort_fail(diag, ORT_EVALIDATE, "a table entry has id 0");
    }
    if (len > ORT_TABLE_ENTRY_BYTES_MAX) {
        return ort_fail(diag, ORT_ETOOBIG,
                        "table entry %s.%016" PRIx64 " has %zu bytes, at most %u",
                        ort_table__section_names[s->kind], id, len, ORT_TABLE_ENTRY_BYTES_MAX);
    }
    const uint32_t i = bucket_of(id);
    ort_table__bucket *b = bucket_own(edit, i);
    if (b == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "table bucket");
    }
    const ort_err err = entry_new(&e, s->kind, edit->codec, id, text, len, diag);
    if (err != ORT_OK) {
        return err;
    }
    const uint32_t at = bucket_find(b, id, &found);
    if (found) {
        ort_hash_xor(&s->hash, &b->entries[at]->hash);
        entry_unref(b->entries[at]);
    } else {
        memmove(&b->entries[at + 1], &b->entries[at], (b->count - at) * sizeof b->entries[0]);
        b->count++;
        s->count++;
    }
    b->entries[at] = e;
    ort_hash_xor(&s->hash, &e->hash);
    return ORT_OK;
}

ort_err
ort_section_edit_remove(ort_section_edit *edit, uint64_t id)
{
    ort_entry there;
    bool found;
    if (!ort_section_get(edit->section, id, &there)) {
        return ORT_OK;
    }
    ort_table__bucket *b = bucket_own(edit, bucket_of(id));
    if (b == NULL) {
        return ORT_ENOMEM;
    }
    const uint32_t at = bucket_find(b, id, &found);
    assert(found);
    ort_hash_xor(&edit->section->hash, &b->entries[at]->hash);
    entry_unref(b->entries[at]);
    memmove(&b->entries[at], &b->entries[at + 1], (b->count - at - 1) * sizeof b->entries[0]);
    b->count--;
    edit->section->count--;
    return ORT_OK;
}

ort_section *
ort_section_edit_done(ort_section_edit *edit)
{
    ort_section *s = edit->section;
    free(edit);
    return s;
}

void
ort_section_edit_free(ort_section_edit *edit)
{
    if (edit != NULL) {
        ort_section_unref(edit->section);
        free(edit);
    }
}
