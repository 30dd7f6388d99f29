/* A graph as a file of `indexes/`, version 1: read in whole, as programs up to November 2026 wrote
 * it. The next save writes version 2.
 *
 *   offset  size  field          all integers little-endian, floats IEEE single
 *        0     8  magic          "ORTHNSW\1"
 *        8     4  version        1
 *       12     4  metric         dp_metric
 *       16     4  m              links a node above the lowest level; twice that on it
 *       20     4  dim            components
 *       24     4  elem           dp_elem of the rows it was built from
 *       28     4  coded          1: rows of codes follow
 *       32     4  slots          nodes that follow, used or not
 *       36     4  live           of those, used
 *       40     4  upper_count    lists above the lowest level
 *       44     4  inexact        1: some row of codes is not exact
 *       48     8  entry          level << 32 | slot + 1; 0: empty
 *       56     8  seed           of the levels
 *       64    16  owner          dp_hnsw_stamp
 *       80     8  lsn            dp_hnsw_stamp
 *       88     4  nodes_crc      CRC-32C of each section
 *       92     4  links_crc
 *       96     4  codes_crc
 *      100     4  upper_crc
 *      104    20  stop           5 floats, see hnsw_stop.c; all 0: not learnt
 *      124     4  crc            CRC-32C of bytes 0..123
 *      128        nodes          slots * 8: upper u32, level u8, state u8, placed u8, 0
 *                 links          slots * 2 * m * u32: slot + 1 each, 0 ends a list
 *                 codes          when coded: slots * rows as in code.h
 *                 upper          upper_count * m * u32, as links
 *
 * A node's state is 0 (empty) or 2 (live): saving repairs first. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "index/hnsw_file.h"

#define HEADER_BYTES DP_GRAPH_COMMON
#define SECTIONS 4
#define NODE_BYTES 8u

typedef struct {
    uint32_t metric;
    uint32_t m;
    uint32_t dim;
    uint32_t elem;
    uint32_t coded;
    uint32_t slots;
    uint32_t live;
    uint32_t upper_count;
    uint32_t inexact;
    uint64_t entry;
    uint64_t seed;
    dp_hnsw_stamp stamp;
    uint32_t crc[SECTIONS];
    float stop[DP_STOP_STEPS];
} header;

static ort_err
decode_header(const unsigned char *in, header *h, ort_diag *diag)
{
    memset(h, 0, sizeof *h);
    h->metric = dp_graph_get_u32(in + 12);
    h->m = dp_graph_get_u32(in + 16);
    h->dim = dp_graph_get_u32(in + 20);
    h->elem = dp_graph_get_u32(in + 24);
    h->coded = dp_graph_get_u32(in + 28);
    h->slots = dp_graph_get_u32(in + 32);
    h->live = dp_graph_get_u32(in + 36);
    h->upper_count = dp_graph_get_u32(in + 40);
    h->inexact = dp_graph_get_u32(in + 44);
    h->entry = dp_graph_get_u64(in + 48);
    h->seed = dp_graph_get_u64(in + 56);
    h->stamp.owner[0] = dp_graph_get_u64(in + 64);
    h->stamp.owner[1] = dp_graph_get_u64(in + 72);
    h->stamp.lsn = dp_graph_get_u64(in + 80);
    for (int i = 0; i < SECTIONS; i++) {
        h->crc[i] = dp_graph_get_u32(in + 88 + 4 * i);
    }
    return dp_graph_stop_decode(in, h->stop, diag);
}

/* The head against what the caller expects and what the file can hold. */
static ort_err
check_header(const header *h, const dp_hnsw *graph, const dp_hnsw_stamp *stamp, uint64_t file_bytes,
             ort_diag *diag)
{
    const dp_code_set *set = dp_hnsw__set(graph);
    uint64_t want;

    if (h->stamp.owner[0] != stamp->owner[0] || h->stamp.owner[1] != stamp->owner[1]) {
        return ort_fail(diag, ORT_ESTALE, "the graph's file belongs to another owner");
    }
    if (h->metric != (uint32_t)graph->metric || h->m != graph->m || h->dim != graph->rows->dim ||
        h->elem != (uint32_t)graph->rows->elem || h->coded != (set != NULL ? 1U : 0U)) {
        return ort_fail(diag, ORT_ESTALE, "the graph's file was built with other settings");
    }
    if (h->slots > DP_HNSW_SLOT_MAX || (stamp->slot_end != 0 && h->slots > stamp->slot_end)) {
        return ort_fail(diag, ORT_ECORRUPT, "the graph's file has %u slots, more than there are",
                        h->slots);
    }
    /* No overflow: 2^31 slots of at most 66 KiB. */
    want = HEADER_BYTES + (uint64_t)h->slots * (NODE_BYTES + (uint64_t)graph->m0 * 4) +
           (set != NULL ? (uint64_t)h->slots * set->rows.stride_bytes : 0) +
           (uint64_t)h->upper_count * graph->m * 4;
    if (want != file_bytes) {
        return ort_fail(diag, ORT_ECORRUPT, "the graph's file has the wrong length");
    }
    return ORT_OK;
}

static ort_err
read_slab(int fd, dp_slab *slab, uint32_t count, uint64_t *at, uint32_t want, ort_diag *diag)
{
    uint32_t crc = 0;

    if (count == 0) {
        return want == 0 ? ORT_OK : ort_fail(diag, ORT_ECORRUPT, "the graph's file is damaged");
    }
    if (dp_slab_reserve(slab, count - 1) != ORT_OK) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < count; c++) {
        uint32_t begin = dp_slab_chunk_begin(c);
        uint32_t n =
            count - begin < dp_slab_chunk_count(c) ? count - begin : dp_slab_chunk_count(c);
        size_t bytes = (size_t)n * slab->stride_bytes;
        ort_err err = ort_pread_full(fd, dp_slab_at(slab, begin), bytes, *at, diag);

        if (err != ORT_OK) {
            return err;
        }
        crc = ort_crc32c(crc, dp_slab_at(slab, begin), bytes);
        *at += bytes;
    }
    return crc == want ? ORT_OK : ort_fail(diag, ORT_ECORRUPT, "the graph's file is damaged");
}

static ort_err
check_nodes(const dp_hnsw *graph, const header *h, ort_diag *diag)
{
    uint32_t live = 0;

    for (uint32_t slot = 0; slot < h->slots; slot++) {
        if (!dp_hnsw__node_is_sound(graph, slot, dp_hnsw__node(graph, slot), h->upper_count)) {
            return ort_fail(diag, ORT_ECORRUPT, "node %u of the graph's file is damaged", slot);
        }
        live += dp_hnsw__state(graph, slot) == DP_NODE_LIVE;
    }
    return live == h->live ? ORT_OK
                           : ort_fail(diag, ORT_ECORRUPT, "nodes of the graph's file are missing");
}

/* The old order of the last two bytes of a node, which the slab has the other way round. */
static void
turn_nodes(dp_hnsw *graph, uint32_t slots)
{
    for (uint32_t slot = 0; slot < slots; slot++) {
        dp_node *node = dp_hnsw__node(graph, slot);
        uint8_t placed = atomic_load_explicit(&node->lock, memory_order_relaxed);

        atomic_store_explicit(&node->lock, node->placed, memory_order_relaxed);
        node->placed = placed;
    }
}

static ort_err
read_graph(dp_hnsw *graph, int fd, const header *h, ort_diag *diag)
{
    dp_code_set *set = dp_hnsw__set(graph);
    uint64_t at = HEADER_BYTES;
    ort_err err = read_slab(fd, &graph->nodes, h->slots, &at, h->crc[0], diag);

    if (err == ORT_OK) {
        turn_nodes(graph, h->slots);
        err = check_nodes(graph, h, diag);
    }
    if (err == ORT_OK) {
        err = read_slab(fd, &graph->links, h->slots, &at, h->crc[1], diag);
    }
    if (err == ORT_OK && set != NULL) {
        err = read_slab(fd, &set->rows, h->slots, &at, h->crc[2], diag);
    }
    if (err == ORT_OK) {
        err = read_slab(fd, &graph->upper, h->upper_count, &at, h->crc[3], diag);
    }
    if (err == ORT_OK && h->slots > 0) {
        err = dp_hnsw__reserve(graph, h->slots - 1);
    }
    if (err == ORT_OK && h->entry == 0 && h->live != 0) {
        err = ort_fail(diag, ORT_ECORRUPT, "the entry of the graph's file is damaged");
    }
    return err == ORT_OK ? dp_hnsw__check_links(graph, h->slots, h->entry, NULL, diag) : err;
}

ort_err
dp_hnsw__load_v1(dp_hnsw *graph, int fd, uint64_t file_bytes, dp_hnsw_stamp *stamp, ort_diag *diag)
{
    unsigned char head[HEADER_BYTES];
    header h = {0};
    ort_err err = ort_pread_full(fd, head, sizeof head, 0, diag);

    if (err == ORT_OK) {
        err = decode_header(head, &h, diag);
    }
    if (err == ORT_OK) {
        err = check_header(&h, graph, stamp, file_bytes, diag);
    }
    if (err == ORT_OK) {
        graph->seed = h.seed;
        err = read_graph(graph, fd, &h, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    if (dp_hnsw__set(graph) != NULL) {
        atomic_store_explicit(&dp_hnsw__set(graph)->inexact, h.inexact, memory_order_relaxed);
    }
    dp_hnsw__adopt(graph, h.entry, h.live, h.upper_count, h.stop);
    stamp->lsn = h.stamp.lsn;
    return ORT_OK;
}
