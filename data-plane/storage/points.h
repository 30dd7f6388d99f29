/* data-plane/storage/points.h: the points of a shard: id, version, payload, vectors, by slot.
 *
 * A point stands in a slot, a number of the shard. What a slot holds never changes: an update takes
 * a new slot and kills the old one. Slots are given out in order, 2^DP_CHUNK_BITS to a chunk; a
 * chunk's rows stand one after the other at an address that stays while somebody has the points
 * pinned. Chunks live in memory (the tail) until a checkpoint has put them into a segment, which is
 * mapped. What is only in memory is in the log as well: points know nothing of the log but the mark
 * up to which they have been checkpointed. */
#ifndef DP_POINTS_H
#define DP_POINTS_H
#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "base/point_id.h"
#include "storage/log.h"

#ifndef DP_CHUNK_BITS /* the simulation has small chunks: no file of it is ever kept */
#define DP_CHUNK_BITS 12u
#endif
#define DP_CHUNK_SLOTS (UINT32_C(1) << DP_CHUNK_BITS)
#define DP_SLOT_NONE UINT32_MAX
#ifdef DP_SLOTS_MAX /* likewise */
#elif ORT_CHECK     /* the sanitizers keep books over address space that is only reserved */
#define DP_SLOTS_MAX (UINT32_C(1) << 24)
#else
#define DP_SLOTS_MAX (UINT32_C(1) << 31)
#endif
#define DP_COLUMNS_MAX 256u
#define DP_VALUE_BYTES_MAX (64u << 20) /* a payload, or a value of a bytes column */

/* Opaque. From dp_points_open() to dp_points_close().
 *
 * Threads: one writer at a time (put, kill, freeze, relocate: the caller sees to that), any number
 * of readers beside it, and one checkpoint. Readers never wait for a checkpoint, and for a writer
 * only while it changes the map of ids. What readers see:
 *   - a slot they were told (by find, scroll, the live bits) is whole and stays as it is;
 *   - an update shows the new slot, then hides the old: a scan of live bits beside a writer may
 * meet both, never neither. Who minds keeps writers out, or compares ids;
 *   - memory stays while they hold a reader (below). */
typedef struct dp_points dp_points;

/* Numbers leave the process: append, never change. */
typedef enum {
    DP_COLUMN_F32 = 1,   /* one row of dim floats a point, or none */
    DP_COLUMN_F16 = 2,   /* dim half floats */
    DP_COLUMN_U8 = 3,    /* dim bytes */
    DP_COLUMN_BYTES = 4, /* any number of bytes a point, or none: sparse vectors, several rows */
} dp_column_type;

typedef struct {
    uint32_t id; /* the caller's name for it, unique in the shard; a new column needs a new one */
    dp_column_type type;
    uint32_t dim; /* components, 1 .. ORT_DIM_MAX; 0 for bytes */
} dp_column;

/* Whether a file of that name in a shard's directory is the shard's. */
bool dp_storage_has_name(const char *name);

/* The columns of now. Calls name a column by its place here. Columns that segments do not have yet
 * are absent in their points; columns they have and the layout has not are left alone, and gone
 * with the next rewrite. */
typedef struct {
    const dp_column *columns;
    uint32_t column_count;
} dp_points_layout;

/* How blocks of payloads and of bytes columns are packed. A block says itself how it was; a change
 * concerns blocks that are written from then on. */
typedef enum { DP_PACK_DEFAULT, DP_PACK_NONE, DP_PACK_LZ4, DP_PACK_ZSTD } dp_pack_kind;
#define DP_PACK_LEVEL_DEFAULT 1
#define DP_PACK_LEVEL_MAX 22
typedef struct {
    dp_pack_kind kind; /* default: zstd */
    int level;         /* 0: DP_PACK_LEVEL_DEFAULT; more packs better and slower; lz4 ends at 12 */
} dp_packing;

typedef struct {
    ort_tenant_id tenant;    /* written into every file, checked at open */
    ort_collection_id shard; /* likewise */
    dp_points_layout layout; /* copied */
    dp_packing packing;      /* {0}: the default */
    bool read_only;          /* open changes nothing; and nothing may be put, no checkpoint taken */
} dp_points_config;

/* Opens the points beneath dir_fd (duplicated): what the manifest there names, or none. Maps, reads
 * no rows. Files that an interrupted checkpoint left are removed. Afterwards the caller replays the
 * log from dp_points_mark() on.
 *
 * ORT_ECORRUPT  damage; diag names the file. Nothing was changed, as for the others
 * ORT_EVERSION  written by a newer program
 * ORT_EINVAL    the layout contradicts what is stored (a column id with another type or dim)
 * ORT_EIO, ORT_ENOMEM  *out is NULL, as for the others */
ORT_NODISCARD ort_err dp_points_open(dp_points **out, int dir_fd, const dp_points_config *config,
                                     ort_diag *diag);

/* Whether numbers of slots run short, and dp_points_renumber() would find most of them free again.
 */
bool dp_points_is_short_of_slots(const dp_points *points);

/* Numbers all slots anew: chunks keep their order, and the holes between them close. Beside no
 * writer, no checkpoint, and no reader that knows a slot; some milliseconds. Whatever was derived
 * from slots is of no use afterwards; the generation tells, by more than checkpoints move it. An
 * open does it by itself when it pays. Nothing is written: the next manifest has the new numbers.
 *
 * ORT_EBUSY   a checkpoint or an export is under way, or somebody holds a reader; ORT_ENOMEM.
 *             Nothing changed, as for the other */
ORT_NODISCARD ort_err dp_points_renumber(dp_points *points, ort_diag *diag);

#if ORT_CHECK
/* As if DP_SLOTS_MAX were less, for what happens at its half and three quarters; 0: as it is. */
void dp_points_set_slots_max(uint32_t max);
#endif

/* What is not checkpointed is in the log. NULL is fine. No reader, no other call may be there. */
void dp_points_close(dp_points *points);

/* From the next checkpoint on. Not beside one. */
void dp_points_set_packing(dp_points *points, dp_packing packing);

/* Whether all that was read so far, by anybody, is what the files hold. A page that the disk cannot
 * give is zeros to whoever reads it, and no error: ask after reading and before answering. Costs
 * nothing while no disk fails. ORT_EIO, for good: diag names the segment. */
ORT_NODISCARD ort_err dp_points_check_readable(dp_points *points, ort_diag *diag);

/* The record up to which everything is in segments; {0} before the first checkpoint. */
dp_log_mark dp_points_mark(const dp_points *points);

/* Slots below this were in segments when the points were opened or last checkpointed, and stand
 * where they stood for whoever remembers them (a saved graph) with the same dp_points_generation().
 * Slots from here on are numbered anew by a replay. */
uint32_t dp_points_sealed_end(const dp_points *points);

/* Grows with every checkpoint; what is derived from slots and kept on disk names it. */
uint64_t dp_points_generation(const dp_points *points);

/* --- writing: one thread at a time ------------------------------------------------------------ */

/* A value of a column: dense: exactly dim elements; NULL: the point has none. */
typedef struct {
    const void *data;
    size_t len;
} dp_value;

typedef struct {
    ort_point_id id;
    uint64_t version;       /* the operation that wrote it: its LSN */
    dp_value payload;       /* opaque bytes; empty is allowed */
    const dp_value *values; /* [column_count] */
} dp_point_in;

/* Stores the point in a new slot and kills the slot its id had. All bytes are copied.
 *
 * *slot_out  the new slot; *old_out the slot killed, or DP_SLOT_NONE (the point is new)
 *
 * ORT_EINVAL  a value has the wrong length
 * ORT_ETOOBIG a value is over DP_VALUE_BYTES_MAX, or the shard has given out DP_SLOTS_MAX slots
 * ORT_ENOMEM, ORT_ECORRUPT, ORT_EIO  nothing changed, as for the others */
ORT_NODISCARD ort_err dp_points_put(dp_points *points, const dp_point_in *in, uint32_t *slot_out,
                                    uint32_t *old_out, ort_diag *diag);

/* Kills the point; *old_out its slot, or DP_SLOT_NONE when there is no such point (ORT_OK). */
ORT_NODISCARD ort_err dp_points_kill(dp_points *points, ort_point_id id, uint32_t *old_out,
                                     ort_diag *diag);

/* --- reading: any thread ---------------------------------------------------------------------- */

/* Pins memory: pointers that a reader was given hold until its fini. Keep one for a search, a page
 * of a scroll, a batch of graph inserts, not for ever: old chunks and replaced segments wait for
 * it. The caller's storage, one thread; it also keeps a few unpacked payload blocks. */
#define DP_READER_BLOCKS 4u
typedef struct {
    dp_points *points;
    uint64_t epoch;
    struct {
        const void *segment;
        uint64_t key;
        char *bytes;
        size_t len, cap;
    } blocks[DP_READER_BLOCKS];
    uint32_t next_block;
} dp_reader;

void dp_reader_init(dp_reader *reader, dp_points *points);
void dp_reader_fini(dp_reader *reader);

/* The live slot of an id. ORT_ENOTFOUND: there is none. ORT_ECORRUPT, ORT_EIO. */
ORT_NODISCARD ort_err dp_points_find(dp_reader *reader, ort_point_id id, uint32_t *slot_out,
                                     ort_diag *diag);

/* Everything below takes a slot below dp_points_slot_end() that was given out, live or dead. */

ort_point_id dp_points_id(dp_reader *reader, uint32_t slot);
uint64_t dp_points_version(dp_reader *reader, uint32_t slot);

/* The row of a dense column, or NULL when the point has none. Borrowed from the reader. */
const void *dp_points_row(dp_reader *reader, uint32_t column, uint32_t slot);

/* Whether the point has a row, or a value of a bytes column (which a dead slot may have lost). */
bool dp_points_has(dp_reader *reader, uint32_t column, uint32_t slot);

/* The payload, or a value of a bytes column (*data NULL: the point has none). Borrowed until
 * DP_READER_BLOCKS further calls of these two on this reader, or its fini. A slot that is dead may
 * have lost both to a checkpoint: who runs beside a writer asks dp_points_is_live() afterwards.
 * ORT_ECORRUPT: a block is damaged. ORT_EIO, ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_points_payload(dp_reader *reader, uint32_t slot, const char **data,
                                        size_t *len, ort_diag *diag);
ORT_NODISCARD ort_err dp_points_bytes(dp_reader *reader, uint32_t column, uint32_t slot,
                                      const void **data, size_t *len, ort_diag *diag);

/* Reads up to cap live points in the order of ids, from `from` on (NULL: the first; `after` true:
 * behind it). *n_out < cap: there are no more. */
typedef struct {
    ort_point_id id;
    uint32_t slot;
} dp_id_slot;
ORT_NODISCARD ort_err dp_points_scroll(dp_reader *reader, const ort_point_id *from, bool after,
                                       dp_id_slot *out, size_t cap, size_t *n_out, ort_diag *diag);

/* One past the last slot given out. */
uint32_t dp_points_slot_end(const dp_points *points);

/* The live bits: slot s is bit s % 64 of word s / 64, for s below dp_points_slot_end(); the address
 * never changes, the bits do. */
const _Atomic(uint64_t) *dp_points_live_words(const dp_points *points);

static inline bool
dp_points_is_live(const dp_points *points, uint32_t slot)
{
    return atomic_load_explicit((_Atomic(uint64_t) *)&dp_points_live_words(points)[slot / 64],
                                memory_order_acquire) >>
               (slot % 64) &
           1;
}

/* The first live slot at or behind `slot`, or DP_SLOT_NONE. */
uint32_t dp_points_next_live(const dp_points *points, uint32_t slot);

uint64_t dp_points_live_count(const dp_points *points);

/* Logical bytes of the live points; as in dp_points_stats, without a walk over the chunks. */
uint64_t dp_points_logical_bytes(const dp_points *points);

/* Rows of a dense column as an index reads them: chunks[slot >> DP_CHUNK_BITS] is the address of
 * DP_CHUNK_SLOTS rows, or NULL where no point of the chunk can have one. The directory's address
 * never changes; a pointer is published before a slot of its chunk is told. Rows that a point does
 * not have are zeros: ask dp_points_has(). Whoever follows a pointer holds a reader. */
typedef struct {
    _Atomic(const unsigned char *) *chunks;
    uint32_t
        stride_bytes; /* dim elements, rounded up so that rows begin at 64 bytes where it pays */
    uint32_t dim;
    dp_column_type type;
} dp_column_rows;
ORT_NODISCARD ort_err dp_points_rows(const dp_points *points, uint32_t column, dp_column_rows *out);

/* Checks the checksums of that column's rows in segments that were not checked since they were
 * opened; cheap when all were. Rows read before it are as good as the disk.
 * ORT_ECORRUPT: diag names the segment. ORT_EIO. */
ORT_NODISCARD ort_err dp_points_check_rows(dp_reader *reader, uint32_t column, ort_diag *diag);

/* The same for the row of one slot: the MiB around it is read, where it was not yet. For whoever
 * shows or copies a row: a copy gets a new checksum, which must not bless rot. */
ORT_NODISCARD ort_err dp_points_check_row(dp_reader *reader, uint32_t column, uint32_t slot,
                                          ort_diag *diag);

/* --- sizes ------------------------------------------------------------------------------------ */

/* Logical bytes of a point: 17 for the id, the payload, dim elements for each row it has, and the
 * bytes of the other columns; the same on every replica, given back at a kill. */
ORT_NODISCARD ort_err dp_points_slot_bytes(dp_reader *reader, uint32_t slot, uint64_t *out,
                                           ort_diag *diag);
uint64_t dp_points_in_bytes(const dp_points *points, const dp_point_in *in);

typedef struct {
    uint64_t live, slots;   /* points; slots given out and not yet released */
    uint64_t logical_bytes; /* of live points */
    uint64_t disk_bytes;    /* segments and manifest; the log counts its own */
    uint64_t memory_bytes;  /* of the tail; without mapped files */
    uint64_t mapped_bytes;
    uint32_t segments;
    uint64_t tail_slots;    /* not yet in a segment */
    uint64_t written_bytes; /* by checkpoints since open: over what was put, write amplification */
} dp_points_stats;
void dp_points_get_stats(const dp_points *points, dp_points_stats *out);

/* --- checkpoint ------------------------------------------------------------------------------- */

/* A checkpoint has three steps: freeze, beside no writer (microseconds: it notes where the slots
 * end and copies the live bits); write, beside anybody, for as long as it takes; and done, which
 * dp_checkpoint_write() does at its end by itself: a moment under the lock of ids. Afterwards
 * dp_log_cut(log, mark.lsn). One at a time; the order is freeze, write, free.
 *
 * mark  the last record applied at the moment of the freeze */
typedef struct dp_checkpoint dp_checkpoint;
ORT_NODISCARD ort_err dp_points_freeze(dp_points *points, dp_log_mark mark, dp_checkpoint **out,
                                       ort_diag *diag);

typedef struct {
    /* Whether anything still needs the rows of a chunk whose points are all dead: a graph walks
     * through dead slots. NULL: nothing does. Called while writing, from the same thread. */
    bool (*held)(void *arg, uint32_t slot_first, uint32_t slot_count);
    void *arg;
    bool merge_all; /* into one segment: before a shard is closed for long, or in tests */

    /* At most this many bytes a second are written, so that writers find the disk free; 0: as fast
     * as it takes them. hurry may be NULL; once it is true nothing waits any more. */
    uint64_t bytes_per_s;
    const atomic_bool *hurry;
} dp_checkpoint_options;

/* ORT_ENOSPC, ORT_EIO, ORT_ENOMEM: the checkpoint before this one still stands, the points go on;
 * try again later. ORT_ECORRUPT: a segment that was to be merged is damaged; likewise. */
ORT_NODISCARD ort_err dp_checkpoint_write(dp_checkpoint *checkpoint,
                                          const dp_checkpoint_options *options, ort_diag *diag);
void dp_checkpoint_free(dp_checkpoint *checkpoint); /* NULL is fine */

/* --- export ----------------------------------------------------------------------------------- */

/* A view of the points as they are now, for whoever reads all of them while writers go on: a
 * snapshot, a copy for another node. Beside no writer, microseconds: it copies the live bits. Slots
 * that live in it keep all they hold until it is freed, also when they die; no checkpoint begins
 * meanwhile (dp_points_freeze() answers ORT_EBUSY), so the log grows for as long as it stays.
 *
 * mark  the last record applied
 *
 * ORT_EBUSY   a checkpoint is under way, or another export
 * ORT_ENOMEM  nothing happened, as for the other */
typedef struct dp_export dp_export;
ORT_NODISCARD ort_err dp_points_export(dp_points *points, dp_log_mark mark, dp_export **out,
                                       ort_diag *diag);

/* The first slot at or behind `slot` that lives in the view, or DP_SLOT_NONE. What it holds is read
 * with a dp_reader of the points; a new reader now and then lets go of old memory. Any thread. */
uint32_t dp_export_next(const dp_export *view, uint32_t slot);
dp_log_mark dp_export_mark(const dp_export *view);
uint64_t dp_export_count(const dp_export *view);         /* points */
uint64_t dp_export_logical_bytes(const dp_export *view); /* of them */
void dp_export_free(dp_export *view);                    /* NULL is fine */

/* --- compaction ------------------------------------------------------------------------------- */

/* Compaction: moves up to `max` live points out of chunks that are mostly dead into new slots, as
 * updates that change nothing; the next checkpoint drops chunks that are empty and not held. Beside
 * no writer, as put; call it with a small max, again and again, until *moved_out is 0.
 *
 * moved  told of every move, after it */
typedef void (*dp_moved_fn)(void *ctx, uint32_t old_slot, uint32_t new_slot);
ORT_NODISCARD ort_err dp_points_relocate(dp_points *points, uint32_t max, dp_moved_fn moved,
                                         void *ctx, uint32_t *moved_out, ort_diag *diag);

/* --- verification ----------------------------------------------------------------------------- */

typedef struct {
    uint64_t files, bytes, points;
    uint64_t lsn; /* of the manifest */
} dp_verify_report;

/* Reads everything beneath dir_fd (manifest, segments, log), checks every checksum and what must
 * hold between them, changes nothing. Layout is not needed. No process may be writing there.
 * ORT_ECORRUPT, ORT_EVERSION, ORT_EIO: diag names the file and the place; the first is reported. */
ORT_NODISCARD ort_err dp_storage_verify(int dir_fd, ort_tenant_id tenant, ort_collection_id shard,
                                        dp_verify_report *report, ort_diag *diag);

/* The same in steps of at most a MiB (a log file is one step): pace is told of what was just read,
 * may sleep, and ends it all by returning false: ORT_EBUSY. NULL: none. */
typedef bool (*dp_pace_fn)(void *arg, uint64_t bytes);
ORT_NODISCARD ort_err dp_storage_verify_paced(int dir_fd, ort_tenant_id tenant,
                                              ort_collection_id shard, dp_pace_fn pace, void *arg,
                                              dp_verify_report *report, ort_diag *diag);

/* Calls fn with every record of the log of a shard that dp_storage_verify() has called good. */
ORT_NODISCARD ort_err dp_storage_verify_records(int dir_fd, ort_tenant_id tenant,
                                                ort_collection_id shard, dp_log_fn fn, void *ctx,
                                                ort_diag *diag);
#endif /* DP_POINTS_H */
