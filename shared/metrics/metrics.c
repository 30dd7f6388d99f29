/* The registry: names, their series, and the values behind them.
 *
 * One rwlock guards names and series; values are atomics in cache lines of their own, in stripes
 * that threads are spread over, so that counting on many threads does not bounce one line. */
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/map.h"
#include "metrics_internal.h"

#define STRIPES 4u
#define LINE 64u
#define COLLECTORS_MAX 32u
#define LABEL_VALUE_BYTES_MAX 128u

typedef enum { COUNTER, GAUGE, HISTOGRAM } kind;

typedef struct {
    _Alignas(LINE) _Atomic uint64_t v;
} cell;

struct ort_counter {
    cell cells[STRIPES];
};

struct ort_gauge {
    _Atomic double v;
};

/* A stripe is the counts of its buckets (one more than bounds: above the last) and their sum. */
struct ort_histogram {
    const double *bounds; /* the family's */
    size_t bound_count;
    size_t stripe_words; /* of a stripe, in uint64_t, whole lines */
    _Atomic uint64_t *words;
    _Atomic double sums[STRIPES];
};

typedef struct {
    char *labels; /* name="value",... escaped as shown; "" for none */
    union {
        ort_counter *counter;
        ort_gauge *gauge;
        ort_histogram *histogram;
    } u;
} series;

typedef struct {
    char *name;
    char *help;
    kind kind;
    size_t label_count;
    char *label_names[ORT_METRICS_LABELS_MAX];
    double *bounds;
    size_t bound_count;
    ort_map *by_labels; /* series */
    series **list;      /* in order of birth */
    size_t count;
    size_t cap;
} family;

struct ort_metrics {
    pthread_rwlock_t lock; /* guards all below but the values; a leaf */
    ort_map *by_name;
    family **list; /* sorted by name */
    size_t count;
    size_t cap;
    struct {
        ort_metrics_collector collect;
        void *user;
    } collectors[COLLECTORS_MAX];
    size_t collector_count;
    ort_metrics__process *process;
};

/* Where values go when memory ran out: counted, shown nowhere. */
static ort_counter lost_counter;
static ort_gauge lost_gauge;
static _Atomic uint64_t lost_words[STRIPES];
static ort_histogram lost_histogram = {.stripe_words = 1, .words = lost_words};

static unsigned
stripe_of_thread(void)
{
    static _Atomic unsigned next;
    static _Thread_local unsigned mine; /* 1 + stripe */

    if (mine == 0) {
        mine = 1 + next++ % STRIPES;
    }
    return mine - 1;
}

/* ---- values ---- */

void
ort_counter_add(ort_counter *counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counter->cells[stripe_of_thread()].v, n, memory_order_relaxed);
}

uint64_t
ort_counter_value(const ort_counter *counter)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < STRIPES; i++) {
        sum += atomic_load_explicit(&counter->cells[i].v, memory_order_relaxed);
    }
    return sum;
}

static void
double_add(_Atomic double *to, double v)
{
    double old = atomic_load_explicit(to, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(to, &old, old + v, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void
ort_gauge_set(ort_gauge *gauge, double v)
{
    atomic_store_explicit(&gauge->v, v, memory_order_relaxed);
}

void
ort_gauge_add(ort_gauge *gauge, double v)
{
    double_add(&gauge->v, v);
}

double
ort_gauge_value(const ort_gauge *gauge)
{
    return atomic_load_explicit(&gauge->v, memory_order_relaxed);
}

void
ort_histogram_observe(ort_histogram *histogram, double v)
{
    unsigned stripe = stripe_of_thread();
    size_t low = 0;
    size_t high = histogram->bound_count;

    if (isnan(v)) {
        return; /* would spoil the sum for good */
    }
    while (low < high) { /* the first bound >= v */
        size_t mid = (low + high) / 2;
        if (histogram->bounds[mid] >= v) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    atomic_fetch_add_explicit(&histogram->words[stripe * histogram->stripe_words + low], 1,
                              memory_order_relaxed);
    double_add(&histogram->sums[stripe], v);
}

static uint64_t
bucket_count(const ort_histogram *h, size_t bucket)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < STRIPES; i++) {
        sum += atomic_load_explicit(&h->words[i * h->stripe_words + bucket], memory_order_relaxed);
    }
    return sum;
}

uint64_t
ort_histogram_count(const ort_histogram *histogram)
{
    uint64_t sum = 0;

    for (size_t b = 0; b <= histogram->bound_count; b++) {
        sum += bucket_count(histogram, b);
    }
    return sum;
}

double
ort_histogram_quantile(const ort_histogram *histogram, double q)
{
    double rank = q * (double)ort_histogram_count(histogram);
    double below = 0;

    if (rank <= 0 || histogram->bound_count == 0) {
        return 0;
    }
    for (size_t b = 0; b < histogram->bound_count; b++) {
        double in = (double)bucket_count(histogram, b);
        if (in > 0 && below + in >= rank) {
            double low = b > 0 ? histogram->bounds[b - 1] : 0;
            return low + (histogram->bounds[b] - low) * (rank - below) / in;
        }
        below += in;
    }
    return histogram->bounds[histogram->bound_count - 1];
}

/* ---- the registry ---- */

ort_err
ort_metrics_new(ort_metrics **out)
{
    ort_metrics *m = calloc(1, sizeof *m);

    *out = NULL;
    if (m == NULL) {
        return ORT_ENOMEM;
    }
    if (ort_map_new(&m->by_name) != ORT_OK) {
        free(m);
        return ORT_ENOMEM;
    }
    pthread_rwlock_init(&m->lock, NULL);
    *out = m;
    return ORT_OK;
}

static void
series_free(const family *f, series *s)
{
    if (s == NULL) {
        return;
    }
    if (f->kind == COUNTER) {
        free(s->u.counter);
    } else if (f->kind == GAUGE) {
        free(s->u.gauge);
    } else if (s->u.histogram != NULL) {
        free((void *)s->u.histogram->words);
        free(s->u.histogram);
    }
    free(s->labels);
    free(s);
}

static void
family_free(family *f)
{
    if (f == NULL) {
        return;
    }
    for (size_t i = 0; i < f->count; i++) {
        series_free(f, f->list[i]);
    }
    for (size_t i = 0; i < f->label_count; i++) {
        free(f->label_names[i]);
    }
    ort_map_free(f->by_labels, NULL);
    free(f->list);
    free(f->bounds);
    free(f->name);
    free(f->help);
    free(f);
}

void
ort_metrics_free(ort_metrics *metrics)
{
    if (metrics == NULL) {
        return;
    }
    for (size_t i = 0; i < metrics->count; i++) {
        family_free(metrics->list[i]);
    }
    free(metrics->list);
    ort_map_free(metrics->by_name, NULL);
    ort_metrics__process_free(metrics->process);
    pthread_rwlock_destroy(&metrics->lock);
    free(metrics);
}

/* Room for one more pointer in a growing array. */
static bool
room(void ***list, size_t count, size_t *cap)
{
    if (count < *cap) {
        return true;
    }
    size_t want = *cap > 0 ? *cap * 2 : 8;
    void **grown = realloc(*list, want * sizeof **list);
    if (grown == NULL) {
        return false;
    }
    *list = grown;
    *cap = want;
    return true;
}

typedef struct {
    const char *name;
    const char *help;
    kind kind;
    const ort_label *labels;
    size_t label_count;
    const double *bounds;
    size_t bound_count;
} wanted;

static const double latency_bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.015,
                                        0.03,   0.06,    0.125,  0.25,  0.5,   1,     2.5,   10};

static family *
family_make(const wanted *w)
{
    family *f = calloc(1, sizeof *f);
    bool fine;

    if (f == NULL) {
        return NULL;
    }
    f->kind = w->kind;
    f->name = strdup(w->name);
    f->help = strdup(w->help);
    fine = f->name != NULL && f->help != NULL && ort_map_new(&f->by_labels) == ORT_OK;
    for (size_t i = 0; fine && i < w->label_count; i++) {
        f->label_names[i] = strdup(w->labels[i].name);
        f->label_count = i + 1;
        fine = f->label_names[i] != NULL;
    }
    if (fine && w->kind == HISTOGRAM) {
        f->bounds = calloc(w->bound_count + 1, sizeof *f->bounds);
        fine = f->bounds != NULL;
        f->bound_count = w->bound_count;
        for (size_t i = 0; fine && i < w->bound_count; i++) {
            assert(i == 0 || w->bounds[i] > w->bounds[i - 1]);
            f->bounds[i] = w->bounds[i];
        }
    }
    if (!fine) {
        family_free(f);
        return NULL;
    }
    return f;
}

/* One name has one shape. */
static void
family_assert_same(const family *f, const wanted *w)
{
    assert(f->kind == w->kind && f->label_count == w->label_count);
    for (size_t i = 0; i < w->label_count; i++) {
        assert(strcmp(f->label_names[i], w->labels[i].name) == 0);
    }
    (void)f;
    (void)w;
}

/* The family, made when it is new. The write lock is held. NULL: no memory. */
static family *
family_get(ort_metrics *m, const wanted *w)
{
    family *f = ort_map_get(m->by_name, w->name, strlen(w->name));

    if (f != NULL) {
        return f;
    }
    f = family_make(w);
    if (f == NULL || !room((void ***)&m->list, m->count, &m->cap) ||
        ort_map_set(m->by_name, w->name, strlen(w->name), f, NULL) != ORT_OK) {
        family_free(f);
        return NULL;
    }
    size_t at = m->count++;
    while (at > 0 && strcmp(m->list[at - 1]->name, f->name) > 0) {
        m->list[at] = m->list[at - 1];
        at--;
    }
    m->list[at] = f;
    return f;
}

static series *
series_make(family *f, const char *labels)
{
    series *s = calloc(1, sizeof *s);

    if (s == NULL) {
        return NULL;
    }
    s->labels = strdup(labels);
    if (f->kind == COUNTER) {
        s->u.counter = aligned_alloc(LINE, sizeof *s->u.counter);
        if (s->u.counter != NULL) {
            memset(s->u.counter, 0, sizeof *s->u.counter);
        }
    } else if (f->kind == GAUGE) {
        s->u.gauge = calloc(1, sizeof *s->u.gauge);
    } else {
        ort_histogram *h = calloc(1, sizeof *h);
        s->u.histogram = h;
        if (h != NULL) {
            size_t per_line = LINE / sizeof(uint64_t);
            h->bounds = f->bounds;
            h->bound_count = f->bound_count;
            h->stripe_words = (f->bound_count + 1 + per_line - 1) / per_line * per_line;
            size_t bytes = h->stripe_words * STRIPES * sizeof(uint64_t);
            h->words = aligned_alloc(LINE, bytes);
            if (h->words == NULL) {
                free(h);
                s->u.histogram = NULL;
            } else {
                memset((void *)h->words, 0, bytes);
            }
        }
    }
    if (s->labels == NULL || s->u.counter == NULL) { /* any member: all are pointers */
        series_free(f, s);
        return NULL;
    }
    return s;
}

/* The write lock is held. */
static series *
series_get(family *f, const char *key)
{
    series *s = ort_map_get(f->by_labels, key, strlen(key));

    if (s != NULL) {
        return s;
    }
    s = series_make(f, key);
    if (s == NULL || !room((void ***)&f->list, f->count, &f->cap) ||
        ort_map_set(f->by_labels, key, strlen(key), s, NULL) != ORT_OK) {
        series_free(f, s);
        return NULL;
    }
    f->list[f->count++] = s;
    return s;
}

/* name="value",...: the text that is shown is the key too. */
static const char *
labels_text(ort_buf *buf, const ort_label *labels, size_t count, const char *instead)
{
    for (size_t i = 0; i < count; i++) {
        ort_buf_puts(buf, i > 0 ? "," : "");
        ort_buf_puts(buf, labels[i].name);
        ort_buf_puts(buf, "=\"");
        ort_metrics__escape(buf, instead != NULL ? instead : labels[i].value, LABEL_VALUE_BYTES_MAX,
                            true);
        ort_buf_putc(buf, '"');
    }
    return ort_buf_peek_cstr(buf);
}

/* The series, or NULL when memory ran out. */
static series *
series_find(ort_metrics *m, const wanted *w)
{
    ort_buf text = {0};
    ort_buf other_text = {0};
    series *s = NULL;

    assert(w->label_count <= ORT_METRICS_LABELS_MAX);
    const char *key = labels_text(&text, w->labels, w->label_count, NULL);
    if (key == NULL) {
        ort_buf_fini(&text);
        return NULL;
    }
    pthread_rwlock_rdlock(&m->lock);
    family *f = ort_map_get(m->by_name, w->name, strlen(w->name));
    if (f != NULL) {
        family_assert_same(f, w);
        s = ort_map_get(f->by_labels, key, strlen(key));
    }
    pthread_rwlock_unlock(&m->lock);
    if (s == NULL) {
        pthread_rwlock_wrlock(&m->lock);
        f = family_get(m, w);
        if (f != NULL) {
            s = ort_map_get(f->by_labels, key, strlen(key));
            if (s == NULL && f->count >= ORT_METRICS_SERIES_MAX - 1) {
                key = labels_text(&other_text, w->labels, w->label_count, "_other");
            }
            if (s == NULL && key != NULL) {
                s = series_get(f, key);
            }
        }
        pthread_rwlock_unlock(&m->lock);
    }
    ort_buf_fini(&text);
    ort_buf_fini(&other_text);
    return s;
}

ort_counter *
ort_metrics_counter(ort_metrics *metrics, const char *name, const char *help,
                    const ort_label *labels, size_t label_count)
{
    wanted w = {name, help, COUNTER, labels, label_count, NULL, 0};
    series *s = series_find(metrics, &w);

    return s != NULL ? s->u.counter : &lost_counter;
}

ort_gauge *
ort_metrics_gauge(ort_metrics *metrics, const char *name, const char *help, const ort_label *labels,
                  size_t label_count)
{
    wanted w = {name, help, GAUGE, labels, label_count, NULL, 0};
    series *s = series_find(metrics, &w);

    return s != NULL ? s->u.gauge : &lost_gauge;
}

ort_histogram *
ort_metrics_histogram(ort_metrics *metrics, const char *name, const char *help,
                      const double *bounds, size_t bound_count, const ort_label *labels,
                      size_t label_count)
{
    wanted w = {name, help, HISTOGRAM, labels, label_count, bounds, bound_count};

    if (bounds == NULL) {
        w.bounds = latency_bounds;
        w.bound_count = sizeof latency_bounds / sizeof latency_bounds[0];
    }
    series *s = series_find(metrics, &w);
    return s != NULL ? s->u.histogram : &lost_histogram;
}

ort_err
ort_metrics_collect(ort_metrics *metrics, ort_metrics_collector collector, void *user)
{
    ort_err err = ORT_OK;

    pthread_rwlock_wrlock(&metrics->lock);
    if (metrics->collector_count == COLLECTORS_MAX) {
        err = ORT_EBUSY;
    } else {
        metrics->collectors[metrics->collector_count].collect = collector;
        metrics->collectors[metrics->collector_count].user = user;
        metrics->collector_count++;
    }
    pthread_rwlock_unlock(&metrics->lock);
    return err;
}

ort_err
ort_metrics_process(ort_metrics *metrics)
{
    ort_metrics__process *process = ort_metrics__process_new();
    ort_err err;

    if (process == NULL) {
        return ORT_ENOMEM;
    }
    assert(metrics->process == NULL);
    err = ort_metrics_collect(metrics, ort_metrics__process_collect, process);
    if (err != ORT_OK) {
        ort_metrics__process_free(process);
        return err;
    }
    metrics->process = process;
    return ORT_OK;
}

/* ---- exposition ---- */

static void
histogram_write(ort_buf *out, const family *f, const series *s)
{
    const ort_histogram *h = s->u.histogram;
    const char *comma = s->labels[0] != '\0' ? "," : "";
    uint64_t seen = 0;
    double sum = 0;

    for (size_t b = 0; b <= h->bound_count; b++) {
        seen += bucket_count(h, b);
        ort_buf_printf(out, "%s_bucket{%s%sle=\"", f->name, s->labels, comma);
        ort_metrics__number(out, b < h->bound_count ? h->bounds[b] : (double)INFINITY);
        ort_buf_printf(out, "\"} %llu\n", (unsigned long long)seen);
    }
    for (unsigned i = 0; i < STRIPES; i++) {
        sum += atomic_load_explicit(&h->sums[i], memory_order_relaxed);
    }
    const char *open = s->labels[0] != '\0' ? "{" : "";
    const char *shut = s->labels[0] != '\0' ? "}" : "";
    ort_buf_printf(out, "%s_sum%s%s%s ", f->name, open, s->labels, shut);
    ort_metrics__number(out, sum);
    ort_buf_printf(out, "\n%s_count%s%s%s %llu\n", f->name, open, s->labels, shut,
                   (unsigned long long)seen);
}

static void
family_write(ort_buf *out, const family *f)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    ort_metrics__head(out, f->name, f->help, kinds[f->kind]);
    for (size_t i = 0; i < f->count; i++) {
        const series *s = f->list[i];
        if (f->kind == HISTOGRAM) {
            histogram_write(out, f, s);
            continue;
        }
        ort_buf_puts(out, f->name);
        if (s->labels[0] != '\0') {
            ort_buf_printf(out, "{%s}", s->labels);
        }
        if (f->kind == COUNTER) {
            ort_buf_printf(out, " %llu\n", (unsigned long long)ort_counter_value(s->u.counter));
        } else {
            ort_buf_putc(out, ' ');
            ort_metrics__number(out, ort_gauge_value(s->u.gauge));
            ort_buf_putc(out, '\n');
        }
    }
}

ort_err
ort_metrics_write(ort_metrics *metrics, ort_buf *out)
{
    ort_metrics_out collected = {.buf = out};
    size_t collectors;

    pthread_rwlock_rdlock(&metrics->lock);
    for (size_t i = 0; i < metrics->count; i++) {
        family_write(out, metrics->list[i]);
    }
    collectors = metrics->collector_count;
    pthread_rwlock_unlock(&metrics->lock);
    /* Collectors are only ever added, so that the first ones are there without the lock. */
    for (size_t i = 0; i < collectors; i++) {
        metrics->collectors[i].collect(&collected, metrics->collectors[i].user);
    }
    return ort_buf_check(out);
}
