/* shared/metrics/metrics.h: counters, gauges and histograms, shown as Prometheus text.
 *
 * A metric is asked for by name and labels and lives as long as the registry; asking again gives
 * the same one. Asking takes a lock and a hash; adding is an atomic add on a line of memory that
 * few threads share. Hot paths keep the pointer. */
#ifndef ORT_METRICS_H
#define ORT_METRICS_H
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Opaque. From ort_metrics_new() to ort_metrics_free(); free(NULL) is allowed.
 * Threads: any number in every function but free. */
typedef struct ort_metrics ort_metrics;
typedef struct ort_counter ort_counter;
typedef struct ort_gauge ort_gauge;
typedef struct ort_histogram ort_histogram;

typedef struct {
    const char *name;
    const char *value; /* any UTF-8; escaped when shown; cut at 128 bytes */
} ort_label;

#define ORT_METRICS_SERIES_MAX 512u /* of one name; further label values share `_other` */
#define ORT_METRICS_LABELS_MAX 6u
#define ORT_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

ORT_NODISCARD ort_err ort_metrics_new(ort_metrics **out);
void ort_metrics_free(ort_metrics *metrics);

/* The metric of that name and those labels; never NULL: when memory runs out it is one that is
 * shown nowhere. name: orthant_noun_unit, counters end in _total; help: one sentence. All metrics
 * of one name have one type, one help and the same label names in the same order (asserted). A
 * name's series beyond ORT_METRICS_SERIES_MAX are one, whose label values are all "_other". Names
 * and help are copied. */
ort_counter *ort_metrics_counter(ort_metrics *metrics, const char *name, const char *help,
                                 const ort_label *labels, size_t label_count);
ort_gauge *ort_metrics_gauge(ort_metrics *metrics, const char *name, const char *help,
                             const ort_label *labels, size_t label_count);

/* bounds: the upper ends of the buckets, ascending, without +Inf; copied. NULL = seconds from 100
 * microseconds to 10 s in 16 steps. */
ort_histogram *ort_metrics_histogram(ort_metrics *metrics, const char *name, const char *help,
                                     const double *bounds, size_t bound_count,
                                     const ort_label *labels, size_t label_count);

void ort_counter_add(ort_counter *counter, uint64_t n);
uint64_t ort_counter_value(const ort_counter *counter);

void ort_gauge_set(ort_gauge *gauge, double v);
void ort_gauge_add(ort_gauge *gauge, double v);
double ort_gauge_value(const ort_gauge *gauge);

void ort_histogram_observe(ort_histogram *histogram, double v); /* seconds, bytes: base units */
uint64_t ort_histogram_count(const ort_histogram *histogram);

/* The value below which a share q (0 .. 1) of the observations lie, interpolated within its bucket
 * as Prometheus does; 0 when there are none. */
double ort_histogram_quantile(const ort_histogram *histogram, double q);

/* Values that exist elsewhere (queue depths, per-tenant usage) are read when shown: the collector
 * is called by each ort_metrics_write(), with no lock held, and emits all samples of one name
 * together. It must not use a name that is registered above. */
typedef struct ort_metrics_out ort_metrics_out;
typedef void (*ort_metrics_collector)(ort_metrics_out *out, void *user);
ORT_NODISCARD ort_err ort_metrics_collect(ort_metrics *metrics, ort_metrics_collector collector,
                                          void *user);

typedef enum { ORT_METRIC_COUNTER, ORT_METRIC_GAUGE } ort_metric_type;
void ort_metrics_emit(ort_metrics_out *out, ort_metric_type type, const char *name,
                      const char *help, const ort_label *labels, size_t label_count, double value);

/* Appends everything as Prometheus text exposition format 0.0.4, names sorted. ORT_ENOMEM: out is
 * incomplete. */
ORT_NODISCARD ort_err ort_metrics_write(ort_metrics *metrics, ort_buf *out);

/* Adds this process: orthant_cpu_usage_ratio (of the CPUs it may use, since the last reading),
 * orthant_memory_usage_bytes, orthant_memory_limit_bytes (of the control group, else of the
 * machine), and the usual process_* ones. */
ORT_NODISCARD ort_err ort_metrics_process(ort_metrics *metrics);

/* The same numbers for others (heartbeats, budgets). */
typedef struct {
    double cpu_ratio; /* 0 .. 1 of cpu_count, since the previous call with this `last` */
    double cpu_count; /* CPUs this process may use: affinity and control group quota */
    uint64_t memory_usage_bytes;
    uint64_t memory_limit_bytes;
} ort_process_load;

typedef struct {
    uint64_t cpu_ns;
    uint64_t wall_ns;
} ort_process_last; /* {0} to begin with */

void ort_process_load_read(ort_process_last *last, ort_process_load *out);
#endif /* ORT_METRICS_H */
