/* An operation in words, for whoever reads a log. */
#include <inttypes.h>

#include "base/json_write.h"
#include "collection/op_internal.h"

#define IDS_SHOWN_MAX 8u

static void
put_points(ort_jw *w, const dp_op_record *record)
{
    ort_cursor at = record->points;
    uint32_t left = record->point_count, shown = 0;
    dp_op_point point;
    ort_jw_key(w, "points");
    ort_jw_u64(w, record->point_count);
    ort_jw_key(w, "ids");
    ort_jw_array(w);
    while (shown++ < IDS_SHOWN_MAX && dp_op__next_point(record, &at, &left, &point)) {
        dp_point_id_write(w, point.id);
    }
    ort_jw_array_end(w);
}

static void
put_target(ort_jw *w, const dp_op_record *record)
{
    if (record->target == DP_TARGET_FILTER) {
        ort_jw_key(w, "filter");
        ort_jw_str_n(w, record->filter.text, record->filter.len);
    } else if (record->target == DP_TARGET_IDS) {
        ort_jw_key(w, "points");
        ort_jw_u64(w, record->id_count);
        ort_jw_key(w, "ids");
        ort_jw_array(w);
        for (uint32_t i = 0; i < record->id_count && i < IDS_SHOWN_MAX; i++) {
            dp_point_id_write(w, dp_op__id(record, i));
        }
        ort_jw_array_end(w);
    } else {
        put_points(w, record);
    }
}

ort_err
dp_op_describe(const void *bytes, size_t len, ort_buf *out)
{
    static const char *const kinds[] = {"",
                                        "upsert",
                                        "delete",
                                        "set_payload",
                                        "overwrite_payload",
                                        "delete_payload",
                                        "clear_payload",
                                        "update_vectors",
                                        "delete_vectors"};
    dp_op_record record;
    ort_diag diag = {""};
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_err err = dp_op__open(&record, bytes, len, &diag);
    ort_jw_object(&w);
    if (err == ORT_OK) {
        ort_jw_key(&w, "op");
        ort_jw_str(&w,
                   (size_t)record.kind < sizeof kinds / sizeof kinds[0] ? kinds[record.kind] : "?");
        put_target(&w, &record);
    } else {
        ort_jw_key(&w, "error");
        ort_jw_str(&w, diag.text);
    }
    ort_jw_object_end(&w);
    if (ort_buf_check(&text) != ORT_OK) {
        err = ORT_ENOMEM;
    } else if (text.len > 2) {
        ort_buf_puts(out, ",");
        ort_buf_put(out, text.data + 1, text.len - 2); /* without the braces */
    }
    ort_buf_fini(&text);
    return err;
}
