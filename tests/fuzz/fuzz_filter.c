/* Filters from outside: any bytes parse or are refused; what parses matches without harm and comes
 * back the same from its own text. Input: filter text, a NUL, payload text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filter/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *nul = memchr(text, '\0', size);
    const size_t len = nul != NULL ? (size_t)(nul - text) : size;
    ort_diag diag;
    ort_json_doc *doc;
    dp_filter *filter, *again;

    if (ort_json_parse(&doc, text, len, (ort_json_limits){0}, &diag) != ORT_OK) {
        return 0;
    }
    const ort_err err = dp_filter_parse(&filter, ort_json_root(doc), "filter", &diag);
    ort_json_free(doc);
    if (err != ORT_OK) {
        return 0;
    }
    const dp_filter_point point = {.id = ort_point_id_of(1),
                                   .payload = nul != NULL ? nul + 1 : text,
                                   .payload_len = nul != NULL ? size - len - 1 : 0};
    size_t text_len;
    const char *own = dp_filter_peek_text(filter, &text_len);
    if (dp_filter_parse_text(&again, own, text_len, &diag) != ORT_OK ||
        dp_filter_match(filter, &point) != dp_filter_match(again, &point)) {
        abort();
    }
    dp_filter_free(again);
    dp_filter_free(filter);
    return 0;
}
