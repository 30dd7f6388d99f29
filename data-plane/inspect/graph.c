/* A graph, against the rows it was made of. */
#include <inttypes.h>

#include "index/hnsw.h"
#include "inspect/inspect_internal.h"

ort_err
dp_inspect__graph(dp_derived_files *d, const char *name, uint32_t column, ort_diag *diag)
{
    const dp_catalog_entry *e = d->entry;
    const dp_vector_schema *v = dp_schema_peek_vector(e->schema, column);
    const dp_hnsw_config config = {.metric = v->metric,
                                   .m = v->hnsw.m,
                                   .unlinked = v->hnsw.m == 0,
                                   .ef_construct = v->hnsw.ef_construct,
                                   .seed = e->id.v ^ column};
    dp_hnsw_stamp stamp = {.owner = {d->tenant.v, e->id.v}};
    dp_rows rows = {.chunk_bits = DP_CHUNK_BITS, .dim = v->size, .elem = v->elem};
    dp_column_rows from;
    dp_hnsw *graph = NULL;
    ort_err err = dp_points_rows(d->points, column, &from);
    if (err != ORT_OK) {
        return ort_fail(diag, err, "rows");
    }
    atomic_init(&rows.chunks, from.chunks);
    rows.stride_bytes = from.stride_bytes;
    err = dp_hnsw_load(&graph, &rows, &config, d->index_dir, name, &stamp, diag);
    if (err == ORT_OK && stamp.lsn != dp_points_generation(d->points)) {
        err = ort_fail(diag, ORT_ESTALE, "it is of another checkpoint");
    }
    if (err == ORT_OK) {
        dp_hnsw_report report = {0};
        err = dp_hnsw_check(graph, &report);
        if (err == ORT_OK && (report.dead_links > 0 || report.bad_links > 0)) {
            err = ort_fail(diag, ORT_ECORRUPT, "%" PRIu32 " links lead nowhere",
                           report.dead_links + report.bad_links);
        }
    }
    dp_hnsw_free(graph);
    return err;
}
