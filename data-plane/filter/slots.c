/* Compressed sets of slots, over CRoaring. */
#include "filter/slots.h"

#include <stdlib.h>

#include <roaring/roaring.h>

#define PORTABLE_COOKIE 12346u /* of a set without run containers */

dp_slots *
dp_slots_new(void)
{
    return roaring_bitmap_create();
}

void
dp_slots_free(dp_slots *set)
{
    if (set != NULL) {
        roaring_bitmap_free(set);
    }
}

dp_slots *
dp_slots_copy(const dp_slots *set)
{
    return roaring_bitmap_copy(set);
}

dp_slots *
dp_slots_of(const uint32_t *slots, size_t count)
{
    dp_slots *set = roaring_bitmap_create();
    if (set != NULL && count > 0) {
        roaring_bitmap_add_many(set, count, slots);
    }
    return set;
}

dp_slots *
dp_slots_of_words(const uint64_t *words, uint32_t slot_end)
{
    enum { PART = 4096 };
    uint32_t part[PART + 64];
    size_t n = 0;
    dp_slots *set = roaring_bitmap_create();
    for (uint32_t w = 0; set != NULL && w < (slot_end + 63) / 64; w++) {
        uint64_t bits = words[w];
        if (w == slot_end / 64) {
            bits &= (UINT64_C(1) << (slot_end % 64)) - 1;
        }
        for (; bits != 0; bits &= bits - 1) {
            part[n++] = w * 64 + (uint32_t)__builtin_ctzll(bits);
        }
        if (n >= PART) {
            roaring_bitmap_add_many(set, n, part);
            n = 0;
        }
    }
    if (set != NULL && n > 0) {
        roaring_bitmap_add_many(set, n, part);
    }
    return set;
}

bool
dp_slots_add(dp_slots *set, uint32_t slot)
{
    return roaring_bitmap_add_checked(set, slot);
}

void
dp_slots_add_many(dp_slots *set, const uint32_t *slots, size_t count)
{
    roaring_bitmap_add_many(set, count, slots);
}

void
dp_slots_remove(dp_slots *set, uint32_t slot)
{
    roaring_bitmap_remove(set, slot);
}

bool
dp_slots_has(const dp_slots *set, uint32_t slot)
{
    return roaring_bitmap_contains(set, slot);
}

uint64_t
dp_slots_count(const dp_slots *set)
{
    return roaring_bitmap_get_cardinality(set);
}

bool
dp_slots_is_empty(const dp_slots *set)
{
    return roaring_bitmap_is_empty(set);
}

dp_slots *
dp_slots_and(const dp_slots *a, const dp_slots *b)
{
    return roaring_bitmap_and(a, b);
}

dp_slots *
dp_slots_or(const dp_slots *a, const dp_slots *b)
{
    return roaring_bitmap_or(a, b);
}

dp_slots *
dp_slots_minus(const dp_slots *a, const dp_slots *b)
{
    return roaring_bitmap_andnot(a, b);
}

dp_slots *
dp_slots_or_many(const dp_slots *const *sets, size_t count)
{
    if (count == 0) {
        return roaring_bitmap_create();
    }
    /* The library does not write to them; its prototype says less than it does. */
    return roaring_bitmap_or_many(count, (const roaring_bitmap_t **)(uintptr_t)sets);
}

void
dp_slots_and_into(dp_slots *a, const dp_slots *b)
{
    roaring_bitmap_and_inplace(a, b);
}

void
dp_slots_or_into(dp_slots *a, const dp_slots *b)
{
    roaring_bitmap_or_inplace(a, b);
}

void
dp_slots_minus_into(dp_slots *a, const dp_slots *b)
{
    roaring_bitmap_andnot_inplace(a, b);
}

uint64_t
dp_slots_and_count(const dp_slots *a, const dp_slots *b)
{
    return roaring_bitmap_and_cardinality(a, b);
}

bool
dp_slots_are_equal(const dp_slots *a, const dp_slots *b)
{
    return roaring_bitmap_equals(a, b);
}

typedef struct {
    bool (*fn)(void *ctx, uint32_t slot);
    void *ctx;
} each;

static bool
call_each(uint32_t slot, void *arg)
{
    const each *e = arg;
    return e->fn(e->ctx, slot);
}

void
dp_slots_each(const dp_slots *set, bool (*fn)(void *ctx, uint32_t slot), void *ctx)
{
    each e = {.fn = fn, .ctx = ctx};
    (void)roaring_iterate(set, call_each, &e);
}

void
dp_slots_list(const dp_slots *set, uint32_t *out)
{
    if (!roaring_bitmap_is_empty(set)) {
        roaring_bitmap_to_uint32_array(set, out);
    }
}

typedef struct {
    uint64_t *words;
    uint32_t slot_end;
} marking;

static bool
mark(uint32_t slot, void *arg)
{
    const marking *m = arg;
    if (slot >= m->slot_end) {
        return false;
    }
    m->words[slot / 64] |= UINT64_C(1) << (slot % 64);
    return true;
}

/* The portable form (its specification is public and fixed) holds dense containers as the words we
 * want, so that they are copied and not counted out bit by bit: 20 us instead of a millisecond for
 * half of a million slots. Layout: u32 cookie 12346, u32 n, n times (u16 high half, u16 cardinality
 * - 1), n times u32 offset, containers: u16 values up to 4,096 of them, 8 KiB of bits beyond. A set
 * with run containers has another cookie: a copy without them is taken. */
ort_err
dp_slots_to_words(const dp_slots *set, uint64_t *words, uint32_t slot_end)
{
    marking m = {.words = words, .slot_end = slot_end};
    if (dp_slots_count(set) < 4096) {
        (void)roaring_iterate(set, mark, &m);
        return ORT_OK;
    }
    char *form = malloc(roaring_bitmap_portable_size_in_bytes(set));
    if (form == NULL) {
        return ORT_ENOMEM;
    }
    roaring_bitmap_portable_serialize(set, form);
    if (ort_get_u32(form) != PORTABLE_COOKIE) {
        free(form);
        dp_slots *copy = roaring_bitmap_copy(set);
        if (copy == NULL) {
            return ORT_ENOMEM;
        }
        (void)roaring_bitmap_remove_run_compression(copy);
        form = malloc(roaring_bitmap_portable_size_in_bytes(copy));
        if (form != NULL) {
            roaring_bitmap_portable_serialize(copy, form);
        }
        roaring_bitmap_free(copy);
        if (form == NULL) {
            return ORT_ENOMEM;
        }
    }
    const uint32_t n = ort_get_u32(form + 4);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t base = (uint32_t)ort_get_u16(form + 8 + (size_t)i * 4) << 16;
        const uint32_t count = (uint32_t)ort_get_u16(form + 10 + (size_t)i * 4) + 1;
        const char *at = form + ort_get_u32(form + 8 + (size_t)n * 4 + (size_t)i * 4);
        if (base >= slot_end) {
            break;
        }
        if (count <= 4096) {
            for (uint32_t j = 0; j < count; j++) {
                (void)mark(base | ort_get_u16(at + (size_t)j * 2), &m);
            }
            continue;
        }
        for (uint32_t w = 0; w < 1024 && base + w * 64 < slot_end; w++) {
            const uint32_t left = slot_end - base - w * 64;
            const uint64_t bits = ort_get_u64(at + (size_t)w * 8);
            words[base / 64 + w] |= left >= 64 ? bits : bits & ((UINT64_C(1) << left) - 1);
        }
    }
    free(form);
    return ORT_OK;
}

size_t
dp_slots_bytes(const dp_slots *set)
{
    return sizeof *set + roaring_bitmap_portable_size_in_bytes(set);
}

void
dp_slots_trim(dp_slots *set)
{
    (void)roaring_bitmap_run_optimize(set);
    (void)roaring_bitmap_shrink_to_fit(set);
}

/* --- our own form on disk -----------------------------------------------------------------------
 */

void
dp_leb_put(ort_buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) {
        ort_buf_put_u8(out, (uint8_t)(v | 0x80));
    }
    ort_buf_put_u8(out, (uint8_t)v);
}

uint64_t
dp_leb_take(ort_cursor *from)
{
    uint64_t v = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        const uint8_t byte = ort_cursor_u8(from);
        v |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return v;
        }
    }
    from->failed = true;
    return 0;
}

typedef struct {
    ort_buf *out; /* NULL: count only */
    uint64_t runs;
    uint32_t below;
    uint32_t begin, end; /* the run under way; none while both are 0 */
    uint32_t last;       /* where the run before ended */
} run_writer;

static void
end_run(run_writer *w)
{
    if (w->end > w->begin) {
        w->runs++;
        if (w->out != NULL) {
            dp_leb_put(w->out, w->begin - w->last);
            dp_leb_put(w->out, w->end - w->begin);
        }
        w->last = w->end;
    }
}

static bool
put_slot(uint32_t slot, void *arg)
{
    run_writer *w = arg;
    if (slot >= w->below) {
        return false;
    }
    if (w->end > w->begin && slot == w->end) {
        w->end++;
        return true;
    }
    end_run(w);
    w->begin = slot;
    w->end = slot + 1;
    return true;
}

void
dp_slots_encode(const dp_slots *set, uint32_t below, ort_buf *out)
{
    run_writer count = {.below = below}, write = {.below = below, .out = out};
    (void)roaring_iterate(set, put_slot, &count);
    end_run(&count);
    dp_leb_put(out, count.runs);
    (void)roaring_iterate(set, put_slot, &write);
    end_run(&write);
}

ort_err
dp_slots_decode(dp_slots **out, ort_cursor *from, uint32_t slot_end)
{
    enum { PART = 1024, LONG_RUN = 64 };
    uint32_t part[PART];
    size_t n = 0;
    uint64_t at = 0;
    const uint64_t runs = dp_leb_take(from);
    dp_slots *set = roaring_bitmap_create();
    *out = NULL;
    if (set == NULL) {
        return ORT_ENOMEM;
    }
    for (uint64_t i = 0; i < runs && !from->failed; i++) {
        const uint64_t gap = dp_leb_take(from), run = dp_leb_take(from);
        /* Each bound by itself first: their sum could wrap around. */
        if (from->failed || run == 0 || gap > slot_end || run > slot_end ||
            at + gap + run > slot_end || (i > 0 && gap == 0)) {
            from->failed = true;
            break;
        }
        const uint32_t begin = (uint32_t)(at + gap), end = (uint32_t)(at + gap + run);
        at = end;
        if (end - begin >= LONG_RUN) {
            roaring_bitmap_add_range(set, begin, end);
            continue;
        }
        for (uint32_t slot = begin; slot < end; slot++) {
            part[n++] = slot;
            if (n == PART) {
                roaring_bitmap_add_many(set, n, part);
                n = 0;
            }
        }
    }
    if (from->failed) {
        roaring_bitmap_free(set);
        return ORT_ECORRUPT;
    }
    roaring_bitmap_add_many(set, n, part);
    *out = set;
    return ORT_OK;
}
