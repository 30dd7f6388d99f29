/* The forgetful disk. */
#include "support/sim_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "storage/io.h"

#define SECTOR 512u

typedef struct {
    bool truncate;
    uint64_t at; /* of a write; the new length of a truncation */
    ort_buf bytes;
} file_op;

typedef struct {
    ort_buf now, durable;
    file_op *ops; /* what makes the one of the other */
    size_t op_count, op_cap;
} file;

typedef enum { NAME_SET, NAME_REMOVE, NAME_MOVE } name_kind;

typedef struct {
    name_kind kind;
    char name[64], to[64];
    file *what;
} name_op;

typedef struct {
    char name[64];
    file *what;
} entry;

/* Descriptors that no real one is mistaken for. */
enum { FILES_MAX = 4096, NAMES_MAX = 1024, OPEN_MAX_ = 64, FD_DIR = 1 << 20, FD_FIRST };

static struct {
    uint64_t random;
    uint32_t calls, crash_at;
    uint32_t all_calls, fail_at;
    int error;
    bool stopped, failed;
    file *files[FILES_MAX];
    size_t file_count;
    entry now[NAMES_MAX], durable[NAMES_MAX];
    size_t now_count, durable_count;
    name_op ops[NAMES_MAX];
    size_t op_count;
    file *open[OPEN_MAX_];
    uint32_t dirs_open, maps;
} sim;

static void
must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "simulated disk: %s\n", what);
        abort();
    }
}

static uint32_t
chance(uint32_t of)
{
    sim.random = sim.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(sim.random >> 33) % of;
}

static file *
file_new(void)
{
    must(sim.file_count < FILES_MAX, "too many files");
    file *f = calloc(1, sizeof *f);
    must(f != NULL, "memory");
    sim.files[sim.file_count++] = f;
    return f;
}

static file *
file_of(int fd)
{
    must(fd >= FD_FIRST && fd < FD_FIRST + OPEN_MAX_ && sim.open[fd - FD_FIRST] != NULL,
         "a descriptor that is not open");
    return sim.open[fd - FD_FIRST];
}

static int
fd_new(file *f)
{
    int i = 0;
    while (i < OPEN_MAX_ && sim.open[i] != NULL) {
        i++;
    }
    must(i < OPEN_MAX_, "too many files are open");
    sim.open[i] = f;
    return FD_FIRST + i;
}

static file_op *
file_op_new(file *f)
{
    if (f->op_count == f->op_cap) {
        f->op_cap = f->op_cap == 0 ? 16 : 2 * f->op_cap;
        f->ops = realloc(f->ops, f->op_cap * sizeof *f->ops);
        must(f->ops != NULL, "memory");
    }
    f->ops[f->op_count] = (file_op){0};
    return &f->ops[f->op_count++];
}

static void
set_len(ort_buf *b, size_t len)
{
    while (b->len < len) {
        static const char zeros[4096];
        ort_buf_put(b, zeros, len - b->len < sizeof zeros ? len - b->len : sizeof zeros);
    }
    b->len = len;
    must(!b->failed, "memory");
}

static void
put_at(ort_buf *b, uint64_t at, const char *bytes, size_t n)
{
    if (n > 0) {
        if (b->len < at + n) {
            set_len(b, (size_t)at + n);
        }
        memcpy(b->data + at, bytes, n);
    }
}

static void
apply_op(ort_buf *to, const file_op *op)
{
    if (op->truncate) {
        set_len(to, (size_t)op->at);
    } else {
        put_at(to, op->at, op->bytes.data, op->bytes.len);
    }
}

static void
forget_ops(file *f)
{
    for (size_t i = 0; i < f->op_count; i++) {
        ort_buf_fini(&f->ops[i].bytes);
    }
    f->op_count = 0;
}

/* The failure that was asked for? Counts every call. */
static int
fails_now(void)
{
    sim.all_calls++;
    if (sim.fail_at != 0 && sim.all_calls >= sim.fail_at) {
        sim.fail_at = 0;
        sim.failed = true;
        return sim.error;
    }
    return 0;
}

/* One call that changes something: 0 go on, else errno. */
static int
tick(void)
{
    if (sim.stopped) {
        return EIO;
    }
    sim.calls++;
    if (sim.crash_at != 0 && sim.calls >= sim.crash_at) {
        sim.stopped = true;
        return EIO;
    }
    return fails_now();
}

/* One that does not. */
static int
tick_read(void)
{
    return sim.stopped ? EIO : fails_now();
}

static int
fail_with(int error)
{
    errno = error;
    return -1;
}

static ssize_t
sim_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    const bool was = sim.stopped;
    const int error = tick();
    if (error != 0 && was) {
        return fail_with(error);
    }
    /* The call that fails, or meets the crash, may have done a part; any other may be short. A
     * system cuts a write between its blocks, or where a page of the writer's memory ends, and both
     * are multiples of 8 in the file as well: what is handed to it begins at such in either. */
    size_t part = n;
    if (error != 0) {
        part = chance((uint32_t)n + 1);
    } else if (n > 1 && chance(8) == 0) {
        part = 1 + chance((uint32_t)n - 1);
    }
    const size_t over = ((size_t)at + part) % 8;
    part = part == n ? n : part > over ? part - over : error != 0 ? 0 : n;
    file *f = file_of(fd);
    if (part > 0) {
        put_at(&f->now, (uint64_t)at, bytes, part);
        file_op *op = file_op_new(f);
        op->at = (uint64_t)at;
        ort_buf_put(&op->bytes, bytes, part);
    }
    return error != 0 ? fail_with(error) : (ssize_t)part;
}

static int
sim_ftruncate(int fd, off_t len)
{
    const int error = tick();
    if (error != 0) {
        return fail_with(error);
    }
    file *f = file_of(fd);
    set_len(&f->now, (size_t)len);
    file_op *op = file_op_new(f);
    op->truncate = true;
    op->at = (uint64_t)len;
    return 0;
}

static size_t
find_entry(const entry *list, size_t count, const char *name)
{
    size_t i = 0;
    while (i < count && strcmp(list[i].name, name) != 0) {
        i++;
    }
    return i;
}

static void
apply_name(entry *list, size_t *count, const name_op *op)
{
    size_t at = find_entry(list, *count, op->name);
    if (op->kind != NAME_SET && at < *count) {
        list[at] = list[--*count];
    }
    if (op->kind == NAME_REMOVE) {
        return;
    }
    const char *name = op->kind == NAME_SET ? op->name : op->to;
    at = find_entry(list, *count, name);
    if (at == *count) {
        must(*count < NAMES_MAX, "too many names");
        (*count)++;
    }
    strcpy(list[at].name, name);
    list[at].what = op->what;
}

static int
sim_sync(int fd)
{
    const bool was = sim.stopped;
    const int error = tick();
    if (error != 0) {
        /* What a failed sync was to write may be dropped: read back as written, and never durable,
         * whatever later syncs say. */
        if (!was && !sim.stopped && fd != FD_DIR && chance(2) == 0) {
            forget_ops(file_of(fd));
        }
        return fail_with(error);
    }
    if (fd == FD_DIR) {
        for (size_t i = 0; i < sim.op_count; i++) {
            apply_name(sim.durable, &sim.durable_count, &sim.ops[i]);
        }
        sim.op_count = 0;
        return 0;
    }
    file *f = file_of(fd);
    for (size_t i = 0; i < f->op_count; i++) {
        apply_op(&f->durable, &f->ops[i]);
    }
    forget_ops(f);
    return 0;
}

static int
sim_push(int fd, off_t at, off_t n, bool wait)
{
    (void)file_of(fd);
    (void)at;
    (void)n;
    (void)wait;
    return 0; /* promises nothing, and keeps it */
}

static void
change_names(name_op op)
{
    must(sim.op_count < NAMES_MAX, "too many changes of names");
    sim.ops[sim.op_count++] = op;
    apply_name(sim.now, &sim.now_count, &op);
}

static int
sim_create(int dir_fd, const char *name, int flags)
{
    const int error = tick();
    if (error != 0) {
        return fail_with(error);
    }
    must(dir_fd == FD_DIR && (flags & O_TRUNC) != 0, "create");
    const size_t at = find_entry(sim.now, sim.now_count, name);
    if (at < sim.now_count) {
        file *f = sim.now[at].what;
        set_len(&f->now, 0);
        file_op_new(f)->truncate = true;
        return fd_new(f);
    }
    name_op op = {.kind = NAME_SET, .what = file_new()};
    must(strlen(name) < sizeof op.name, "a long name");
    strcpy(op.name, name);
    change_names(op);
    return fd_new(op.what);
}

static int
sim_rename(int dir_fd, const char *from, const char *to)
{
    const int error = tick();
    if (error != 0) {
        return fail_with(error);
    }
    const size_t at = find_entry(sim.now, sim.now_count, from);
    if (dir_fd != FD_DIR || at == sim.now_count) {
        return fail_with(ENOENT);
    }
    name_op op = {.kind = NAME_MOVE, .what = sim.now[at].what};
    strcpy(op.name, from);
    strcpy(op.to, to);
    change_names(op);
    return 0;
}

static int
sim_unlink(int dir_fd, const char *name)
{
    const int error = tick();
    if (error != 0) {
        return fail_with(error);
    }
    if (dir_fd != FD_DIR || find_entry(sim.now, sim.now_count, name) == sim.now_count) {
        return fail_with(ENOENT);
    }
    name_op op = {.kind = NAME_REMOVE};
    strcpy(op.name, name);
    change_names(op);
    return 0;
}

static int
sim_open(int dir_fd, const char *name, int flags)
{
    (void)flags;
    const int error = tick_read();
    if (error != 0) {
        return fail_with(error);
    }
    const size_t at = find_entry(sim.now, sim.now_count, name);
    return dir_fd == FD_DIR && at < sim.now_count ? fd_new(sim.now[at].what) : fail_with(ENOENT);
}

static void
sim_close(int fd)
{
    if (fd == FD_DIR) {
        must(sim.dirs_open-- > 0, "the directory was closed twice");
    } else if (fd >= 0) {
        (void)file_of(fd);
        sim.open[fd - FD_FIRST] = NULL;
    }
}

static int
sim_dup(int dir_fd)
{
    const int error = tick_read();
    if (error != 0) {
        return fail_with(error);
    }
    sim.dirs_open++;
    return dir_fd;
}

static int
sim_size(int fd, uint64_t *out)
{
    const int error = tick_read();
    *out = file_of(fd)->now.len;
    return error != 0 ? fail_with(error) : 0;
}

static ssize_t
sim_pread(int fd, void *bytes, size_t n, off_t at)
{
    const int error = tick_read();
    if (error != 0) {
        return fail_with(error);
    }
    const ort_buf *now = &file_of(fd)->now;
    const size_t have = (uint64_t)at < now->len ? now->len - (size_t)at : 0;
    n = n < have ? n : have;
    if (n > 0) {
        memcpy(bytes, now->data + at, n);
    }
    return (ssize_t)n;
}

static void *
sim_map(int fd, size_t n)
{
    const int error = tick_read();
    const ort_buf *now = &file_of(fd)->now;
    if (error != 0) {
        errno = error;
        return NULL;
    }
    must(n <= now->len, "a map of more than there is");
    void *at = aligned_alloc(64, (n + 63) & ~(size_t)63);
    must(at != NULL, "memory");
    memcpy(at, now->data, n); /* what is mapped is never changed */
    sim.maps++;
    return at;
}

static void
sim_unmap(void *at, size_t n)
{
    (void)n;
    free(at);
    sim.maps--;
}

static int
sim_list(int dir_fd, int (*fn)(void *ctx, const char *name), void *ctx)
{
    static char names[NAMES_MAX][64]; /* fn may change them */
    const size_t count = sim.now_count;
    const int error = tick_read();
    if (error != 0 || dir_fd != FD_DIR) {
        return fail_with(error != 0 ? error : ENOTDIR);
    }
    for (size_t i = 0; i < count; i++) {
        strcpy(names[i], sim.now[i].name);
    }
    int stopped = 0;
    for (size_t i = 0; stopped == 0 && i < count; i++) {
        stopped = fn(ctx, names[i]);
    }
    return stopped;
}

static const dp_io SIM_IO = {.pwrite = sim_pwrite,
                             .fdatasync = sim_sync,
                             .fsync = sim_sync,
                             .ftruncate = sim_ftruncate,
                             .create = sim_create,
                             .rename = sim_rename,
                             .unlink = sim_unlink,
                             .push = sim_push,
                             .open = sim_open,
                             .close = sim_close,
                             .dup = sim_dup,
                             .size = sim_size,
                             .pread = sim_pread,
                             .map = sim_map,
                             .unmap = sim_unmap,
                             .list = sim_list};

static void
file_free(file *f)
{
    forget_ops(f);
    free(f->ops);
    ort_buf_fini(&f->now);
    ort_buf_fini(&f->durable);
    free(f);
}

void
sim_disk_start(uint64_t seed)
{
    memset(&sim, 0, sizeof sim);
    sim.random = seed;
    chance(2);
    dp_io_set(&SIM_IO);
}

int
sim_disk_dir(void)
{
    return FD_DIR;
}

void
sim_disk_crash_in(uint32_t n)
{
    sim.crash_at = n == 0 ? 0 : sim.calls + n;
}

void
sim_disk_fail_in(uint32_t n, int error)
{
    sim.fail_at = n == 0 ? 0 : sim.all_calls + n;
    sim.error = error;
    sim.failed = false;
}

bool
sim_disk_stopped(void)
{
    return sim.stopped;
}

bool
sim_disk_failed(void)
{
    return sim.failed;
}

uint32_t
sim_disk_calls(void)
{
    return sim.calls;
}

void
sim_disk_stop(void)
{
    sim.stopped = true;
}

/* A file's length after its first `ops` calls. */
static uint64_t
len_after(const file *f, size_t ops)
{
    uint64_t len = f->durable.len;
    for (size_t i = 0; i < ops; i++) {
        const uint64_t end = f->ops[i].at + f->ops[i].bytes.len;
        len = f->ops[i].truncate || end > len ? end : len;
    }
    return len;
}

/* A sector after the first `ops` calls. */
static void
sector_after(const file *f, size_t ops, uint64_t start, char out[SECTOR])
{
    memset(out, 0, SECTOR);
    if (start < f->durable.len) {
        const size_t have = f->durable.len - start;
        memcpy(out, f->durable.data + start, have < SECTOR ? have : SECTOR);
    }
    for (size_t i = 0; i < ops; i++) {
        const file_op *op = &f->ops[i];
        const uint64_t end = op->truncate ? start + SECTOR : op->at + op->bytes.len;
        const uint64_t from = op->at > start ? op->at : start;
        const uint64_t to = end < start + SECTOR ? end : start + SECTOR;
        if (from < to && op->truncate) {
            memset(out + (from - start), 0, (size_t)(to - from));
        } else if (from < to) {
            memcpy(out + (from - start), op->bytes.data + (from - op->at), (size_t)(to - from));
        }
    }
}

/* What is left of a file. The disk wrote each sector as it was at some moment since the last sync,
 * or not at all, and the length likewise. */
static void
leave(const file *f, uint32_t mode, ort_buf *out)
{
    const size_t one = chance((uint32_t)f->op_count + 1);
    const uint64_t len = len_after(f, mode == 0 ? 0 : mode == 1 ? f->op_count : one);
    char sector[SECTOR];
    for (uint64_t at = 0; at < len; at += SECTOR) {
        size_t moment = one;
        if (mode == 0) {
            moment = 0;
        } else if (mode == 1) {
            moment = f->op_count;
        } else if (mode == 2) {
            moment = chance(2) == 0 ? f->op_count : chance((uint32_t)f->op_count + 1);
        }
        sector_after(f, moment, at, sector);
        ort_buf_put(out, sector, len - at < SECTOR ? (size_t)(len - at) : SECTOR);
    }
}

void
sim_disk_restart(void)
{
    const uint32_t names = chance(4);
    const size_t prefix = chance((uint32_t)sim.op_count + 1);
    must(sim.dirs_open == 0 && sim.maps == 0, "the directory or a map is still open");
    for (size_t i = 0; i < OPEN_MAX_; i++) {
        must(sim.open[i] == NULL, "a file is still open");
    }
    for (size_t i = 0; i < sim.op_count; i++) {
        /* None, all, those up to some point, or any. */
        if (names == 1 || (names == 2 && i < prefix) || (names == 3 && chance(2) == 0)) {
            apply_name(sim.durable, &sim.durable_count, &sim.ops[i]);
        }
    }
    const uint32_t mode = chance(4);
    file *left[NAMES_MAX];
    size_t count = 0;
    for (size_t i = 0; i < sim.durable_count; i++) {
        if (sim.durable[i].what == NULL) {
            continue;
        }
        /* One file under two names, between a rename's halves, is as good as two. */
        file *f = calloc(1, sizeof *f);
        must(f != NULL, "memory");
        leave(sim.durable[i].what, mode, &f->durable);
        ort_buf_put(&f->now, f->durable.data, f->durable.len);
        must(!f->durable.failed && !f->now.failed, "memory");
        sim.durable[count] = sim.durable[i];
        sim.durable[count].what = f;
        left[count++] = f;
    }
    for (size_t i = 0; i < sim.file_count; i++) {
        file_free(sim.files[i]);
    }
    memcpy(sim.files, left, count * sizeof left[0]);
    memcpy(sim.now, sim.durable, count * sizeof sim.now[0]);
    sim.file_count = sim.now_count = sim.durable_count = count;
    sim.op_count = 0;
    sim.calls = sim.crash_at = sim.all_calls = sim.fail_at = 0;
    sim.stopped = sim.failed = false;
}

void
sim_disk_end(void)
{
    dp_io_set(NULL);
    for (size_t i = 0; i < sim.file_count; i++) {
        file_free(sim.files[i]);
    }
    sim.file_count = 0;
}
