/* data-plane/index/hnsw_file.h: the bytes of a graph's file, version 2: its head, and a writer that
 * sums what it writes. */
#ifndef DP_HNSW_FILE_H
#define DP_HNSW_FILE_H
#include "index/hnsw_internal.h"

#define DP_GRAPH_PAGE 4096u
#define DP_GRAPH_GROUP (UINT32_C(1) << 20) /* bytes of a section that share a checksum */
#define DP_GRAPH_VERSION 2u

/* The sections that this program knows, in the order in which it writes them. */
typedef enum {
    DP_GRAPH_NODES,
    DP_GRAPH_UPPER,
    DP_GRAPH_MODEL,
    DP_GRAPH_LINKS,
    DP_GRAPH_CODES,
    DP_GRAPH_VALUES,                                       /* hnsw_values_file.c, as are */
    DP_GRAPH_GROUPS,                                       /* of field 0 and on */
    DP_GRAPH_LISTS = DP_GRAPH_GROUPS + DP_HNSW_FIELDS_MAX, /* likewise */
    DP_GRAPH_SUMS = DP_GRAPH_LISTS + DP_HNSW_FIELDS_MAX,
    DP_GRAPH_SECTIONS
} dp_graph_section;

typedef struct {
    uint64_t offset; /* a multiple of DP_GRAPH_PAGE */
    uint64_t bytes;  /* without the zeros up to the next page */
    uint64_t first;  /* of its checksums; it has one for each group begun */
} dp_graph_place;

typedef struct {
    uint32_t metric, m, dim, elem;
    uint32_t row_bytes; /* of codes; 0: none */
    uint32_t slots, live, upper_count, inexact;
    uint64_t entry, seed;
    dp_hnsw_stamp stamp;
    float stop[DP_STOP_STEPS];
    uint32_t sums_crc;
    uint64_t sums; /* checksums in DP_GRAPH_SUMS */
    uint64_t end;  /* bytes of the file */
    dp_graph_place at[DP_GRAPH_SECTIONS];
} dp_graph_head;

/* Both write and read out[DP_GRAPH_PAGE]. Encode takes offset, bytes and sums_crc as they are;
 * decode checks that the sections follow each other and gives `first`, `sums` and `end`.
 * ORT_ECORRUPT, ORT_EVERSION. */
void dp_graph_head_encode(const dp_graph_head *head, unsigned char *out);
ORT_NODISCARD ort_err dp_graph_head_decode(dp_graph_head *head, const unsigned char *in,
                                           ort_diag *diag);

/* What both versions begin with: checks the magic and the checksum of the first 128 bytes.
 * ORT_ECORRUPT */
#define DP_GRAPH_COMMON 128u
ORT_NODISCARD ort_err dp_graph_version(const unsigned char *in, uint32_t *out, ort_diag *diag);

/* The five reaches, of either version. ORT_ECORRUPT: not reaches. */
ORT_NODISCARD ort_err dp_graph_stop_decode(const unsigned char *in, float *stop, ort_diag *diag);

uint32_t dp_graph_get_u32(const unsigned char *at);
uint64_t dp_graph_get_u64(const unsigned char *at);
void dp_graph_put_u32(unsigned char *at, uint32_t v);

static inline uint64_t
dp_graph_padded(uint64_t bytes)
{
    return (bytes + DP_GRAPH_PAGE - 1) / DP_GRAPH_PAGE * DP_GRAPH_PAGE;
}

/* Writes sections one after the other, from the second page on. */
typedef struct {
    int fd;
    uint64_t at;    /* where the next byte goes */
    uint64_t begin; /* of the section being written */
    uint32_t crc;   /* of the group being written */
    uint32_t fill;  /* bytes in it */
    uint32_t *sums;
    size_t sum_count, sum_cap;
} dp_graph_writer;

void dp_graph_writer_init(dp_graph_writer *w, int fd);
void dp_graph_writer_fini(dp_graph_writer *w);

ORT_NODISCARD ort_err dp_graph_write(dp_graph_writer *w, const void *bytes, size_t n,
                                     ort_diag *diag);

/* Ends a section: zeros up to a page, the last checksum. */
ORT_NODISCARD ort_err dp_graph_write_end(dp_graph_writer *w, dp_graph_place *place, ort_diag *diag);

/* Ends the file: the checksums, then the head, which vouches for them. */
ORT_NODISCARD ort_err dp_graph_write_head(dp_graph_writer *w, dp_graph_head *head, ort_diag *diag);

/* --- hnsw_store.c, hnsw_verify.c: what they lend hnsw_values_file.c. */

/* One section: count elements of a slab, as they are. */
ORT_NODISCARD ort_err dp_graph_write_slab(dp_graph_writer *w, const dp_slab *slab, uint32_t count,
                                          dp_graph_place *place, ort_diag *diag);

/* A file that is being looked through. */
typedef struct {
    dp_hnsw *graph;
    const dp_graph_file *file;
    dp_hnsw_progress *progress; /* may be NULL */
    uint32_t *sums;
} dp_graph_verify;

/* Reads a section into an empty slab, and checks its checksums and the zeros behind it.
 * ORT_ECORRUPT, ORT_EBUSY (cancelled), ORT_ENOMEM, ORT_EIO. */
ORT_NODISCARD ort_err dp_graph_read_slab(const dp_graph_verify *v, dp_slab *slab,
                                         const dp_graph_place *at, uint32_t count, const char *what,
                                         ort_diag *diag);

/* The same as bytes, the caller's to free(), zeros behind them. */
ORT_NODISCARD ort_err dp_graph_read_bytes(const dp_graph_verify *v, unsigned char **out,
                                          const dp_graph_place *at, const char *what,
                                          ort_diag *diag);

/* --- hnsw_values_file.c */

/* The lists of all fields; the gate is held alone, and nothing is dead. */
ORT_NODISCARD ort_err dp_hnsw__write_values(dp_graph_writer *w, const dp_hnsw *graph,
                                            dp_graph_head *head, ort_diag *diag);

/* Fits the sizes of the sections to each other and to the head. ORT_ECORRUPT. */
ORT_NODISCARD ort_err dp_hnsw__check_value_sections(const dp_graph_head *head, ort_diag *diag);

/* Reads them, after the nodes; every link is looked at. What it read stays the graph's, also after
 * an error. */
ORT_NODISCARD ort_err dp_hnsw__take_values(const dp_graph_verify *v, ort_diag *diag);

/* --- hnsw_verify.c, hnsw_store_v1.c: what dp_hnsw_open() lends its neighbours. */

/* What is known of a file between open and verify. */
struct dp_graph_file {
    dp_graph_head head;
    int fd;
};
void dp_graph_file_close(dp_graph_file *file); /* NULL is fine */

/* Reads a file of version 1 in whole, every byte checked. */
ORT_NODISCARD ort_err dp_hnsw__load_v1(dp_hnsw *graph, int fd, uint64_t file_bytes,
                                       dp_hnsw_stamp *stamp, ort_diag *diag);

/* Every link of the lowest and the upper levels, and the entry, against nodes that were checked. */
ORT_NODISCARD ort_err dp_hnsw__check_links(const dp_hnsw *graph, uint32_t slots, uint64_t entry,
                                           dp_hnsw_progress *progress, ort_diag *diag);

/* The counts of a file whose every part was found sound: from here on walks find something. */
void dp_hnsw__adopt(dp_hnsw *graph, uint64_t entry, uint32_t live, uint32_t upper_count,
                    const float *stop);

/* Whether the links of the lowest level are left to the file that they are in. */
bool dp_hnsw__keeps_links_mapped(const dp_hnsw *graph);

/* A node of a file: state and level are what this slot may have, its upper lists are there. */
bool dp_hnsw__node_is_sound(const dp_hnsw *graph, uint32_t slot, const dp_node *node,
                            uint32_t upper_count);
#endif /* DP_HNSW_FILE_H */
