/* The forgetful disk. */
#include "support/sim_disk.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "storage/io.h"

#define SECTOR 512u

typedef struct {
    bool truncate;
    uint64_t at; /* of a write; the new length of a truncation */
    ort_buf bytes;
} file_op;

typedef struct {
    ino_t ino; /* 0: of a file that is no more */
    ort_buf durable;
    file_op *ops;
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

enum { FILES_MAX = 4096, NAMES_MAX = 4096 };

static struct {
    int dir_fd;
    uint64_t random;
    uint32_t calls, crash_at, fail_at;
    int error;
    bool stopped, failed;
    file *files[FILES_MAX];
    size_t file_count;
    entry durable[NAMES_MAX];
    size_t durable_count;
    name_op ops[NAMES_MAX];
    size_t op_count;
} sim;

static void
must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
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
file_new(ino_t ino)
{
    must(sim.file_count < FILES_MAX, "too many files");
    file *f = calloc(1, sizeof *f);
    must(f != NULL, "memory");
    for (size_t i = 0; i < sim.file_count; i++) {
        if (sim.files[i]->ino == ino) {
            sim.files[i]->ino = 0; /* its number is used again */
        }
    }
    f->ino = ino;
    sim.files[sim.file_count++] = f;
    return f;
}

static file *
file_of(int fd)
{
    struct stat st;
    must(fstat(fd, &st) == 0, "fstat");
    for (size_t i = 0; i < sim.file_count; i++) {
        if (sim.files[i]->ino == st.st_ino) {
            return sim.files[i];
        }
    }
    return NULL;
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

/* One call of the disk: 0 go on, else errno. */
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
    if (sim.fail_at != 0 && sim.calls >= sim.fail_at) {
        sim.fail_at = 0;
        sim.failed = true;
        return sim.error;
    }
    return 0;
}

static ssize_t
sim_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    const bool was = sim.stopped;
    const int error = tick();
    if (error != 0 && was) {
        errno = error;
        return -1;
    }
    /* The call that fails, or meets the crash, may have done a part; any other may be short. */
    size_t part = n;
    if (error != 0) {
        part = chance((uint32_t)n + 1);
    } else if (n > 1 && chance(8) == 0) {
        part = 1 + chance((uint32_t)n - 1);
    }
    file *f = file_of(fd);
    must(f != NULL, "a file nobody made");
    if (part > 0) {
        must(pwrite(fd, bytes, part, at) == (ssize_t)part, "pwrite");
        file_op *op = file_op_new(f);
        op->at = (uint64_t)at;
        ort_buf_put(&op->bytes, bytes, part);
    }
    if (error != 0) {
        errno = error;
        return -1;
    }
    return (ssize_t)part;
}

static int
sim_ftruncate(int fd, off_t len)
{
    const int error = tick();
    if (error != 0) {
        errno = error;
        return -1;
    }
    file *f = file_of(fd);
    must(f != NULL && ftruncate(fd, len) == 0, "ftruncate");
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
    struct stat st;
    const int error = tick();
    if (error != 0) {
        errno = error;
        return -1;
    }
    must(fstat(fd, &st) == 0, "fstat");
    if (S_ISDIR(st.st_mode)) {
        for (size_t i = 0; i < sim.op_count; i++) {
            apply_name(sim.durable, &sim.durable_count, &sim.ops[i]);
        }
        sim.op_count = 0;
        return 0;
    }
    file *f = file_of(fd);
    must(f != NULL, "a file nobody made");
    for (size_t i = 0; i < f->op_count; i++) {
        apply_op(&f->durable, &f->ops[i]);
    }
    forget_ops(f);
    return 0;
}

static name_op *
name_op_new(name_kind kind, const char *name, file *what)
{
    must(sim.op_count < NAMES_MAX && strlen(name) < sizeof sim.ops[0].name, "names");
    name_op *op = &sim.ops[sim.op_count++];
    *op = (name_op){.kind = kind, .what = what};
    strcpy(op->name, name);
    return op;
}

static int
sim_create(int dir_fd, const char *name, int flags)
{
    const int error = tick();
    if (error != 0) {
        errno = error;
        return -1;
    }
    const bool there = faccessat(dir_fd, name, F_OK, 0) == 0;
    const int fd = dp_io_real.create(dir_fd, name, flags);
    must(fd >= 0, name);
    if (there) {
        file *f = file_of(fd);
        must(f != NULL, "a file nobody made");
        file_op *op = file_op_new(f);
        op->truncate = true;
    } else {
        struct stat st;
        must(fstat(fd, &st) == 0, "fstat");
        name_op_new(NAME_SET, name, file_new(st.st_ino));
    }
    return fd;
}

static file *
file_named(int dir_fd, const char *name)
{
    const int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    file *f = file_of(fd);
    close(fd);
    return f;
}

static int
sim_rename(int dir_fd, const char *from, const char *to)
{
    const int error = tick();
    if (error != 0) {
        errno = error;
        return -1;
    }
    name_op *op = name_op_new(NAME_MOVE, from, file_named(dir_fd, from));
    strcpy(op->to, to);
    return dp_io_real.rename(dir_fd, from, to);
}

static int
sim_unlink(int dir_fd, const char *name)
{
    const int error = tick();
    if (error != 0) {
        errno = error;
        return -1;
    }
    if (faccessat(dir_fd, name, F_OK, 0) == 0) {
        name_op_new(NAME_REMOVE, name, NULL);
    }
    return dp_io_real.unlink(dir_fd, name);
}

static const dp_io SIM_IO = {.pwrite = sim_pwrite,
                             .fdatasync = sim_sync,
                             .fsync = sim_sync,
                             .ftruncate = sim_ftruncate,
                             .create = sim_create,
                             .rename = sim_rename,
                             .unlink = sim_unlink};

static void
forget_all(void)
{
    for (size_t i = 0; i < sim.file_count; i++) {
        forget_ops(sim.files[i]);
        free(sim.files[i]->ops);
        ort_buf_fini(&sim.files[i]->durable);
        free(sim.files[i]);
    }
    sim.file_count = sim.durable_count = sim.op_count = 0;
}

static void
adopt(int dir_fd)
{
    sim.dir_fd = dir_fd;
    sim.calls = sim.crash_at = sim.fail_at = 0;
    sim.stopped = sim.failed = false;
    const int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(fd);
    must(dir != NULL, "fdopendir");
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        struct stat st;
        if (d->d_name[0] == '.') {
            continue;
        }
        must(fstatat(dir_fd, d->d_name, &st, 0) == 0, d->d_name);
        file *f = file_new(st.st_ino);
        must(ort_file_read(dir_fd, d->d_name, SIZE_MAX, &f->durable, NULL) == ORT_OK, d->d_name);
        entry *e = &sim.durable[sim.durable_count++];
        strcpy(e->name, d->d_name);
        e->what = f;
    }
    closedir(dir);
}

void
sim_disk_start(scratch *dir, uint64_t seed)
{
    sim.random = seed;
    chance(2);
    adopt(dir->fd);
    dp_io_set(&SIM_IO);
}

void
sim_disk_crash_in(uint32_t n)
{
    sim.crash_at = n == 0 ? 0 : sim.calls + n;
}

void
sim_disk_fail_in(uint32_t n, int error)
{
    sim.fail_at = n == 0 ? 0 : sim.calls + n;
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
sim_disk_restart(scratch *dir)
{
    scratch fresh = scratch_make();
    const uint32_t names = chance(4);
    const size_t prefix = chance((uint32_t)sim.op_count + 1);
    for (size_t i = 0; i < sim.op_count; i++) {
        /* None, all, those up to some point, or any. */
        if (names == 1 || (names == 2 && i < prefix) || (names == 3 && chance(2) == 0)) {
            apply_name(sim.durable, &sim.durable_count, &sim.ops[i]);
        }
    }
    const uint32_t mode = chance(4);
    for (size_t i = 0; i < sim.durable_count; i++) {
        ort_buf bytes = {0};
        if (sim.durable[i].what == NULL) {
            continue;
        }
        leave(sim.durable[i].what, mode, &bytes);
        const int fd =
            openat(fresh.fd, sim.durable[i].name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        must(fd >= 0 && ort_write_full(fd, bytes.data, bytes.len, NULL) == ORT_OK, "write");
        close(fd);
        ort_buf_fini(&bytes);
    }
    forget_all();
    scratch_drop(dir);
    *dir = fresh;
    adopt(dir->fd);
}

void
sim_disk_end(void)
{
    dp_io_set(NULL);
    forget_all();
}
