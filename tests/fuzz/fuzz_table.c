/* Table bodies and envelopes: what a node does with bytes whose signature happened to be good. A
 * body is applied with the node's own decoder of entries; then the change is applied to the table
 * that the whole gave, and the state hash must be that of the table's own text. */
#include <stdlib.h>
#include <string.h>

#include "routing/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void
fuzz_body(const char *body, size_t n)
{
    const dp_table *t = NULL;
    ort_table *plain = NULL, *change = NULL, *again = NULL;
    ort_buf text = {0};
    ort_hash a, b;
    uint64_t at = 0;
    if (dp_table_from_body(&t, (ort_node_id){1}, (ort_table_at){0}, 0, body, n, NULL) == ORT_OK) {
        for (const dp_tenant_entry *e; (e = dp_table_next_tenant(t, &at)) != NULL;) {
            must(dp_table_tenant(t, e->id) == e);
            for (size_t i = 0; i < e->key_count; i++) {
                must(dp_tenant_key(e, e->keys[i].serial) == &e->keys[i]);
                (void)dp_key_covers(&e->keys[i], "collection", 10);
            }
        }
        dp_table_release(t);
    }
    if (ort_table_apply(&plain, NULL, body, n, NULL, NULL) != ORT_OK) {
        return;
    }
    must(ort_table_apply(&change, plain, body, n, NULL, NULL) == ORT_OK);
    ort_table_hash(plain, &a);
    ort_table_hash(change, &b);
    must(ort_hash_equal(&a, &b));
    must(ort_table_write(plain, &text) == ORT_OK);
    must(ort_table_apply(&again, NULL, text.data, text.len, NULL, NULL) == ORT_OK);
    ort_table_hash(again, &b);
    must(ort_hash_equal(&a, &b));
    ort_buf_fini(&text);
    ort_table_unref(plain);
    ort_table_unref(change);
    ort_table_unref(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ort_sign_public nobody = {{1}};
    ort_table_head head;
    ort_buf body = {0};
    must(ort_envelope_open(data, size, &nobody, &head, NULL) != ORT_OK);
    /* Cut to what is cheap to try: a frame that unpacks to 64 MiB is right, and slow. */
    if (size > 124 && ort_get_u32(data + 120) <= (1u << 16) &&
        ort_envelope_body(data, size, &body, NULL) == ORT_OK) {
        fuzz_body(body.data, body.len);
    }
    ort_buf_fini(&body);
    fuzz_body((const char *)data, size);
    return 0;
}
