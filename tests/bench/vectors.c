/* Data sets. */
#include "vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
die(const char *what, const char *path)
{
    fprintf(stderr, "%s: %s\n", path, what);
    exit(2);
}

static void *
allocate(size_t bytes)
{
    void *p = malloc(bytes > 0 ? bytes : 1);
    if (p == NULL) {
        die("out of memory", "bench");
    }
    return p;
}

/* The file itself, or zstd's reading of it. */
static FILE *
open_vectors(const char *dir, const char *name, const char *ending, char path[1024], bool *piped)
{
    char command[1100];
    snprintf(path, 1024, "%s/%s.%s", dir, name, ending);
    *piped = false;
    if (access(path, R_OK) == 0) {
        return fopen(path, "rb");
    }
    snprintf(path, 1024, "%s/%s.%s.zst", dir, name, ending);
    if (access(path, R_OK) != 0 || strchr(path, '\'') != NULL) {
        return NULL;
    }
    snprintf(command, sizeof command, "zstd -dcq '%s'", path);
    *piped = true;
    return popen(command, "r"); /* NOLINT(cert-env33-c): a benchmark, and the path is quoted */
}

/* Reads rows of 4-byte dimension and values of `width` bytes; returns raw values. */
static unsigned char *
read_rows(const char *dir, const char *name, const char *ending, size_t width, uint32_t max,
          uint32_t *dim, uint32_t *count)
{
    char path[1024];
    bool piped;
    FILE *file = open_vectors(dir, name, ending, path, &piped);
    if (file == NULL) {
        return NULL;
    }
    unsigned char *rows = NULL;
    size_t cap = 0;
    int32_t d;
    *count = 0;
    *dim = 0;
    while ((max == 0 || *count < max) && fread(&d, sizeof d, 1, file) == 1) {
        if (d <= 0 || d > 65536 || (*dim != 0 && (uint32_t)d != *dim)) {
            die("damaged", path);
        }
        *dim = (uint32_t)d;
        const size_t row = *dim * width;
        if ((*count + 1) * row > cap) {
            cap = cap == 0 ? row * 1024 : cap * 2;
            rows = realloc(rows, cap);
            if (rows == NULL) {
                die("out of memory", path);
            }
        }
        if (fread(rows + *count * row, 1, row, file) != row) {
            die("cut", path);
        }
        (*count)++;
    }
    if (piped) {
        pclose(file);
    } else {
        fclose(file);
    }
    return rows;
}

static float *
read_floats(const char *dir, const char *name, const char *part, uint32_t max, uint32_t *dim,
            uint32_t *count, bool *bytes)
{
    char ending[64];
    snprintf(ending, sizeof ending, "%s.fvecs", part);
    unsigned char *raw = read_rows(dir, name, ending, sizeof(float), max, dim, count);
    *bytes = raw == NULL;
    if (raw != NULL) {
        return (float *)(void *)raw;
    }
    snprintf(ending, sizeof ending, "%s.bvecs", part);
    raw = read_rows(dir, name, ending, 1, max, dim, count);
    if (raw == NULL) {
        die("neither .fvecs nor .bvecs is there", name);
    }
    const size_t n = (size_t)*dim * *count;
    float *values = allocate(n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)raw[i];
    }
    free(raw);
    return values;
}

static void
normalise(float *rows, uint32_t count, uint32_t dim)
{
    for (uint32_t i = 0; i < count; i++) {
        float *row = rows + (size_t)i * dim;
        double sum = 0;
        for (uint32_t j = 0; j < dim; j++) {
            sum += (double)row[j] * (double)row[j];
        }
        const float scale = sum > 0 ? (float)(1 / sqrt(sum)) : 1;
        for (uint32_t j = 0; j < dim; j++) {
            row[j] *= scale;
        }
    }
}

void
bench_set_load(bench_set *set, const char *dir, const char *name, uint32_t base_max,
               const char *metric)
{
    uint32_t dim, rows;
    bool bytes;
    *set = (bench_set){0};
    set->base = read_floats(dir, name, "base", base_max, &set->dim, &set->base_count, &set->bytes);
    set->query = read_floats(dir, name, "query", 0, &dim, &set->query_count, &bytes);
    if (dim != set->dim) {
        die("base and queries have other dimensions", name);
    }
    set->file_bytes = set->bytes;
    if (metric != NULL) {
        if (strcmp(metric, "l2") != 0 && strcmp(metric, "cos") != 0) {
            die("not a metric: l2 or cos", metric);
        }
        set->bytes = strcmp(metric, "l2") == 0;
    }
    if (!set->bytes) {
        normalise(set->base, set->base_count, set->dim);
        normalise(set->query, set->query_count, set->dim);
    }
    if (base_max == 0) {
        set->truth =
            (int32_t *)(void *)read_rows(dir, name, "query.gt.ivecs", 4, 0, &set->truth_k, &rows);
        if (set->truth != NULL && (rows != set->query_count || set->truth_k < 10)) {
            die("the ground truth is of other queries", name);
        }
    }
}

void
bench_set_free(bench_set *set)
{
    free(set->base);
    free(set->query);
    free(set->truth);
    *set = (bench_set){0};
}

float
bench_set_distance(const bench_set *set, const float *a, const float *b)
{
    double sum = 0;
    for (uint32_t i = 0; i < set->dim; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += set->bytes ? d * d : -(double)a[i] * (double)b[i];
    }
    return (float)sum;
}

uint32_t
bench_set_hits(const bench_set *set, uint32_t q, const uint64_t *ids, uint32_t n, uint32_t k)
{
    const float *query = set->query + (size_t)q * set->dim;
    const int32_t last = set->truth[(size_t)q * set->truth_k + k - 1];
    /* Cosine of rounded floats: the last place may differ. */
    const float bound = bench_set_distance(set, query, set->base + (size_t)last * set->dim) +
                        (set->bytes ? 0 : 1e-6f);
    uint32_t hits = 0;
    for (uint32_t i = 0; i < n && i < k; i++) {
        hits += ids[i] < set->base_count &&
                bench_set_distance(set, query, set->base + ids[i] * set->dim) <= bound;
    }
    return hits;
}
