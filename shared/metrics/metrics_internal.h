/* shared/metrics/metrics_internal.h: what the files of this folder share. */
#ifndef ORT_METRICS_INTERNAL_H
#define ORT_METRICS_INTERNAL_H
#include "metrics/metrics.h"

struct ort_metrics_out {
    ort_buf *buf;
    char last[128]; /* the name whose HELP and TYPE have been written */
};

/* Text (text.c). */
void ort_metrics__escape(ort_buf *out, const char *text, size_t bytes_max, bool quotes);
void ort_metrics__number(ort_buf *out, double v);
void ort_metrics__head(ort_buf *out, const char *name, const char *help, const char *type);

/* This process's own numbers (process.c). */
typedef struct ort_metrics__process ort_metrics__process;
ort_metrics__process *ort_metrics__process_new(void);
void ort_metrics__process_free(ort_metrics__process *process);
void ort_metrics__process_collect(ort_metrics_out *out, void *process);
#endif /* ORT_METRICS_INTERNAL_H */
