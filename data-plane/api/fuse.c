/* Several ranked lists become one. */
#include <math.h>
#include <stdlib.h>

#include "api/plan.h"
#include "base/map.h"

void
dp_found_list_fini(dp_found_list *list)
{
    free(list->items);
    *list = (dp_found_list){0};
}

ort_err
dp_found_list_add(dp_found_list *list, dp_found item)
{
    if (list->count == list->cap) {
        const size_t cap = list->cap == 0 ? 16 : list->cap * 2;
        dp_found *items = realloc(list->items, cap * sizeof *items);
        if (items == NULL) {
            return ORT_ENOMEM;
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = item;
    return ORT_OK;
}

/* Sums up what the lists say of each point. Scores are added as doubles and rounded once. */
typedef struct {
    dp_found found;
    double score;
} fused;

typedef struct {
    fused *items;
    size_t count, cap;
    ort_map *by_id; /* encoded id → 1 + index */
} fusion;

static ort_err
fusion_add(fusion *f, const dp_found *found, double score)
{
    unsigned char key[ORT_POINT_ID_BYTES];
    ort_point_id_encode(found->id, key);
    const uintptr_t seen = (uintptr_t)ort_map_get(f->by_id, key, sizeof key);
    if (seen != 0) {
        f->items[seen - 1].score += score;
        return ORT_OK;
    }
    if (f->count == f->cap) {
        const size_t cap = f->cap == 0 ? 64 : f->cap * 2;
        fused *items = realloc(f->items, cap * sizeof *items);
        if (items == NULL) {
            return ORT_ENOMEM;
        }
        f->items = items;
        f->cap = cap;
    }
    f->items[f->count++] = (fused){.found = *found, .score = score};
    return ort_map_set(f->by_id, key, sizeof key, (void *)(uintptr_t)f->count, NULL);
}

static int
best_first(const void *a, const void *b)
{
    const fused *fa = a;
    const fused *fb = b;
    if (fa->score != fb->score) {
        return fa->score > fb->score ? -1 : 1;
    }
    return ort_point_id_cmp(fa->found.id, fb->found.id);
}

static ort_err
fusion_end(fusion *f, ort_err err, dp_found_list *out)
{
    if (f->count > 0) {
        qsort(f->items, f->count, sizeof *f->items, best_first);
    }
    for (size_t i = 0; err == ORT_OK && i < f->count; i++) {
        dp_found item = f->items[i].found;
        item.score = (float)f->items[i].score;
        err = dp_found_list_add(out, item);
    }
    free(f->items);
    ort_map_free(f->by_id, NULL);
    return err;
}

ort_err
dp_fuse_rrf(const dp_found_list *lists, size_t count, double k, const double *weights,
            dp_found_list *out)
{
    fusion f = {0};
    ort_err err = ort_map_new(&f.by_id);
    for (size_t l = 0; err == ORT_OK && l < count; l++) {
        const double weight = weights != NULL ? weights[l] : 1;
        for (size_t i = 0; err == ORT_OK && i < lists[l].count; i++) {
            /* A weight of 0 takes the list out of the sum, not the points out of the answer. */
            const double score = weight > 0 ? 1 / ((double)(i + 1) / weight + k - 1) : 0;
            err = fusion_add(&f, &lists[l].items[i], score);
        }
    }
    return fusion_end(&f, err, out);
}

ort_err
dp_fuse_dbsf(const dp_found_list *lists, size_t count, dp_found_list *out)
{
    fusion f = {0};
    ort_err err = ort_map_new(&f.by_id);
    for (size_t l = 0; err == ORT_OK && l < count; l++) {
        const size_t n = lists[l].count;
        double mean = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            mean += (double)lists[l].items[i].score / (double)n;
        }
        for (size_t i = 0; i < n; i++) {
            const double d = (double)lists[l].items[i].score - mean;
            squares += d * d;
        }
        const double sd = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
        for (size_t i = 0; err == ORT_OK && i < n; i++) {
            const double s = (double)lists[l].items[i].score;
            err =
                fusion_add(&f, &lists[l].items[i], sd > 0 ? (s - (mean - 3 * sd)) / (6 * sd) : 0.5);
        }
    }
    return fusion_end(&f, err, out);
}
