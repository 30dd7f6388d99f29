/* data-plane/storage/log_internal.h: what the files of the log share. */
#ifndef DP_LOG_INTERNAL_H
#define DP_LOG_INTERNAL_H
#include <pthread.h>

#include "storage/log_format.h"

#define DP_LOG_NAME_BYTES 32u

/* "log.0000000000000001" */
void dp_log__name(uint64_t first_lsn, char out[DP_LOG_NAME_BYTES]);

/* A file of the log. */
typedef struct {
    uint64_t first_lsn;
    uint64_t bytes; /* up to its last frame; of the newest: at the last durable one; unpacked */
    uint64_t packed_bytes; /* on disk, of a packed one; 0: it is plain */
} dp_log_file;

/* The files beneath dir_fd, oldest first; the array is the caller's to free. */
ORT_NODISCARD ort_err dp_log__list(int dir_fd, dp_log_file **out, uint32_t *count_out,
                                   ort_diag *diag);

/* A window over a file, so that frames are looked at where they stand: in a packed one where they
 * stood before. */
typedef struct {
    int fd;
    uint64_t size;         /* unpacked */
    uint64_t packed_bytes; /* of a packed file, on disk; 0: it is plain */
    ort_buf buf;
    uint64_t buf_at;
    ort_buf index;  /* of a packed one: 16 bytes a block */
    ort_buf packed; /* a block */
} dp_log_window;

/* Looks at a file of the log; fd is the window's from now on, also when this fails. ORT_ECORRUPT,
 * ORT_EVERSION: a packed one's header or index; ORT_EIO, ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_log__window_open(dp_log_window *window, int fd, const char *name,
                                          ort_diag *diag);
void dp_log__window_close(dp_log_window *window); /* {.fd = -1} is fine */

/* Borrowed until the next call; *got_out < want where the file ends. */
ORT_NODISCARD ort_err dp_log__window_get(dp_log_window *window, uint64_t at, size_t want,
                                         const unsigned char **out, size_t *got_out,
                                         ort_diag *diag);

typedef struct {
    uint32_t block_count, index_crc;
    uint64_t tenant, shard, first_lsn, bytes;
} dp_log_pack_header;
void dp_log__pack_header_encode(const dp_log_pack_header *header,
                                unsigned char out[DP_LOG_PACK_HEADER_BYTES]);

/* *packed_out false: it is another file. ORT_ECORRUPT, ORT_EVERSION. */
ORT_NODISCARD ort_err dp_log__pack_header_decode(const unsigned char in[DP_LOG_PACK_HEADER_BYTES],
                                                 dp_log_pack_header *out, bool *packed_out,
                                                 ort_diag *diag);

/* What reading a file from its first frame to its end found. */
typedef struct {
    dp_log_header header;
    dp_log_mark last;      /* record; header.prev when there is none */
    uint64_t end;          /* behind the last good frame */
    uint64_t unsure;       /* where its last group begins, or 0: from here to the end it may never
                            * have reached the disk (log_open.c) */
    uint64_t size;         /* of the file, unpacked */
    uint64_t packed_bytes; /* on disk, of a packed one; 0: it is plain */
    bool clean;            /* a mark stands at the end */
    bool all_zero;         /* nothing but zeros behind the end */
} dp_log_scan;

/* Reads and checks a file. `newest`: a torn tail is allowed, and told by end and all_zero.
 * folded   whose hash is compared, where that record is here
 * Errors as of dp_log_open(). ORT_ENOTFOUND: the newest file is a torn header and nothing else. */
ORT_NODISCARD ort_err dp_log__scan(dp_log_window *window, const char *name,
                                   const dp_log_config *config, bool newest, dp_log_fn fn,
                                   void *ctx, dp_log_scan *out, ort_diag *diag);

/* Scans all files and checks what must hold between them and towards config.folded. Gives the files
 * that count (connected to the newest one) from files[*skip_out] on, and the scan of the newest.
 * *torn_header_out: the newest is nothing but a torn header, and is not in the list any more. */
ORT_NODISCARD ort_err dp_log__scan_all(int dir_fd, const dp_log_config *config, dp_log_fn fn,
                                       void *ctx, dp_log_file **files_out, uint32_t *count_out,
                                       uint32_t *skip_out, uint64_t *torn_header_out,
                                       dp_log_scan *newest_out, ort_diag *diag);

/* How many failed groups are remembered for tickets that were not waited for yet. */
#define DP_LOG_ROLLBACKS 64u

struct dp_log {
    int dir_fd;
    dp_log_config config; /* with defaults filled in; epoch moves */

    pthread_mutex_t mutex; /* guards all below; never held over a disk call */
    pthread_cond_t moved;  /* durable, failed, leading or pending changed */

    dp_log_file *files; /* oldest first; the last is written */
    uint32_t file_count, file_cap;

    /* The newest file: of the leader while `leading`, of whoever holds the mutex otherwise. */
    int fd;
    uint64_t zero_end; /* the file reaches to here; zeros from the last frame on */
    struct {
        uint64_t zero_bytes, sync_ns;
    } led;       /* what the present group adds to the statistics */
    bool marked; /* a mark is the last frame */

    ort_buf pending; /* appended, not yet taken by a leader */
    ort_buf writing; /* the leader's */
    bool leading;    /* somebody writes, rolls, cuts, or puts a packed file in its place */
    bool packing;    /* somebody packs a file */

    dp_log_mark tail;                  /* last appended */
    dp_log_mark durable;               /* last synced */
    uint64_t term;                     /* grows when appended records are thrown out */
    uint64_t floors[DP_LOG_ROLLBACKS]; /* [term % n]: last durable LSN when that term ended */

    ort_err failed; /* for good; failed_diag tells why */
    ort_diag failed_diag;
    ort_err rollback_err; /* why records were last thrown out */
    ort_diag rollback_diag;
    uint64_t file_end; /* zero_end as it was when nobody led */

    dp_log_stats stats;
};

/* Becomes the one who changes files. The mutex is held, before and after. */
void dp_log__lead(dp_log *log);
void dp_log__lead_end(dp_log *log);

/* Begins a new file behind the last durable record. Leader only, mutex not held.
 * On failure the newest file is what it was; *clean_out: and no other may appear. */
ORT_NODISCARD ort_err dp_log__roll(dp_log *log, bool *clean_out, ort_diag *diag);
#endif /* DP_LOG_INTERNAL_H */
