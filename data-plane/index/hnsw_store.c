/* Saving a graph, and finding one again: what is written when, and what must fit before a file is
 * looked into (hnsw_verify.c) at all. The bytes are in hnsw_file.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/point.h"
#include "index/hnsw_file.h"

ort_err
dp_graph_write_slab(dp_graph_writer *w, const dp_slab *slab, uint32_t count, dp_graph_place *place,
                    ort_diag *diag)
{
    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < count; c++) {
        uint32_t begin = dp_slab_chunk_begin(c);
        uint32_t n =
            count - begin < dp_slab_chunk_count(c) ? count - begin : dp_slab_chunk_count(c);
        ort_err err =
            dp_graph_write(w, dp_slab_at(slab, begin), (size_t)n * slab->stride_bytes, diag);

        if (err != ORT_OK) {
            return err;
        }
    }
    return dp_graph_write_end(w, place, diag);
}

static ort_err
write_model(dp_graph_writer *w, const dp_code_set *set, dp_graph_place *place, ort_diag *diag)
{
    size_t bytes;
    unsigned char *model = dp_code_set_model(set, &bytes);
    ort_err err;

    if (model == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory to write a graph");
    }
    err = dp_graph_write(w, model, bytes, diag);
    free(model);
    return err == ORT_OK ? dp_graph_write_end(w, place, diag) : err;
}

static uint32_t
used_slots(const dp_hnsw *graph)
{
    uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);

    while (end > 0 && dp_hnsw__state(graph, end - 1) == DP_NODE_EMPTY &&
           dp_hnsw__node(graph, end - 1)->placed == 0) {
        end--;
    }
    return end;
}

static ort_err
write_sections(dp_graph_writer *w, const dp_hnsw *graph, dp_graph_head *h, ort_diag *diag)
{
    const dp_code_set *set = dp_hnsw__set(graph);
    ort_err err = dp_graph_write_slab(w, &graph->nodes, h->slots, &h->at[DP_GRAPH_NODES], diag);

    if (err == ORT_OK) {
        err = dp_graph_write_slab(w, &graph->upper, h->upper_count, &h->at[DP_GRAPH_UPPER], diag);
    }
    if (err == ORT_OK && set != NULL) {
        err = write_model(w, set, &h->at[DP_GRAPH_MODEL], diag);
    }
    if (err == ORT_OK) {
        err = dp_graph_write_slab(w, &graph->links, h->slots, &h->at[DP_GRAPH_LINKS], diag);
    }
    if (err == ORT_OK && set != NULL) {
        err = dp_graph_write_slab(w, &set->rows, h->slots, &h->at[DP_GRAPH_CODES], diag);
    }
    return err == ORT_OK ? dp_hnsw__write_values(w, graph, h, diag) : err;
}

/* With the gate held alone. */
static ort_err
write_graph(int fd, const dp_hnsw *graph, const dp_hnsw_stamp *stamp, dp_graph_head *h,
            ort_diag *diag)
{
    const dp_code_set *set = dp_hnsw__set(graph);
    dp_graph_writer w;
    ort_err err;

    *h = (dp_graph_head){
        .metric = graph->metric,
        .m = graph->m,
        .dim = graph->rows->dim,
        .elem = graph->rows->elem,
        .row_bytes = set != NULL ? (uint32_t)set->rows.stride_bytes : 0,
        .slots = used_slots(graph),
        .live = dp_hnsw_count(graph),
        .upper_count =
            atomic_load_explicit((_Atomic(uint32_t) *)&graph->upper_count, memory_order_relaxed),
        .inexact = set != NULL ? atomic_load_explicit((_Atomic(uint32_t) *)&set->inexact,
                                                      memory_order_relaxed)
                               : 0,
        .entry = atomic_load_explicit((_Atomic(uint64_t) *)&graph->entry, memory_order_acquire),
        .seed = graph->seed,
        .stamp = *stamp};
    for (int i = 0; i < DP_STOP_STEPS; i++) {
        h->stop[i] = atomic_load_explicit((_Atomic(float) *)&graph->stop[i], memory_order_relaxed);
    }
    dp_graph_writer_init(&w, fd);
    err = write_sections(&w, graph, h, diag);
    if (err == ORT_OK) {
        err = dp_graph_write_head(&w, h, diag);
    }
    dp_graph_writer_fini(&w);
    return err;
}

bool
dp_hnsw__keeps_links_mapped(const dp_hnsw *graph)
{
    /* A walk over rows would follow a link that the disk changed after it was checked to a row that
     * is not there; one over codes finds zeros. */
    return graph->links_on_disk && dp_hnsw__set(graph) != NULL;
}

/* Lets the file carry the links from now on. With the gate held alone: what was written is what is
 * in memory. The chunks taken out are left in `old`; without room for mappings nothing changes. */
static void
remap_links(dp_hnsw *graph, int fd, const dp_graph_head *h, dp_slab *old)
{
    dp_slab_init(old, graph->links.stride_bytes);
    if (graph->unlinked || !dp_hnsw__keeps_links_mapped(graph) ||
        dp_slab_map(old, fd, h->at[DP_GRAPH_LINKS].offset, h->slots, NULL) != ORT_OK) {
        return;
    }
    dp_slab_advise(old, MADV_RANDOM);
    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < h->slots; c++) {
        dp_slab_exchange(&graph->links, old, c);
    }
}

static ort_err
save_to(dp_hnsw *graph, int fd, const dp_hnsw_stamp *stamp, ort_diag *diag)
{
    dp_graph_head h;
    dp_slab old;
    ort_err err;

    dp_slab_init(&old, graph->links.stride_bytes);
    pthread_rwlock_wrlock(&graph->gate);
    err = dp_hnsw__repair(graph);
    if (err == ORT_OK) {
        err = write_graph(fd, graph, stamp, &h, diag);
    }
    if (err == ORT_OK && dp_hnsw_is_bad(graph)) {
        err = ort_fail(diag, ORT_EIO, "pages of the graph's file could not be read");
    }
    if (err == ORT_OK) {
        remap_links(graph, fd, &h, &old);
    }
    pthread_rwlock_unlock(&graph->gate);
    dp_scratch_drain(graph);
    dp_slab_fini(&old);
    /* Beside inserts: the pages are the file's now, whatever is linked meanwhile. */
    if (err == ORT_OK && fsync(fd) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "fsync of the graph's file");
    }
    return err;
}

ort_err
dp_hnsw_save(dp_hnsw *graph, int dir_fd, const char *name, const dp_hnsw_stamp *stamp,
             ort_diag *diag)
{
    char fresh[256];
    int length = snprintf(fresh, sizeof fresh, "%s.new", name);
    int fd;
    ort_err err;

    if (length < 0 || (size_t)length >= sizeof fresh) {
        return ort_fail(diag, ORT_EINVAL, "the name of the graph's file is too long");
    }
    /* Not over what is there: a graph may be mapped from it. */
    (void)unlinkat(dir_fd, fresh, 0);
    fd = ort_open_beneath(dir_fd, fresh, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", fresh);
    }
    err = save_to(graph, fd, stamp, diag);
    ort_fd_close(fd);
    ort_point("graph.written");
    if (err == ORT_OK && renameat(dir_fd, fresh, dir_fd, name) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "rename %s", fresh);
    }
    if (err != ORT_OK) {
        (void)unlinkat(dir_fd, fresh, 0);
        return err;
    }
    ort_point("graph.renamed");
    return ort_dir_sync(dir_fd, diag);
}

/* --- opening ------------------------------------------------------------------------------------
 */

static ort_err
stale(ort_diag *diag)
{
    return ort_fail(diag, ORT_ESTALE, "the graph's file was built with other settings");
}

static ort_err
check_sections(const dp_graph_head *h, const dp_hnsw *graph, uint64_t file_bytes, ort_diag *diag)
{
    const dp_graph_place *at = h->at;
    bool coded = h->row_bytes != 0;

    /* No overflow: 2^31 slots, rows of less than 2^32 bytes. */
    if (h->end != file_bytes || at[DP_GRAPH_NODES].offset == 0 ||
        at[DP_GRAPH_NODES].bytes != (uint64_t)h->slots * sizeof(dp_node) ||
        at[DP_GRAPH_UPPER].offset == 0 ||
        at[DP_GRAPH_UPPER].bytes != (uint64_t)h->upper_count * graph->m * sizeof(dp_link) ||
        at[DP_GRAPH_LINKS].offset == 0 ||
        at[DP_GRAPH_LINKS].bytes != (uint64_t)h->slots * graph->m0 * sizeof(dp_link) ||
        (at[DP_GRAPH_CODES].offset != 0) != coded || (at[DP_GRAPH_MODEL].offset != 0) != coded ||
        at[DP_GRAPH_CODES].bytes != (uint64_t)h->slots * h->row_bytes ||
        at[DP_GRAPH_MODEL].bytes > DP_CODER_MODEL_MAX) {
        return ort_fail(diag, ORT_ECORRUPT, "the sections of the graph's file do not fit");
    }
    return dp_hnsw__check_value_sections(h, diag);
}

/* The head against what the caller expects and what the file can hold. */
static ort_err
check_head(const dp_graph_head *h, const dp_hnsw *graph, const dp_hnsw_stamp *stamp,
           uint64_t file_bytes, ort_diag *diag)
{
    if (h->stamp.owner[0] != stamp->owner[0] || h->stamp.owner[1] != stamp->owner[1]) {
        return ort_fail(diag, ORT_ESTALE, "the graph's file belongs to another owner");
    }
    if (h->metric != (uint32_t)graph->metric || h->m != graph->m || h->dim != graph->rows->dim ||
        h->elem != (uint32_t)graph->rows->elem ||
        (h->row_bytes != 0) != (dp_hnsw__set(graph) != NULL)) {
        return stale(diag);
    }
    if (h->slots > DP_HNSW_SLOT_MAX || (stamp->slot_end != 0 && h->slots > stamp->slot_end)) {
        return ort_fail(diag, ORT_ECORRUPT, "the graph's file has %u slots, more than there are",
                        h->slots);
    }
    return check_sections(h, graph, file_bytes, diag);
}

void
dp_graph_file_close(dp_graph_file *file)
{
    if (file != NULL) {
        ort_fd_close(file->fd);
        free(file);
    }
}

/* Takes the descriptor. */
static ort_err
open_head(dp_hnsw *graph, int fd, uint64_t file_bytes, dp_hnsw_stamp *stamp, ort_diag *diag)
{
    unsigned char page[DP_GRAPH_PAGE];
    dp_graph_file *file = calloc(1, sizeof *file);
    ort_err err;

    if (file == NULL) {
        ort_fd_close(fd);
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    file->fd = fd;
    err = ort_pread_full(fd, page, sizeof page, 0, diag);
    if (err == ORT_OK) {
        err = dp_graph_head_decode(&file->head, page, diag);
    }
    if (err == ORT_OK) {
        err = check_head(&file->head, graph, stamp, file_bytes, diag);
    }
    if (err != ORT_OK) {
        dp_graph_file_close(file);
        return err;
    }
    graph->seed = file->head.seed;
    stamp->lsn = file->head.stamp.lsn;
    graph->file = file;
    return ORT_OK;
}

/* Takes the descriptor. */
static ort_err
open_any(dp_hnsw *graph, int fd, dp_hnsw_stamp *stamp, ort_diag *diag)
{
    unsigned char common[DP_GRAPH_COMMON];
    struct stat st;
    uint32_t version = 0;
    ort_err err = ORT_OK;

    if (fstat(fd, &st) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "stat of the graph's file");
    }
    if (err == ORT_OK) {
        err = ort_pread_full(fd, common, sizeof common, 0, diag);
    }
    if (err == ORT_OK) {
        err = dp_graph_version(common, &version, diag);
    }
    if (err == ORT_OK && version != 1) {
        return open_head(graph, fd, (uint64_t)st.st_size, stamp, diag);
    }
    if (err == ORT_OK) {
        err = dp_hnsw__load_v1(graph, fd, (uint64_t)st.st_size, stamp, diag);
    }
    ort_fd_close(fd);
    return err;
}

ort_err
dp_hnsw_open(dp_hnsw **out, const dp_rows *rows, const dp_hnsw_config *config, int dir_fd,
             const char *name, dp_hnsw_stamp *stamp, ort_diag *diag)
{
    dp_hnsw *graph = NULL;
    int fd;
    ort_err err;

    *out = NULL;
    fd = ort_open_beneath(dir_fd, name, O_RDONLY, 0);
    if (fd < 0) {
        return ort_fail_errno(diag, errno == ENOENT ? ORT_ENOTFOUND : ORT_EIO, "open %s", name);
    }
    err = dp_hnsw_new(&graph, rows, config, diag);
    if (err != ORT_OK) {
        ort_fd_close(fd);
        return err;
    }
    err = open_any(graph, fd, stamp, diag);
    if (err != ORT_OK) {
        dp_hnsw_free(graph);
        return err;
    }
    *out = graph;
    return ORT_OK;
}

ort_err
dp_hnsw_load(dp_hnsw **out, const dp_rows *rows, const dp_hnsw_config *config, int dir_fd,
             const char *name, dp_hnsw_stamp *stamp, ort_diag *diag)
{
    ort_err err = dp_hnsw_open(out, rows, config, dir_fd, name, stamp, diag);

    if (err == ORT_OK) {
        err = dp_hnsw_verify(*out, NULL, diag);
    }
    if (err != ORT_OK) {
        dp_hnsw_free(*out);
        *out = NULL;
    }
    return err;
}
