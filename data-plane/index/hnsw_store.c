/* A graph as a file of `indexes/`. It can always be built anew, so a file that is not right in
 * every detail is refused, never mended.
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
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/limits.h"
#include "index/hnsw_internal.h"

/* Links and tails are written as they are in memory. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian");
static_assert(sizeof(dp_link) == 4, "a link is written as u32");

#define HEADER_BYTES 128u
#define HEADER_CRC_AT 124u
#define VERSION 1u
#define SECTIONS 4
#define NODE_BYTES 8u
#define NODE_PART 4096u /* nodes encoded at a time */

static const unsigned char magic[8] = {'O', 'R', 'T', 'H', 'N', 'S', 'W', 1};

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
static_assert(104 + DP_STOP_STEPS * 4 <= HEADER_CRC_AT, "what was learnt fits the head");

static void
put_u32(unsigned char *at, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (unsigned char)(v >> (8 * i));
    }
}

static void
put_u64(unsigned char *at, uint64_t v)
{
    put_u32(at, (uint32_t)v);
    put_u32(at + 4, (uint32_t)(v >> 32));
}

static uint32_t
get_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t
get_u64(const unsigned char *at)
{
    return (uint64_t)get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

static void
encode_header(unsigned char *out, const header *h)
{
    memset(out, 0, HEADER_BYTES);
    memcpy(out, magic, sizeof magic);
    put_u32(out + 8, VERSION);
    put_u32(out + 12, h->metric);
    put_u32(out + 16, h->m);
    put_u32(out + 20, h->dim);
    put_u32(out + 24, h->elem);
    put_u32(out + 28, h->coded);
    put_u32(out + 32, h->slots);
    put_u32(out + 36, h->live);
    put_u32(out + 40, h->upper_count);
    put_u32(out + 44, h->inexact);
    put_u64(out + 48, h->entry);
    put_u64(out + 56, h->seed);
    put_u64(out + 64, h->stamp.owner[0]);
    put_u64(out + 72, h->stamp.owner[1]);
    put_u64(out + 80, h->stamp.lsn);
    for (int i = 0; i < SECTIONS; i++) {
        put_u32(out + 88 + 4 * i, h->crc[i]);
    }
    for (int i = 0; i < DP_STOP_STEPS; i++) {
        uint32_t bits;

        memcpy(&bits, &h->stop[i], sizeof bits);
        put_u32(out + 104 + 4 * i, bits);
    }
    put_u32(out + HEADER_CRC_AT, ort_crc32c(0, out, HEADER_CRC_AT));
}

static ort_err
decode_header(const unsigned char *in, header *h, ort_diag *diag)
{
    if (memcmp(in, magic, sizeof magic) != 0 ||
        get_u32(in + HEADER_CRC_AT) != ort_crc32c(0, in, HEADER_CRC_AT)) {
        return ort_fail(diag, ORT_ECORRUPT, "the head of the graph's file is damaged");
    }
    if (get_u32(in + 8) != VERSION) {
        return ort_fail(diag, ORT_EVERSION,
                        "the graph's file is of version %u, this program "
                        "reads %u",
                        get_u32(in + 8), VERSION);
    }
    memset(h, 0, sizeof *h);
    h->metric = get_u32(in + 12);
    h->m = get_u32(in + 16);
    h->dim = get_u32(in + 20);
    h->elem = get_u32(in + 24);
    h->coded = get_u32(in + 28);
    h->slots = get_u32(in + 32);
    h->live = get_u32(in + 36);
    h->upper_count = get_u32(in + 40);
    h->inexact = get_u32(in + 44);
    h->entry = get_u64(in + 48);
    h->seed = get_u64(in + 56);
    h->stamp.owner[0] = get_u64(in + 64);
    h->stamp.owner[1] = get_u64(in + 72);
    h->stamp.lsn = get_u64(in + 80);
    for (int i = 0; i < SECTIONS; i++) {
        h->crc[i] = get_u32(in + 88 + 4 * i);
    }
    for (int i = 0; i < DP_STOP_STEPS; i++) {
        uint32_t bits = get_u32(in + 104 + 4 * i);

        memcpy(&h->stop[i], &bits, sizeof bits);
        if (!(h->stop[i] >= 0.0F && h->stop[i] <= 1.0F)) {
            return ort_fail(diag, ORT_ECORRUPT, "the head of the graph's file is damaged");
        }
    }
    return ORT_OK;
}

/* One section: count elements of a slab, as they are. */
static ort_err
write_slab(int fd, const dp_slab *slab, uint32_t count, uint32_t *crc, ort_diag *diag)
{
    *crc = 0;
    for (unsigned c = 0; c < DP_SLAB_CHUNKS; c++) {
        uint32_t begin = dp_slab_chunk_begin(c);
        uint32_t n;
        size_t bytes;
        const void *at;
        ort_err err;

        if (begin >= count) {
            break;
        }
        n = count - begin < dp_slab_chunk_count(c) ? count - begin : dp_slab_chunk_count(c);
        at = dp_slab_at(slab, begin);
        bytes = (size_t)n * slab->stride_bytes;
        *crc = ort_crc32c(*crc, at, bytes);
        err = ort_write_full(fd, at, bytes, diag);
        if (err != ORT_OK) {
            return err;
        }
    }
    return ORT_OK;
}

static ort_err
write_nodes(int fd, const dp_hnsw *graph, uint32_t count, uint32_t *crc, ort_diag *diag)
{
    unsigned char *part = malloc((size_t)NODE_PART * NODE_BYTES);
    ort_err err = ORT_OK;

    if (part == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory to write a graph");
    }
    *crc = 0;
    for (uint32_t begin = 0; begin < count && err == ORT_OK; begin += NODE_PART) {
        uint32_t n = count - begin < NODE_PART ? count - begin : NODE_PART;

        for (uint32_t i = 0; i < n; i++) {
            const dp_node *node = dp_hnsw__node(graph, begin + i);
            unsigned char *at = part + (size_t)i * NODE_BYTES;

            put_u32(at, node->upper);
            at[4] = node->level;
            at[5] = dp_hnsw__state(graph, begin + i);
            at[6] = node->placed;
            at[7] = 0;
        }
        *crc = ort_crc32c(*crc, part, (size_t)n * NODE_BYTES);
        err = ort_write_full(fd, part, (size_t)n * NODE_BYTES, diag);
    }
    free(part);
    return err;
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

/* With the gate held alone: sections first, then the head that vouches for them. */
static ort_err
write_graph(int fd, const dp_hnsw *graph, const dp_hnsw_stamp *stamp, ort_diag *diag)
{
    unsigned char head[HEADER_BYTES] = {0};
    dp_code_set *set = dp_hnsw__set(graph);
    header h = {
        .metric = graph->metric,
        .m = graph->m,
        .dim = graph->rows->dim,
        .elem = graph->rows->elem,
        .coded = set != NULL,
        .slots = used_slots(graph),
        .live = dp_hnsw_count(graph),
        .upper_count =
            atomic_load_explicit((_Atomic(uint32_t) *)&graph->upper_count, memory_order_relaxed),
        .inexact = set != NULL ? atomic_load_explicit(&set->inexact, memory_order_relaxed) : 0,
        .entry = atomic_load_explicit((_Atomic(uint64_t) *)&graph->entry, memory_order_acquire),
        .seed = graph->seed,
        .stamp = *stamp};
    ort_err err;

    for (int i = 0; i < DP_STOP_STEPS; i++) {
        h.stop[i] = atomic_load_explicit((_Atomic(float) *)&graph->stop[i], memory_order_relaxed);
    }
    err = ort_write_full(fd, head, sizeof head, diag);
    if (err == ORT_OK) {
        err = write_nodes(fd, graph, h.slots, &h.crc[0], diag);
    }
    if (err == ORT_OK) {
        err = write_slab(fd, &graph->links, h.slots, &h.crc[1], diag);
    }
    if (err == ORT_OK && set != NULL) {
        err = write_slab(fd, &set->rows, h.slots, &h.crc[2], diag);
    }
    if (err == ORT_OK) {
        err = write_slab(fd, &graph->upper, h.upper_count, &h.crc[3], diag);
    }
    if (err == ORT_OK) {
        encode_header(head, &h);
        err = ort_pwrite_full(fd, head, sizeof head, 0, diag);
    }
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
    fd = ort_open_beneath(dir_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", fresh);
    }
    pthread_rwlock_wrlock(&graph->gate);
    err = dp_hnsw__repair(graph);
    if (err == ORT_OK) {
        err = write_graph(fd, graph, stamp, diag);
    }
    pthread_rwlock_unlock(&graph->gate);
    ort_fd_close(fd);
    if (err == ORT_OK && renameat(dir_fd, fresh, dir_fd, name) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "rename %s", fresh);
    }
    if (err != ORT_OK) {
        (void)unlinkat(dir_fd, fresh, 0);
        return err;
    }
    return ort_dir_sync(dir_fd, diag);
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

/* Nodes come field by field; a level that is not the one its slot draws is damage. */
static ort_err
read_nodes(int fd, dp_hnsw *graph, const header *h, uint64_t *at, ort_diag *diag)
{
    unsigned char *part = malloc((size_t)NODE_PART * NODE_BYTES);
    uint32_t crc = 0;
    uint32_t live = 0;
    ort_err err = ORT_OK;

    if (part == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    for (uint32_t begin = 0; begin < h->slots && err == ORT_OK; begin += NODE_PART) {
        uint32_t n = h->slots - begin < NODE_PART ? h->slots - begin : NODE_PART;

        err = ort_pread_full(fd, part, (size_t)n * NODE_BYTES, *at, diag);
        *at += (uint64_t)n * NODE_BYTES;
        for (uint32_t i = 0; i < n && err == ORT_OK; i++) {
            const unsigned char *in = part + (size_t)i * NODE_BYTES;
            dp_node *node = dp_hnsw__node(graph, begin + i);
            uint32_t level = dp_hnsw__level(graph, begin + i);
            bool used = in[5] == DP_NODE_LIVE;

            node->upper = get_u32(in);
            node->level = in[4];
            node->placed = in[6];
            atomic_store_explicit(&node->state, in[5], memory_order_relaxed);
            live += used;
            if ((in[5] != DP_NODE_EMPTY && !used) || in[6] > 1 || in[7] != 0 ||
                (used && (in[4] != level || (level > 0 && in[6] == 0))) ||
                (in[6] == 1 && (in[4] != level || level == 0 || h->upper_count < level ||
                                node->upper > h->upper_count - level))) {
                err = ort_fail(diag, ORT_ECORRUPT, "node %u of the graph's file is damaged",
                               begin + i);
            }
        }
        crc = ort_crc32c(crc, part, (size_t)n * NODE_BYTES);
    }
    free(part);
    if (err == ORT_OK && (crc != h->crc[0] || live != h->live)) {
        err = ort_fail(diag, ORT_ECORRUPT, "the nodes of the graph's file are damaged");
    }
    return err;
}

/* Every link leads to a live node of that level, so that no walk leaves the slabs. */
static ort_err
check_links(const dp_hnsw *graph, const header *h, ort_diag *diag)
{
    uint32_t list[DP_HNSW_M_MAX * 2];
    uint32_t entry = (uint32_t)h->entry;

    for (uint32_t slot = 0; slot < h->slots; slot++) {
        const dp_node *node = dp_hnsw__node(graph, slot);
        uint32_t top = node->placed ? node->level : 0;

        for (uint32_t level = 0; level <= top; level++) {
            uint32_t n = dp_hnsw__read(graph, slot, level, list);

            for (uint32_t i = 0; i < n; i++) {
                if (list[i] >= h->slots || dp_hnsw__state(graph, list[i]) != DP_NODE_LIVE ||
                    dp_hnsw__node(graph, list[i])->level < level) {
                    return ort_fail(diag, ORT_ECORRUPT, "a link of node %u is damaged", slot);
                }
            }
        }
    }
    if (h->entry == 0 ? h->live != 0
                      : entry == 0 || entry - 1 >= h->slots ||
                            dp_hnsw__state(graph, entry - 1) != DP_NODE_LIVE ||
                            dp_hnsw__node(graph, entry - 1)->level != h->entry >> 32) {
        return ort_fail(diag, ORT_ECORRUPT, "the entry of the graph's file is damaged");
    }
    return ORT_OK;
}

static ort_err
read_graph(int fd, dp_hnsw *graph, dp_hnsw_stamp *stamp, ort_diag *diag)
{
    unsigned char head[HEADER_BYTES];
    struct stat st;
    dp_code_set *set = dp_hnsw__set(graph);
    header h = {0};
    uint64_t at = HEADER_BYTES;
    ort_err err;

    if (fstat(fd, &st) != 0) {
        return ort_fail_errno(diag, ORT_EIO, "stat of the graph's file");
    }
    err = ort_pread_full(fd, head, sizeof head, 0, diag);
    if (err == ORT_OK) {
        err = decode_header(head, &h, diag);
    }
    if (err == ORT_OK) {
        err = check_header(&h, graph, stamp, (uint64_t)st.st_size, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    graph->seed = h.seed;
    if (h.slots > 0) {
        err = dp_hnsw__reserve(graph, h.slots - 1);
    }
    if (err == ORT_OK) {
        err = read_nodes(fd, graph, &h, &at, diag);
    }
    if (err == ORT_OK) {
        err = read_slab(fd, &graph->links, h.slots, &at, h.crc[1], diag);
    }
    if (err == ORT_OK && set != NULL) {
        err = read_slab(fd, &set->rows, h.slots, &at, h.crc[2], diag);
    }
    if (err == ORT_OK) {
        err = read_slab(fd, &graph->upper, h.upper_count, &at, h.crc[3], diag);
    }
    if (err == ORT_OK) {
        atomic_store_explicit(&graph->upper_count, h.upper_count, memory_order_relaxed);
        err = check_links(graph, &h, diag);
    }
    if (err == ORT_OK) {
        atomic_store_explicit(&graph->entry, h.entry, memory_order_release);
        atomic_store_explicit(&graph->live, h.live, memory_order_relaxed);
        if (set != NULL) {
            atomic_store_explicit(&set->inexact, h.inexact, memory_order_relaxed);
        }
        for (int i = 0; i < DP_STOP_STEPS; i++) {
            atomic_store_explicit(&graph->stop[i], h.stop[i], memory_order_relaxed);
        }
        /* The widest reach is 0 only where nothing was learnt. */
        atomic_store_explicit(&graph->stop_learnt_at, h.stop[DP_STOP_STEPS - 1] > 0.0F ? h.live : 0,
                              memory_order_release);
        stamp->lsn = h.stamp.lsn;
    }
    return err;
}

ort_err
dp_hnsw_load(dp_hnsw **out, const dp_rows *rows, const dp_hnsw_config *config, int dir_fd,
             const char *name, dp_hnsw_stamp *stamp, ort_diag *diag)
{
    dp_hnsw *graph = NULL;
    int fd = -1;
    ort_err err;

    *out = NULL;
    fd = ort_open_beneath(dir_fd, name, O_RDONLY, 0);
    if (fd < 0) {
        return ort_fail_errno(diag, errno == ENOENT ? ORT_ENOTFOUND : ORT_EIO, "open %s", name);
    }
    err = dp_hnsw_new(&graph, rows, config, diag);
    if (err == ORT_OK) {
        err = read_graph(fd, graph, stamp, diag);
    }
    if (err == ORT_OK) {
        *out = graph;
        graph = NULL;
    }
    dp_hnsw_free(graph);
    ort_fd_close(fd);
    return err;
}
