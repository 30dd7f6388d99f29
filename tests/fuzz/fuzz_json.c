/* The JSON view on arbitrary bytes: no crash, the same verdict as jansson's (but for numbers beyond
 * jansson's types), and writing it again reads the same. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "base/json_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* Floats kept while parsing are those read when asked for, bit by bit. */
static void
same_floats(ort_json a, ort_json b)
{
    const uint32_t count = ort_json_count(a);

    must(ort_json_type_of(a) == ort_json_type_of(b) && count == ort_json_count(b));
    if (ort_json_is_numbers(a)) {
        float *v = calloc(count + 1, sizeof *v), *w = calloc(count + 1, sizeof *w);
        must(v != NULL && w != NULL);
        const ort_err err = ort_json_floats(a, v, count);
        must(ort_json_floats(b, w, count) == err);
        must(err != ORT_OK || memcmp(v, w, count * sizeof *v) == 0);
        free(v);
        free(w);
    }
    if (ort_json_type_of(a) >= ORT_JSON_ARRAY) {
        ort_json_iter ia = ort_json_each(a), ib = ort_json_each(b);
        while (ort_json_step(&ia) && ort_json_step(&ib)) {
            same_floats(ia.value, ib.value);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ort_json_doc *doc, *again;
    const ort_json_limits limits = {.depth_max = 64, .notes_max = 100000};
    if (ort_json_parse(&doc, (const char *)data, size, limits, NULL) != ORT_OK) {
        return 0;
    }
    json_error_t error;
    json_t *other = json_loadb((const char *)data, size,
                               JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    must(other != NULL || json_error_code(&error) == json_error_numeric_overflow ||
         json_error_code(&error) == json_error_null_byte_in_key);
    json_decref(other);

    const ort_json_limits with_floats = {.depth_max = 64, .notes_max = 100000, .floats = true};
    must(ort_json_parse(&again, (const char *)data, size, with_floats, NULL) == ORT_OK);
    same_floats(ort_json_root(doc), ort_json_root(again));
    ort_json_free(again);

    ort_buf out = {0}, twice = {0};
    ort_jw w = {.buf = &out}, w2 = {.buf = &twice};
    ort_jw_value(&w, ort_json_root(doc));
    must(ort_json_parse(&again, out.data, out.len, limits, NULL) == ORT_OK);
    ort_jw_value(&w2, ort_json_root(again));
    must(out.len == twice.len && memcmp(out.data, twice.data, out.len) == 0);
    ort_buf_fini(&out);
    ort_buf_fini(&twice);
    ort_json_free(again);
    ort_json_free(doc);
    return 0;
}
