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
