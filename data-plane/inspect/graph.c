/* Graphs can be made anew, and a damaged one is only time lost: it is named, and removed by repair.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "index/hnsw.h"
#include "inspect/inspect_internal.h"
#include "storage/points.h"

static dp_column_type
column_type(const dp_vector_schema *v)
{
    if (v->sparse || v->multi) {
        return DP_COLUMN_BYTES;
    }
    return v->elem == DP_ELEM_F32   ? DP_COLUMN_F32
           : v->elem == DP_ELEM_F16 ? DP_COLUMN_F16
                                    : DP_COLUMN_U8;
}

static ort_err
open_points(dp_points **out, int dir, ort_tenant_id tenant, const dp_catalog_entry *e,
            ort_diag *diag)
{
    const uint32_t count = dp_schema_vector_count(e->schema);
    dp_column *columns = calloc((size_t)count + 1, sizeof *columns);
    if (columns == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "columns");
    }
    for (uint32_t i = 0; i < count; i++) {
        const dp_vector_schema *v = dp_schema_peek_vector(e->schema, i);
        columns[i] = (dp_column){.id = i, .type = column_type(v)};
        columns[i].dim = columns[i].type == DP_COLUMN_BYTES ? 0 : v->size;
    }
    const dp_points_config config = {.tenant = tenant,
                                     .shard = e->id,
                                     .layout = {.columns = columns, .column_count = count},
                                     .read_only = true};
    const ort_err err = dp_points_open(out, dir, &config, diag);
    free(columns);
    return err;
}

/* The graph of one vector: ORT_ECORRUPT with the words when it is damaged. */
static ort_err
check_graph(dp_points *points, int index_dir, const char *name, ort_tenant_id tenant,
            const dp_catalog_entry *e, uint32_t column, ort_diag *diag)
{
    const dp_vector_schema *v = dp_schema_peek_vector(e->schema, column);
    const dp_hnsw_config config = {.metric = v->metric,
                                   .m = v->hnsw.m,
                                   .unlinked = v->hnsw.m == 0,
                                   .ef_construct = v->hnsw.ef_construct,
                                   .seed = e->id.v ^ column};
    dp_hnsw_stamp stamp = {.owner = {tenant.v, e->id.v}};
    dp_rows rows = {.chunk_bits = DP_CHUNK_BITS, .dim = v->size, .elem = v->elem};
    dp_column_rows from;
    dp_hnsw *graph = NULL;
    ort_err err = dp_points_rows(points, column, &from);
    if (err != ORT_OK) {
        return ort_fail(diag, err, "rows");
    }
    atomic_init(&rows.chunks, from.chunks);
    rows.stride_bytes = from.stride_bytes;
    err = dp_hnsw_load(&graph, &rows, &config, index_dir, name, &stamp, diag);
    if (err == ORT_OK && stamp.lsn == dp_points_generation(points)) {
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

ort_err
dp_inspect__graphs(dp_inspect *i, int tenant_dir, int dir, ort_tenant_id tenant,
                   const dp_catalog_entry *e, ort_diag *diag)
{
    char path[64], id[ORT_ID_TEXT_BYTES], where[sizeof i->where];
    dp_points *points = NULL;
    ort_err err = ORT_OK;
    ort_id_format(e->id.v, id);
    snprintf(path, sizeof path, "indexes/%s", id);
    const int index_dir = ort_open_beneath(tenant_dir, path, O_RDONLY | O_DIRECTORY, 0);
    if (index_dir < 0) {
        return ORT_OK; /* most have none */
    }
    snprintf(where, sizeof where, "%s", i->where);
    for (uint32_t c = 0; err == ORT_OK && c < dp_schema_vector_count(e->schema); c++) {
        const dp_vector_schema *v = dp_schema_peek_vector(e->schema, c);
        char name[32];
        ort_diag why = {""};
        snprintf(name, sizeof name, "vector-%" PRIu32 ".hnsw", c);
        if (v->sparse || v->multi || faccessat(index_dir, name, F_OK, 0) != 0) {
            continue;
        }
        if (points == NULL) {
            err = open_points(&points, dir, tenant, e, diag);
        }
        const ort_err found =
            err == ORT_OK ? check_graph(points, index_dir, name, tenant, e, c, &why) : ORT_OK;
        i->report->files++;
        if (found != ORT_ECORRUPT) {
            continue; /* of other settings or a newer program: the node makes it anew */
        }
        snprintf(i->where, sizeof i->where, "%.400s/%s", where, name);
        if (!i->repair) {
            i->report->damaged++;
            dp_inspect__say(i, "damaged", "%s (a node makes it anew)", why.text);
        } else if (unlinkat(index_dir, name, 0) != 0) {
            err = ort_fail_errno(diag, ORT_EIO, "remove %s", name);
        } else {
            i->report->repaired++;
            dp_inspect__say(i, "repaired", "removed, a node makes it anew: %s", why.text);
        }
        snprintf(i->where, sizeof i->where, "%s", where);
    }
    dp_points_close(points);
    ort_fd_close(index_dir);
    return err;
}
