/* data-plane/index/hnsw_values.h: links that a graph keeps among the points of one value. */
#ifndef DP_HNSW_VALUES_H
#define DP_HNSW_VALUES_H
#include "index/hnsw.h"

/* Beside its links among all nodes, or instead of them (dp_hnsw_config.unlinked), a graph can keep
 * a list a node and *field*, whose links lead only to nodes that have the same value in it: then a
 * search for one value follows no link to another. What a field and a value are is the caller's
 * business: both are numbers here, made by it, best by a hash. Numbers that two values share cost
 * recall: who needs to be sure asks a filter (dp_slot_filter) about what is answered.
 *
 * A value of few points has no links: to compare them one by one is as quick.
 *
 * Threads: searches as ever; one for all that is declared here. */

#define DP_HNSW_FIELDS_MAX 8u
#define DP_HNSW_VALUE_POINTS_MIN 512u /* from here on the points of a value are linked */
#define DP_HNSW_VALUE_NOTED_MAX 256u

/* Begins to keep lists for a field, m as that of a graph; does nothing when it is kept already.
 *
 * field  any number but 0; stands in the graph's file
 *
 * ORT_EINVAL  m, or the graph has DP_HNSW_FIELDS_MAX. ORT_ENOMEM */
ORT_NODISCARD ort_err dp_hnsw_field_add(dp_hnsw *graph, uint64_t field, uint32_t m, ort_diag *diag);

/* No search may be running. */
void dp_hnsw_field_drop(dp_hnsw *graph, uint64_t field);

/* The i-th field, i < DP_HNSW_FIELDS_MAX, and its m; 0: there is none. */
uint64_t dp_hnsw_field_at(const dp_hnsw *graph, unsigned i, uint32_t *m);

/* Slots below have been told of, as the caller noted. 0 when there is no such field. */
uint32_t dp_hnsw_field_end(const dp_hnsw *graph, uint64_t field);

/* Notes that, and sees to it, when enough came since, that all points of a value can be reached.
 * ORT_ENOMEM: noted all the same. */
ORT_NODISCARD ort_err dp_hnsw_field_advance(dp_hnsw *graph, uint64_t field, uint32_t end);

/* Points of a value that can be walked, those that died since the last repair too; 0: none can. Any
 * thread. */
uint32_t dp_hnsw_value_points(const dp_hnsw *graph, uint64_t field, uint64_t value);

/* Slots from `end` on will be told of again. */
void dp_hnsw_field_rewind(dp_hnsw *graph, uint64_t field, uint32_t end);

/* Tells of the values that a slot of the graph has in the field, each once. A point of several
 * values is in no list; each of them notes it, and a search for one compares what it noted besides
 * its walk. A value that would note more than DP_HNSW_VALUE_NOTED_MAX is not walked from then on. A
 * value that reaches DP_HNSW_VALUE_POINTS_MIN has all its points linked before this returns.
 *
 * ORT_ENOTFOUND  no such field, or the slot is not in the graph
 * ORT_EEXISTS    it was told of before
 * ORT_ENOMEM, ORT_EBUSY  not told of: again, later */
ORT_NODISCARD ort_err dp_hnsw_value_add(dp_hnsw *graph, uint64_t field, uint32_t slot,
                                        const uint64_t *values, size_t count);

/* Where a search looks, as dp_hnsw_query.among says. */
struct dp_hnsw_among {
    uint64_t field, value;
    float
        share; /* estimated, of the value's points, that the filter lets through; 0: all of them */

    /* Or these slots, whatever field and value say: those of them that are in the graph are
     * compared by their codes, and the best again by their rows. */
    const uint32_t *slots;
    size_t slot_count;
};

/* What is kept of a field; for tests and benchmarks. */
typedef struct {
    uint32_t values;      /* that have points */
    uint32_t linked;      /* of them, whose points are linked */
    uint32_t mixed;       /* of them, not walked for points with several values */
    uint32_t points;      /* told of, with one value */
    uint32_t noted;       /* with several, once for each value */
    uint32_t bad_links;   /* from one value to another, or to a slot that is not there: always 0 */
    uint32_t unreachable; /* points of linked values that no walk can meet */
    size_t bytes;
} dp_hnsw_field_report;

ORT_NODISCARD ort_err dp_hnsw_field_check(dp_hnsw *graph, uint64_t field,
                                          dp_hnsw_field_report *out);
#endif /* DP_HNSW_VALUES_H */
