/* A graph as a file of `indexes/`, version 2. It is mapped, so what is searched stands in it as it
 * stands in memory; it can always be built anew, so a file that is not right in every detail is
 * refused, never mended.
 *
 *   offset  size  field          all integers little-endian, floats IEEE single
 *        0     8  magic          "ORTHNSW\1"
 *        8     4  version        2
 *       12     4  metric         dp_metric
 *       16     4  m              links a node above the lowest level; twice that on it; 0: no
 *                                links but among points of one value
 *       20     4  dim            components
 *       24     4  elem           dp_elem of the rows it was built from
 *       28     4  row_bytes      of a row of codes; 0: there are none
 *       32     4  slots          nodes that follow, used or not
 *       36     4  live           of those, used
 *       40     4  upper_count    lists above the lowest level
 *       44     4  inexact        1: some row of codes is not exact
 *       48     8  entry          level << 32 | slot + 1; 0: empty, or m is 0
 *       56     8  seed           of the levels
 *       64    16  owner          dp_hnsw_stamp
 *       80     8  lsn            dp_hnsw_stamp
 *       88     4  sections       rows of the table, 1 .. 165
 *       92     4  table_crc      CRC-32C of bytes 128..4095
 *       96     4  sums_crc       CRC-32C of the section `sums` with the zeros behind it
 *      100     4                 0
 *      104    20  stop           5 floats, see hnsw_stop.c; all 0: not learnt
 *      124     4  crc            CRC-32C of bytes 0..123
 *      128        table          24 bytes a section: name char[8], offset u64, bytes u64; then
 *                                zeros up to 4096
 *
 * Sections follow each other from byte 4096 on, each from the beginning of a page, zeros behind it
 * up to the next; nothing is between them or behind the last. Names that a program does not know
 * are passed over.
 *
 *   nodes   slots * 8: upper u32, level u8, state u8, 0 u8, placed u8
 *   upper   upper_count * m * u32: slot + 1 each, 0 ends a list, zeros behind the end
 *   model   how codes are read: dp_code_set_model(); only with codes
 *   links   slots * 2 * m * u32, as upper
 *   codes   slots * row_bytes; only with codes
 *   values, groups0.., lists0..: links among points of one value, see hnsw_values_file.c; only
 *           where there are any
 *   sums    u32 for each group of 1 MiB (the last one of a section is shorter) of all sections
 *           before this one, in their order: CRC-32C of the group, zeros behind a section included
 *
 * A node's state is 0 (empty) or 2 (live): saving repairs first. The first 128 bytes are where
 * version 1 (hnsw_store_v1.c) had its head, so that every program can tell the version. */
#include "index/hnsw_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"

/* Links, codes and nodes are written as they are in memory. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian");
static_assert(sizeof(dp_link) == 4, "a link is written as u32");
static_assert(offsetof(dp_node, upper) == 0 && offsetof(dp_node, level) == 4 &&
                  offsetof(dp_node, state) == 5 && offsetof(dp_node, lock) == 6 &&
                  offsetof(dp_node, placed) == 7,
              "a node is written as it stands");

#define TABLE_AT DP_GRAPH_COMMON
#define TABLE_ROW 24u
#define TABLE_MAX ((DP_GRAPH_PAGE - TABLE_AT) / TABLE_ROW)
#define COMMON_CRC_AT 124u
#define STOP_AT 104u
static_assert(STOP_AT + DP_STOP_STEPS * 4 <= COMMON_CRC_AT, "what was learnt fits the head");

static const unsigned char magic[8] = {'O', 'R', 'T', 'H', 'N', 'S', 'W', 1};
static const char names[DP_GRAPH_SECTIONS][8] = {
    [DP_GRAPH_NODES] = "nodes",        [DP_GRAPH_UPPER] = "upper",
    [DP_GRAPH_MODEL] = "model",        [DP_GRAPH_LINKS] = "links",
    [DP_GRAPH_CODES] = "codes",        [DP_GRAPH_VALUES] = "values",
    [DP_GRAPH_GROUPS] = "groups0",     [DP_GRAPH_GROUPS + 1] = "groups1",
    [DP_GRAPH_GROUPS + 2] = "groups2", [DP_GRAPH_GROUPS + 3] = "groups3",
    [DP_GRAPH_GROUPS + 4] = "groups4", [DP_GRAPH_GROUPS + 5] = "groups5",
    [DP_GRAPH_GROUPS + 6] = "groups6", [DP_GRAPH_GROUPS + 7] = "groups7",
    [DP_GRAPH_LISTS] = "lists0",       [DP_GRAPH_LISTS + 1] = "lists1",
    [DP_GRAPH_LISTS + 2] = "lists2",   [DP_GRAPH_LISTS + 3] = "lists3",
    [DP_GRAPH_LISTS + 4] = "lists4",   [DP_GRAPH_LISTS + 5] = "lists5",
    [DP_GRAPH_LISTS + 6] = "lists6",   [DP_GRAPH_LISTS + 7] = "lists7",
    [DP_GRAPH_SUMS] = "sums",
};
static_assert(DP_HNSW_FIELDS_MAX == 8, "a name a field");

void
dp_graph_put_u32(unsigned char *at, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (unsigned char)(v >> (8 * i));
    }
}

static void
put_u64(unsigned char *at, uint64_t v)
{
    dp_graph_put_u32(at, (uint32_t)v);
    dp_graph_put_u32(at + 4, (uint32_t)(v >> 32));
}

uint32_t
dp_graph_get_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t
dp_graph_get_u64(const unsigned char *at)
{
    return (uint64_t)dp_graph_get_u32(at) | (uint64_t)dp_graph_get_u32(at + 4) << 32;
}

static ort_err
damaged(ort_diag *diag)
{
    return ort_fail(diag, ORT_ECORRUPT, "the head of the graph's file is damaged");
}

ort_err
dp_graph_version(const unsigned char *in, uint32_t *out, ort_diag *diag)
{
    if (memcmp(in, magic, sizeof magic) != 0 ||
        dp_graph_get_u32(in + COMMON_CRC_AT) != ort_crc32c(0, in, COMMON_CRC_AT)) {
        return damaged(diag);
    }
    *out = dp_graph_get_u32(in + 8);
    return ORT_OK;
}

ort_err
dp_graph_stop_decode(const unsigned char *in, float *stop, ort_diag *diag)
{
    for (int i = 0; i < DP_STOP_STEPS; i++) {
        uint32_t bits = dp_graph_get_u32(in + STOP_AT + 4 * i);

        memcpy(&stop[i], &bits, sizeof bits);
        if (!(stop[i] >= 0.0F && stop[i] <= 1.0F)) {
            return damaged(diag);
        }
    }
    return ORT_OK;
}

void
dp_graph_head_encode(const dp_graph_head *h, unsigned char *out)
{
    uint32_t sections = 0;

    memset(out, 0, DP_GRAPH_PAGE);
    for (int i = 0; i < DP_GRAPH_SECTIONS; i++) {
        unsigned char *row = out + TABLE_AT + (size_t)sections * TABLE_ROW;

        if (h->at[i].offset != 0) {
            memcpy(row, names[i], sizeof names[i]);
            put_u64(row + 8, h->at[i].offset);
            put_u64(row + 16, h->at[i].bytes);
            sections++;
        }
    }
    memcpy(out, magic, sizeof magic);
    dp_graph_put_u32(out + 8, DP_GRAPH_VERSION);
    dp_graph_put_u32(out + 12, h->metric);
    dp_graph_put_u32(out + 16, h->m);
    dp_graph_put_u32(out + 20, h->dim);
    dp_graph_put_u32(out + 24, h->elem);
    dp_graph_put_u32(out + 28, h->row_bytes);
    dp_graph_put_u32(out + 32, h->slots);
    dp_graph_put_u32(out + 36, h->live);
    dp_graph_put_u32(out + 40, h->upper_count);
    dp_graph_put_u32(out + 44, h->inexact);
    put_u64(out + 48, h->entry);
    put_u64(out + 56, h->seed);
    put_u64(out + 64, h->stamp.owner[0]);
    put_u64(out + 72, h->stamp.owner[1]);
    put_u64(out + 80, h->stamp.lsn);
    dp_graph_put_u32(out + 88, sections);
    dp_graph_put_u32(out + 92, ort_crc32c(0, out + TABLE_AT, DP_GRAPH_PAGE - TABLE_AT));
    dp_graph_put_u32(out + 96, h->sums_crc);
    for (int i = 0; i < DP_STOP_STEPS; i++) {
        uint32_t bits;

        memcpy(&bits, &h->stop[i], sizeof bits);
        dp_graph_put_u32(out + STOP_AT + 4 * i, bits);
    }
    dp_graph_put_u32(out + COMMON_CRC_AT, ort_crc32c(0, out, COMMON_CRC_AT));
}

static int
section_of(const unsigned char *name)
{
    for (int i = 0; i < DP_GRAPH_SECTIONS; i++) {
        if (memcmp(name, names[i], sizeof names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

/* The sections stand one behind the other, the checksums last: whatever the sizes say, nothing is
 * in two of them, and nothing is outside the file. */
static ort_err
decode_table(dp_graph_head *h, const unsigned char *in, ort_diag *diag)
{
    uint32_t sections = dp_graph_get_u32(in + 88);
    int last = -1;

    h->end = DP_GRAPH_PAGE;
    if (sections == 0 || sections > TABLE_MAX) {
        return damaged(diag);
    }
    for (uint32_t i = 0; i < sections; i++) {
        const unsigned char *row = in + TABLE_AT + (size_t)i * TABLE_ROW;
        dp_graph_place place = {.offset = dp_graph_get_u64(row + 8),
                                .bytes = dp_graph_get_u64(row + 16),
                                .first = h->sums};

        last = section_of(row);
        if (place.offset != h->end || place.bytes > INT64_MAX / 4 ||
            (last >= 0 && h->at[last].offset != 0)) {
            return damaged(diag);
        }
        h->end += dp_graph_padded(place.bytes);
        if (h->end > INT64_MAX / 2) {
            return damaged(diag);
        }
        if (last >= 0) {
            h->at[last] = place;
        }
        if (last != DP_GRAPH_SUMS) {
            h->sums += (dp_graph_padded(place.bytes) + DP_GRAPH_GROUP - 1) / DP_GRAPH_GROUP;
        }
    }
    if (last != DP_GRAPH_SUMS || h->at[DP_GRAPH_SUMS].bytes != h->sums * 4) {
        return damaged(diag);
    }
    return ORT_OK;
}

ort_err
dp_graph_head_decode(dp_graph_head *h, const unsigned char *in, ort_diag *diag)
{
    uint32_t version;
    ort_err err = dp_graph_version(in, &version, diag);

    if (err != ORT_OK) {
        return err;
    }
    if (version != DP_GRAPH_VERSION) {
        return ort_fail(diag, ORT_EVERSION,
                        "the graph's file is of version %u, this program reads up to %u", version,
                        DP_GRAPH_VERSION);
    }
    if (dp_graph_get_u32(in + 92) != ort_crc32c(0, in + TABLE_AT, DP_GRAPH_PAGE - TABLE_AT) ||
        dp_graph_get_u32(in + 100) != 0) {
        return damaged(diag);
    }
    memset(h, 0, sizeof *h);
    h->metric = dp_graph_get_u32(in + 12);
    h->m = dp_graph_get_u32(in + 16);
    h->dim = dp_graph_get_u32(in + 20);
    h->elem = dp_graph_get_u32(in + 24);
    h->row_bytes = dp_graph_get_u32(in + 28);
    h->slots = dp_graph_get_u32(in + 32);
    h->live = dp_graph_get_u32(in + 36);
    h->upper_count = dp_graph_get_u32(in + 40);
    h->inexact = dp_graph_get_u32(in + 44);
    h->entry = dp_graph_get_u64(in + 48);
    h->seed = dp_graph_get_u64(in + 56);
    h->stamp.owner[0] = dp_graph_get_u64(in + 64);
    h->stamp.owner[1] = dp_graph_get_u64(in + 72);
    h->stamp.lsn = dp_graph_get_u64(in + 80);
    h->sums_crc = dp_graph_get_u32(in + 96);
    err = dp_graph_stop_decode(in, h->stop, diag);
    return err == ORT_OK ? decode_table(h, in, diag) : err;
}

/* --- writing ------------------------------------------------------------------------------------
 */

void
dp_graph_writer_init(dp_graph_writer *w, int fd)
{
    *w = (dp_graph_writer){.fd = fd, .at = DP_GRAPH_PAGE, .begin = DP_GRAPH_PAGE};
}

void
dp_graph_writer_fini(dp_graph_writer *w)
{
    free(w->sums);
    w->sums = NULL;
}

static ort_err
end_group(dp_graph_writer *w, ort_diag *diag)
{
    if (w->sum_count == w->sum_cap) {
        size_t cap = w->sum_cap == 0 ? 64 : w->sum_cap * 2;
        uint32_t *grown = realloc(w->sums, cap * sizeof *grown);

        if (grown == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "no memory to write a graph");
        }
        w->sums = grown;
        w->sum_cap = cap;
    }
    w->sums[w->sum_count++] = w->crc;
    w->crc = 0;
    w->fill = 0;
    return ORT_OK;
}

ort_err
dp_graph_write(dp_graph_writer *w, const void *bytes, size_t n, ort_diag *diag)
{
    const unsigned char *from = bytes;

    while (n > 0) {
        size_t part = DP_GRAPH_GROUP - w->fill < n ? DP_GRAPH_GROUP - w->fill : n;
        ort_err err = ort_pwrite_full(w->fd, from, part, w->at, diag);

        if (err != ORT_OK) {
            return err;
        }
        w->crc = ort_crc32c(w->crc, from, part);
        w->fill += (uint32_t)part;
        w->at += part;
        from += part;
        n -= part;
        err = w->fill == DP_GRAPH_GROUP ? end_group(w, diag) : ORT_OK;
        if (err != ORT_OK) {
            return err;
        }
    }
    return ORT_OK;
}

ort_err
dp_graph_write_end(dp_graph_writer *w, dp_graph_place *place, ort_diag *diag)
{
    static const unsigned char zeros[DP_GRAPH_PAGE];
    ort_err err;

    place->offset = w->begin;
    place->bytes = w->at - w->begin;
    err = dp_graph_write(w, zeros, (size_t)(dp_graph_padded(w->at) - w->at), diag);
    if (err == ORT_OK && w->fill > 0) {
        err = end_group(w, diag);
    }
    w->begin = w->at;
    return err;
}

ort_err
dp_graph_write_head(dp_graph_writer *w, dp_graph_head *head, ort_diag *diag)
{
    unsigned char page[DP_GRAPH_PAGE];
    const size_t bytes = w->sum_count * sizeof *w->sums;
    unsigned char *sums = calloc(1, (size_t)dp_graph_padded(bytes) + 1);
    ort_err err;

    if (sums == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory to write a graph");
    }
    for (size_t i = 0; i < w->sum_count; i++) {
        dp_graph_put_u32(sums + i * 4, w->sums[i]);
    }
    head->at[DP_GRAPH_SUMS] = (dp_graph_place){.offset = w->at, .bytes = bytes};
    head->sums_crc = ort_crc32c(0, sums, (size_t)dp_graph_padded(bytes));
    err = ort_pwrite_full(w->fd, sums, (size_t)dp_graph_padded(bytes), w->at, diag);
    free(sums);
    if (err == ORT_OK) {
        dp_graph_head_encode(head, page);
        err = ort_pwrite_full(w->fd, page, sizeof page, 0, diag);
    }
    return err;
}
