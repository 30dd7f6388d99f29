/* Prometheus text exposition, format 0.0.4. */
#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "base/num.h"
#include "metrics_internal.h"

/* Backslash, line feed and, in label values, the quote are escaped; nothing else is. A cut never
 * falls inside a UTF-8 sequence. */
void
ort_metrics__escape(ort_buf *out, const char *text, size_t bytes_max, bool quotes)
{
    size_t len = strlen(text);

    if (len > bytes_max) {
        len = bytes_max;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\') {
            ort_buf_puts(out, "\\\\");
        } else if (text[i] == '\n') {
            ort_buf_puts(out, "\\n");
        } else if (text[i] == '"' && quotes) {
            ort_buf_puts(out, "\\\"");
        } else {
            ort_buf_putc(out, text[i]);
        }
    }
}

void
ort_metrics__number(ort_buf *out, double v)
{
    char text[ORT_NUM_TEXT_BYTES];

    if (isnan(v)) {
        ort_buf_puts(out, "NaN");
    } else if (isinf(v)) {
        ort_buf_puts(out, v > 0 ? "+Inf" : "-Inf");
    } else if (v == floor(v) && fabs(v) < 1e15) {
        ort_buf_printf(out, "%.0f", v); /* 3 reads better than 3.0 */
    } else {
        ort_buf_put(out, text, ort_num_put_f64(text, v));
    }
}

void
ort_metrics__head(ort_buf *out, const char *name, const char *help, const char *type)
{
    ort_buf_printf(out, "# HELP %s ", name);
    ort_metrics__escape(out, help, 1024, false);
    ort_buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

void
ort_metrics_emit(ort_metrics_out *out, ort_metric_type type, const char *name, const char *help,
                 const ort_label *labels, size_t label_count, double value)
{
    assert(strlen(name) < sizeof out->last);
    if (strcmp(out->last, name) != 0) {
        (void)snprintf(out->last, sizeof out->last, "%s", name);
        ort_metrics__head(out->buf, name, help, type == ORT_METRIC_COUNTER ? "counter" : "gauge");
    }
    ort_buf_puts(out->buf, name);
    for (size_t i = 0; i < label_count; i++) {
        ort_buf_puts(out->buf, i == 0 ? "{" : ",");
        ort_buf_puts(out->buf, labels[i].name);
        ort_buf_puts(out->buf, "=\"");
        ort_metrics__escape(out->buf, labels[i].value, 256, true);
        ort_buf_putc(out->buf, '"');
    }
    ort_buf_puts(out->buf, label_count > 0 ? "} " : " ");
    ort_metrics__number(out->buf, value);
    ort_buf_putc(out->buf, '\n');
}
