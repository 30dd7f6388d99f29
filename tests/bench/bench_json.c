/* How fast vectors go from JSON text to floats and back: `tests/bench/run json`.
 *
 * Prints, for each way that clients write floats: bytes, microseconds to parse one array of 768 and
 * take its floats, gigabytes a second, the same by jansson, and the ratio; then microseconds to
 * write 768 floats, and the same by printf("%.9g"). */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "base/json_write.h"

#define DIM 768
#define ROUNDS 2000
#define SITTINGS 9 /* the fastest counts: the machine is shared */

static uint64_t seed = 88172645463325252u;

static double
next_component(void)
{
    double sum = 0;

    for (int i = 0; i < 12; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        sum += (double)(seed >> 11) / 9007199254740992.0;
    }
    return (sum - 6) / 27.7; /* about what a unit vector of 768 components has */
}

static void
write_array(ort_buf *buf, const char *format, const float *v)
{
    ort_buf_puts(buf, "{\"vector\":[");
    for (int i = 0; i < DIM; i++) {
        ort_buf_printf(buf, format, (double)v[i]);
        ort_buf_putc(buf, i + 1 < DIM ? ',' : ']');
    }
    ort_buf_puts(buf, ",\"limit\":10}");
}

static bool
ours(const ort_buf *text, float *out)
{
    ort_json_doc *doc = NULL;
    bool fine = ort_json_parse(&doc, text->data, text->len, (ort_json_limits){.floats = true},
                               NULL) == ORT_OK &&
                ort_json_floats(ort_json_get(ort_json_root(doc), "vector"), out, DIM) == ORT_OK;

    ort_json_free(doc);
    return fine;
}

static bool
by_jansson(const ort_buf *text, float *out)
{
    json_t *doc = json_loadb(text->data, text->len, 0, NULL);
    const json_t *array = json_object_get(doc, "vector");
    const bool fine = json_array_size(array) == DIM;

    for (size_t i = 0; fine && i < DIM; i++) {
        out[i] = (float)json_number_value(json_array_get(array, i));
    }
    json_decref(doc);
    return fine;
}

static bool
equal(const float *a, const float *b)
{
    for (int i = 0; i < DIM; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

/* Microseconds a call, the fastest of several sittings. */
static double
time_reading(bool (*read)(const ort_buf *, float *), const ort_buf *text, float *out)
{
    double best = 1e9;

    for (int s = 0; s < SITTINGS; s++) {
        const uint64_t begin = ort_mono_ns();
        for (int i = 0; i < ROUNDS / 10; i++) {
            if (!read(text, out)) {
                return -1;
            }
        }
        const double us = (double)(ort_mono_ns() - begin) / 1e3 / (ROUNDS / 10.0);
        best = us < best ? us : best;
    }
    return best;
}

static double
time_writing(bool library, const float *v, ort_buf *buf)
{
    double best = 1e9;

    for (int s = 0; s < SITTINGS; s++) {
        const uint64_t begin = ort_mono_ns();
        for (int i = 0; i < ROUNDS / 10; i++) {
            buf->len = 0;
            if (library) {
                write_array(buf, "%.9g", v);
            } else {
                ort_jw w = {.buf = buf};
                ort_jw_floats(&w, v, DIM);
            }
        }
        const double us = (double)(ort_mono_ns() - begin) / 1e3 / (ROUNDS / 10.0);
        best = us < best ? us : best;
    }
    return best;
}

int
main(void)
{
    static const struct {
        const char *name, *format;
    } ways[] = {{"shortest", NULL},
                {"%.6f", "%.6f"},
                {"%.9g", "%.9g"},
                {"%.17g", "%.17g"},
                {"integers", "%.0f"}};
    static float v[DIM], scaled[DIM], back[DIM], library[DIM];

    for (int i = 0; i < DIM; i++) {
        v[i] = (float)next_component();
        scaled[i] = (float)((int)(seed % 256));
    }
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        ort_buf text = {0};
        const float *values = strcmp(ways[i].name, "integers") == 0 ? scaled : v;

        if (ways[i].format != NULL) {
            write_array(&text, ways[i].format, values);
        } else {
            ort_jw w = {.buf = &text};
            ort_jw_object(&w);
            ort_jw_key(&w, "vector");
            ort_jw_floats(&w, values, DIM);
            ort_jw_object_end(&w);
        }
        const double us = time_reading(ours, &text, back);
        const double peer = time_reading(by_jansson, &text, library);
        if (us < 0 || peer < 0 || !equal(back, library)) {
            fprintf(stderr, "%s was not read alike\n", ways[i].name);
            return 1;
        }
        printf("read way=%s dim=%d bytes=%zu us=%.2f gb_per_s=%.2f jansson_us=%.1f ratio=%.1f\n",
               ways[i].name, DIM, text.len, us, (double)text.len / us / 1e3, peer, peer / us);
        ort_buf_fini(&text);
    }
    ort_buf buf = {0};
    const double us = time_writing(false, v, &buf), peer = time_writing(true, v, &buf);
    printf("write dim=%d us=%.2f printf_us=%.1f ratio=%.1f\n", DIM, us, peer, peer / us);
    ort_buf_fini(&buf);
    return 0;
}
