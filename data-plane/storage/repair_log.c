/* Repair of a log: every record that is whole is found by its own checksums, wherever it stands in
 * whatever file; those that follow the checkpoint one another, by LSN and hash, make a new log. So
 * damage to what was folded in long ago costs nothing, nor does a damaged file header. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/io.h"
#include "storage/log_internal.h"
#include "storage/repair_internal.h"

#define WORK_FILE "repair.log"
#define STEP_BYTES (256u << 10) /* of a read: as a packed file has them */

/* A record that is whole. */
typedef struct {
    uint32_t file;
    uint64_t at; /* in it */
    dp_log_frame frame;
} found_record;

typedef struct {
    dp_log_file *files;
    uint32_t file_count;
    ort_buf *bytes; /* [file_count] */
    found_record *records;
    size_t count, cap;
} pile;

static void
pile_fini(pile *p)
{
    for (uint32_t i = 0; p->bytes != NULL && i < p->file_count; i++) {
        ort_buf_fini(&p->bytes[i]);
    }
    free(p->bytes);
    free(p->files);
    free(p->records);
}

static const unsigned char *
record_bytes(const pile *p, const found_record *r)
{
    return (const unsigned char *)p->bytes[r->file].data + r->at;
}

static ort_err
note_record(pile *p, uint32_t file, uint64_t at, const dp_log_frame *frame, ort_diag *diag)
{
    if (p->count == p->cap) {
        const size_t cap = p->cap == 0 ? 1024 : p->cap * 2;
        found_record *more = realloc(p->records, cap * sizeof *more);
        if (more == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "list of records");
        }
        p->records = more;
        p->cap = cap;
    }
    p->records[p->count++] = (found_record){.file = file, .at = at, .frame = *frame};
    return ORT_OK;
}

/* Everything begins at a multiple of 8: no other place needs a look. */
static ort_err
find_records(pile *p, uint32_t file, ort_diag *diag)
{
    const unsigned char *bytes = (const unsigned char *)p->bytes[file].data;
    const uint64_t n = p->bytes[file].len;
    ort_err err = ORT_OK;
    for (uint64_t at = 0; err == ORT_OK && at + DP_LOG_RECORD_HEADER_BYTES <= n;) {
        const dp_log_frame frame = dp_log__frame_peek(bytes + at, n - at);
        uint64_t step = 8;
        if (frame.kind == DP_LOG_FRAME_RECORD && dp_log__record_bytes(frame.body_bytes) <= n - at &&
            dp_log__record_check(&frame, bytes + at)) {
            err = note_record(p, file, at, &frame, diag);
            step = dp_log__record_bytes(frame.body_bytes);
        }
        at += step;
    }
    return err;
}

static int
by_lsn(const void *x, const void *y)
{
    const found_record *a = x, *b = y;
    return (a->frame.lsn > b->frame.lsn) - (a->frame.lsn < b->frame.lsn);
}

/* All that a file holds, unpacked. Zeros stand for what cannot be read: they are no records. */
static ort_err
read_file(dp_repair *r, const char *name, ort_buf *out, ort_diag *diag)
{
    static const char zeros[4096];
    dp_log_window w = {.fd = -1};
    ort_diag why = {""};
    int fd = -1;
    ort_err err = dp_io_open(r->dir_fd, name, O_RDONLY, &fd, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = dp_log__window_open(&w, fd, name, &why);
    if (err == ORT_ECORRUPT) {
        dp_repair__say(r, "of no use: %s", why.text);
        err = ORT_OK;
    } else if (err != ORT_OK) {
        err = ort_fail(diag, err, "%s", why.text);
    }
    for (uint64_t at = 0; err == ORT_OK && at < w.size;) {
        const unsigned char *bytes;
        const uint64_t left = w.size - at;
        const size_t want = left < STEP_BYTES ? (size_t)left : STEP_BYTES;
        size_t got = 0;
        const ort_err one = dp_log__window_get(&w, at, want, &bytes, &got, &why);
        if (one == ORT_OK && got == want) {
            ort_buf_put(out, bytes, want);
        } else if (one == ORT_OK || one == ORT_ECORRUPT || one == ORT_EIO) {
            dp_repair__say(r, "unreadable: %s, bytes %" PRIu64 " to %" PRIu64, name, at, at + want);
            for (size_t n = want; n > 0;) {
                const size_t step = n < sizeof zeros ? n : sizeof zeros;
                ort_buf_put(out, zeros, step);
                n -= step;
            }
        } else {
            err = ort_fail(diag, one, "%s", why.text);
        }
        at += want;
    }
    dp_log__window_close(&w);
    return err == ORT_OK ? ort_buf_check(out) : err;
}

static ort_err
pile_up(dp_repair *r, pile *p, ort_diag *diag)
{
    ort_err err = dp_log__list(r->dir_fd, &p->files, &p->file_count, diag);
    if (err != ORT_OK) {
        return err;
    }
    p->bytes = calloc((size_t)p->file_count + 1, sizeof *p->bytes);
    if (p->bytes == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "log");
    }
    for (uint32_t i = 0; err == ORT_OK && i < p->file_count; i++) {
        char name[DP_LOG_NAME_BYTES];
        dp_log__name(p->files[i].first_lsn, name);
        err = read_file(r, name, &p->bytes[i], diag);
        if (err == ORT_OK) {
            err = find_records(p, i, diag);
        }
    }
    if (err == ORT_OK && p->count > 0) {
        qsort(p->records, p->count, sizeof *p->records, by_lsn);
    }
    return err;
}

static uint64_t
hash_of(const pile *p, const found_record *r)
{
    const unsigned char *body = record_bytes(p, r) + DP_LOG_RECORD_HEADER_BYTES;
    const dp_log_frame *f = &r->frame;
    return dp_log__record_hash(f->prev_hash, f->lsn, f->epoch, f->type, f->body_bytes,
                               dp_log__body_hash(body, f->body_bytes));
}

ort_err
dp_repair__mark(dp_repair *r, uint64_t lsn, dp_log_mark *out, ort_diag *diag)
{
    pile p = {0};
    bool got = lsn == 0;
    *out = (dp_log_mark){.lsn = lsn};
    const ort_err err = pile_up(r, &p, diag);
    for (size_t i = 0; err == ORT_OK && i < p.count; i++) {
        const found_record *x = &p.records[i];
        if (x->frame.lsn == lsn) {
            *out = (dp_log_mark){.lsn = lsn, .epoch = x->frame.epoch, .hash = hash_of(&p, x)};
            got = true;
        } else if (!got && x->frame.lsn > lsn) {
            /* The oldest that is left: the records before it were folded in and cut. */
            *out = (dp_log_mark){
                .lsn = x->frame.lsn - 1, .epoch = x->frame.epoch, .hash = x->frame.prev_hash};
            got = true;
        }
    }
    for (uint32_t i = 0; err == ORT_OK && i < p.file_count; i++) {
        dp_log_header header;
        if ((!got || lsn == 0) && p.bytes[i].len >= DP_LOG_HEADER_BYTES &&
            dp_log__header_decode((const unsigned char *)p.bytes[i].data, &header, NULL) ==
                ORT_OK &&
            header.prev.lsn >= out->lsn && (!got || i == 0)) {
            *out = header.prev;
            got = true;
        }
    }
    pile_fini(&p);
    return err;
}

/* Appends to out the records that follow mark; *last becomes the last of them. */
static void
gather(const pile *p, dp_log_mark mark, ort_buf *out, dp_log_mark *last)
{
    *last = mark;
    for (size_t i = 0; i < p->count; i++) {
        const found_record *x = &p->records[i];
        if (x->frame.lsn == last->lsn + 1 && x->frame.prev_hash == last->hash &&
            x->frame.epoch >= last->epoch) {
            ort_buf_put(out, record_bytes(p, x), dp_log__record_bytes(x->frame.body_bytes));
            *last =
                (dp_log_mark){.lsn = x->frame.lsn, .epoch = x->frame.epoch, .hash = hash_of(p, x)};
        }
    }
}

static void
tell_lost(dp_repair *r, const pile *p, dp_log_mark last)
{
    const uint64_t newest = p->count > 0 ? p->records[p->count - 1].frame.lsn : last.lsn;
    if (newest > last.lsn) {
        r->report->records_lost = newest - last.lsn;
        dp_repair__say(r,
                       "lost: the operations %" PRIu64 " to %" PRIu64 ": %" PRIu64
                       " is damaged, and what follows it is of no use without it",
                       last.lsn + 1, newest, last.lsn + 1);
    } else {
        dp_repair__say(r,
                       "the log goes to operation %" PRIu64 "; if there were later ones, they "
                       "are lost",
                       last.lsn);
    }
}

static ort_err
write_work(dp_repair *r, const pile *p, dp_log_mark mark, ort_diag *diag)
{
    unsigned char head[DP_LOG_HEADER_BYTES];
    ort_buf out = {0};
    dp_log_mark last;
    int fd = -1;
    const dp_log_header header = {
        .tenant = r->tenant.v, .shard = r->shard.v, .first_lsn = mark.lsn + 1, .prev = mark};
    dp_log__header_encode(&header, head);
    ort_buf_put(&out, head, sizeof head);
    gather(p, mark, &out, &last);
    ort_err err = ort_buf_check(&out);
    if (err == ORT_OK) {
        err = dp_io_create(r->dir_fd, WORK_FILE, &fd, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_write(fd, out.data, out.len, 0, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(fd, WORK_FILE, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(r->dir_fd, "the directory", diag);
    }
    dp_io_close(fd);
    ort_buf_fini(&out);
    if (err == ORT_OK) {
        tell_lost(r, p, last);
    }
    return err;
}

/* An interrupted repair got as far as the whole new file. */
static bool
is_work_there(dp_repair *r, dp_log_mark mark)
{
    unsigned char head[DP_LOG_HEADER_BYTES];
    dp_log_header header;
    int fd = -1;
    const bool there = dp_io_open(r->dir_fd, WORK_FILE, O_RDONLY, &fd, NULL) == ORT_OK &&
                       dp_io_read(fd, head, sizeof head, 0, NULL) == ORT_OK &&
                       dp_log__header_decode(head, &header, NULL) == ORT_OK &&
                       header.tenant == r->tenant.v && header.shard == r->shard.v &&
                       header.prev.lsn == mark.lsn && header.prev.hash == mark.hash;
    dp_io_close(fd);
    return there;
}

ort_err
dp_repair__log(dp_repair *r, dp_log_mark mark, ort_diag *diag)
{
    pile p = {0};
    char name[DP_LOG_NAME_BYTES];
    ort_err err = ORT_OK;
    if (!is_work_there(r, mark)) {
        err = pile_up(r, &p, diag);
        if (err == ORT_OK) {
            err = write_work(r, &p, mark, diag);
        }
    } else {
        err = dp_log__list(r->dir_fd, &p.files, &p.file_count, diag);
    }
    for (uint32_t i = 0; err == ORT_OK && i < p.file_count; i++) {
        dp_log__name(p.files[i].first_lsn, name);
        err = dp_repair__put_aside(r, name, diag);
    }
    if (err == ORT_OK) {
        dp_log__name(mark.lsn + 1, name);
        err = dp_io_rename(r->dir_fd, WORK_FILE, name, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(r->dir_fd, "the directory", diag);
    }
    pile_fini(&p);
    return err;
}
