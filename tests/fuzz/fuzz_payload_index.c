/* Fuzzes the reader of a payload index's file: the input is the body behind a header whose
 * checksums fit; the first byte says of which kind. What is read must be walkable, and come out of
 * a second way over the disk as it went in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "filter/evaluate.h"

#define SLOTS 5000u
#define HEADER 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const kinds[] = {"keyword", "integer",  "float", "bool",
                                    "geo",     "datetime", "uuid",  "text"};
static dp_fields *fields[8];

static void
prepare(void)
{
    for (size_t i = 0; i < 8; i++) {
        char text[64];
        ort_json_doc *doc;
        const int n = snprintf(text, sizeof text, "{\"f\":{\"data_type\":\"%s\"}}", kinds[i]);
        if (ort_json_parse(&doc, text, (size_t)n, (ort_json_limits){0}, NULL) != ORT_OK ||
            dp_fields_parse(&fields[i], ort_json_root(doc), NULL) != ORT_OK) {
            abort();
        }
        ort_json_free(doc);
    }
}

/* Header, and the name and definition that every body begins with. */
static void
put_head(ort_buf *out, const dp_declared_field *f, const dp_payload_index_stamp *stamp,
         uint32_t icu)
{
    static const unsigned char magic[8] = {'O', 'R', 'T', 'P', 'I', 'X', '\0', 1};
    ort_buf_put(out, magic, 8);
    ort_buf_put_u64(out, stamp->tenant.v);
    ort_buf_put_u64(out, stamp->collection.v);
    ort_buf_put_u64(out, stamp->generation);
    ort_buf_put_u32(out, stamp->slot_end);
    ort_buf_put_u32(out, f->kind);
    ort_buf_put_u32(out, icu);
    ort_buf_put_u32(out, 0);
    ort_buf_put_u64(out, 0);
    ort_buf_put_u64(out, 0);
    dp_leb_put(out, f->name_len);
    ort_buf_put(out, f->name, f->name_len);
    dp_leb_put(out, f->definition_len);
    ort_buf_put(out, f->definition, f->definition_len);
}

static ort_err
count_value(void *ctx, const dp_payload_value *value, uint64_t count)
{
    (void)value;
    *(uint64_t *)ctx += count;
    return ORT_OK;
}

static void
use(const dp_payload_index *index, dp_slots *all)
{
    static const char filter_text[] =
        "{\"should\":[{\"key\":\"f\",\"match\":{\"value\":\"a\"}},{\"key\":\"f\",\"range\":{\"gt\":"
        "0}},{\"key\":\"f\",\"match\":{\"prefix\":\"b\"}},{\"key\":\"f\",\"geo_radius\":{"
        "\"center\":"
        "{\"lon\":1,\"lat\":1},\"radius\":9000000}},{\"is_empty\":{\"key\":\"f\"}}]}";
    dp_filter *filter;
    dp_verdict v;
    uint64_t n = 0;
    dp_payload_index *one = (dp_payload_index *)(uintptr_t)index;
    const dp_evaluation over = {.indexes = &one, .index_count = 1, .live = all};
    if (dp_filter_parse_text(&filter, filter_text, sizeof filter_text - 1, NULL) != ORT_OK ||
        dp_filter_evaluate(filter, &over, &v) != ORT_OK ||
        dp_payload_index_facet(index, all, count_value, &n) != ORT_OK) {
        abort();
    }
    if (v.max > SLOTS) {
        abort();
    }
    dp_verdict_fini(&v);
    dp_filter_free(filter);
    dp_payload_walk *walk;
    dp_payload_value value;
    uint32_t slot;
    if (dp_payload_walk_new(&walk, index, n % 2 == 0, NULL) != ORT_OK) {
        abort();
    }
    while (dp_payload_walk_next(walk, &value, &slot) == ORT_OK) {
        if (slot >= SLOTS) {
            abort();
        }
    }
    dp_payload_walk_free(walk);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const dp_payload_index_stamp stamp = {
        .tenant = {1}, .collection = {2}, .generation = 3, .slot_end = SLOTS};
    dp_payload_index *index;
    ort_buf file = {0};
    if (fields[0] == NULL) {
        prepare();
    }
    if (size < 5) {
        return 0;
    }
    dp_fields *f = fields[data[0] % 8];
    /* A text index is refused under another ICU: the input brings the right version or does not. */
    put_head(&file, dp_fields_peek(f, 0), &stamp, data[0] % 8 == 7 ? ort_get_u32(data + 1) : 0);
    ort_buf_put(&file, data + 5, size - 5);
    if (ort_buf_check(&file) != ORT_OK) {
        return 0;
    }
    ort_put_u64(file.data + 48, file.len - HEADER);
    ort_put_u32(file.data + 56, ort_crc32c(0, file.data + HEADER, file.len - HEADER));
    ort_put_u32(file.data + 60, ort_crc32c(0, file.data, 60));
    if (dp_payload_index_decode(&index, f, 0, file.data, file.len, &stamp, NULL) == ORT_OK) {
        dp_slots *all = dp_slots_new();
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            (void)dp_slots_add(all, slot);
        }
        use(index, all);
        dp_slots_remove(all, 7);
        if (dp_payload_index_sweep(index, all) != ORT_OK) {
            abort();
        }
        dp_slots_free(all);
        dp_payload_index_free(index);
    }
    ort_buf_fini(&file);
    return 0;
}
