/* Chunks of a slab come straight from the system: zeroed, page by page when touched, in huge pages
 * where it has them (a walk is bound by memory; 4 KiB pages cost it 10-30 %, reference/ann.md). */
#include "index/slab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES ((size_t)4096)
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

void
dp_slab_init(dp_slab *slab, size_t stride_bytes)
{
    memset(slab, 0, sizeof *slab);
    slab->stride_bytes = stride_bytes;
}

static size_t
chunk_bytes(const dp_slab *slab, unsigned chunk)
{
    size_t bytes = (size_t)dp_slab_chunk_count(chunk) * slab->stride_bytes;
    size_t page = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : PAGE_BYTES;

    return (bytes + page - 1) / page * page;
}

/* The sanitizers watch the heap better than mappings. */
#ifdef ORT_CHECK
static void *
chunk_new(size_t bytes)
{
    void *at = aligned_alloc(PAGE_BYTES, bytes);

    if (at != NULL) {
        memset(at, 0, bytes);
    }
    return at;
}

static void
chunk_free(void *at, size_t bytes)
{
    (void)bytes;
    free(at);
}
#else
static void *
chunk_new(size_t bytes)
{
    size_t slack = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
    char *at;
    size_t skip;

    at = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    if (slack == 0) {
        return at;
    }
    /* Begin at a huge page, and give back what is before and behind. */
    skip = (HUGE_PAGE_BYTES - ((uintptr_t)at & (HUGE_PAGE_BYTES - 1))) & (HUGE_PAGE_BYTES - 1);
    if (skip != 0) {
        munmap(at, skip);
    }
    if (slack - skip != 0) {
        munmap(at + skip + bytes, slack - skip);
    }
    at += skip;
    madvise(at, bytes, MADV_HUGEPAGE); /* a wish: without it all works, slower */
    return at;
}

static void
chunk_free(void *at, size_t bytes)
{
    munmap(at, bytes);
}
#endif

static uintptr_t
bias(const dp_slab *slab, unsigned chunk)
{
    return (uintptr_t)dp_slab_chunk_begin(chunk) * slab->stride_bytes;
}

/* Elements of the chunk that are among the first `count`. */
static uint32_t
part_of(unsigned chunk, uint32_t count)
{
    uint32_t begin = dp_slab_chunk_begin(chunk);
    uint32_t left = count > begin ? count - begin : 0;

    return left < dp_slab_chunk_count(chunk) ? left : dp_slab_chunk_count(chunk);
}

static void *
chunk_at(const dp_slab *slab, unsigned chunk)
{
    uintptr_t base =
        atomic_load_explicit((_Atomic(uintptr_t) *)&slab->biased[chunk], memory_order_relaxed);

    return base != 0 ? (void *)(base + bias(slab, chunk)) : NULL;
}

static void
publish(dp_slab *slab, unsigned chunk, void *at)
{
    atomic_store_explicit(&slab->biased[chunk], (uintptr_t)at - bias(slab, chunk),
                          memory_order_release);
}

void
dp_slab_fini(dp_slab *slab)
{
    for (unsigned c = 0; c < DP_SLAB_CHUNKS; c++) {
        void *at = chunk_at(slab, c);

        if (at != NULL && dp_slab_is_mapped(slab, c)) {
            ort_watch_end(atomic_load_explicit(&slab->watches[c], memory_order_relaxed));
            atomic_store_explicit(&slab->watches[c], NULL, memory_order_relaxed);
            munmap(at, chunk_bytes(slab, c));
        } else if (at != NULL) {
            chunk_free(at, chunk_bytes(slab, c));
        }
        atomic_store_explicit(&slab->biased[c], 0, memory_order_relaxed);
    }
    atomic_store_explicit(&slab->mapped, 0, memory_order_relaxed);
}

ort_err
dp_slab_reserve(dp_slab *slab, uint32_t index)
{
    unsigned last = dp_slab_chunk_of(index);

    for (unsigned c = 0; c <= last; c++) {
        void *at;

        if (chunk_at(slab, c) != NULL) {
            continue;
        }
        at = chunk_new(chunk_bytes(slab, c));
        if (at == NULL) {
            return ORT_ENOMEM;
        }
        publish(slab, c, at);
    }
    return ORT_OK;
}

/* The pages of a chunk that the file has, and behind them room for the elements that it has not. */
static ort_err
map_chunk(dp_slab *slab, int fd, uint64_t offset, uint32_t count, unsigned chunk, ort_diag *diag)
{
    size_t bytes = ((size_t)part_of(chunk, count) * slab->stride_bytes + PAGE_BYTES - 1) /
                   PAGE_BYTES * PAGE_BYTES;
    size_t room = chunk_bytes(slab, chunk);
    void *at = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);

    ort_watch *watch = NULL;
    ort_err err = ORT_OK;

    if (at == MAP_FAILED) {
        return ort_fail(diag, ORT_ENOMEM, "no room to map a graph");
    }
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
             (off_t)(offset + bias(slab, chunk))) == MAP_FAILED) {
        err = ort_fail_errno(diag, ORT_EIO, "map a graph");
    } else {
        err = ort_watch_begin(&watch, at, bytes, true, diag);
    }
    if (err != ORT_OK) {
        munmap(at, room);
        return err;
    }
    atomic_store_explicit(&slab->watches[chunk], watch, memory_order_relaxed);
    atomic_fetch_or_explicit(&slab->mapped, UINT32_C(1) << chunk, memory_order_relaxed);
    publish(slab, chunk, at);
    return ORT_OK;
}

ort_err
dp_slab_map(dp_slab *slab, int fd, uint64_t offset, uint32_t count, ort_diag *diag)
{
    ort_err err = ORT_OK;

    assert(offset % PAGE_BYTES == 0 && (bias(slab, 1) % PAGE_BYTES) == 0);
    if (sysconf(_SC_PAGESIZE) != (long)PAGE_BYTES) {
        return ORT_ENOTIMPL;
    }
    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < count && err == ORT_OK;
         c++) {
        err = map_chunk(slab, fd, offset, count, c, diag);
    }
    if (err != ORT_OK) {
        dp_slab_fini(slab);
    }
    return err;
}

bool
dp_slab_is_bad(const dp_slab *slab)
{
    for (unsigned c = 0; c < DP_SLAB_CHUNKS; c++) {
        const ort_watch *watch =
            atomic_load_explicit((_Atomic(ort_watch *) *)&slab->watches[c], memory_order_relaxed);

        if (watch != NULL && ort_watch_is_bad(watch)) {
            return true;
        }
    }
    return false;
}

void
dp_slab_advise(const dp_slab *slab, int advice)
{
    for (unsigned c = 0; c < DP_SLAB_CHUNKS; c++) {
        if (dp_slab_is_mapped(slab, c)) {
            madvise(chunk_at(slab, c), chunk_bytes(slab, c), advice);
        }
    }
}

void
dp_slab_exchange(dp_slab *slab, dp_slab *fresh, unsigned chunk)
{
    uint32_t bit = UINT32_C(1) << chunk;
    uint32_t had = atomic_load_explicit(&slab->mapped, memory_order_relaxed) & bit;
    uint32_t gets = atomic_load_explicit(&fresh->mapped, memory_order_relaxed) & bit;
    uintptr_t base = atomic_load_explicit(&fresh->biased[chunk], memory_order_relaxed);

    assert(slab->stride_bytes == fresh->stride_bytes && base != 0);
    /* Sequentially consistent, with the scratches: a walk that dp_scratch_drain() does not see
     * finds the fresh chunk. */
    base = atomic_exchange_explicit(&slab->biased[chunk], base, memory_order_seq_cst);
    atomic_store_explicit(&fresh->biased[chunk], base, memory_order_relaxed);
    atomic_fetch_xor_explicit(&slab->mapped, had ^ gets, memory_order_relaxed);
    atomic_fetch_xor_explicit(&fresh->mapped, had ^ gets, memory_order_relaxed);
    atomic_store_explicit(
        &fresh->watches[chunk],
        atomic_exchange_explicit(&slab->watches[chunk],
                                 atomic_load_explicit(&fresh->watches[chunk], memory_order_relaxed),
                                 memory_order_relaxed),
        memory_order_relaxed);
}

ort_err
dp_slab_copy(const dp_slab *slab, dp_slab *fresh, unsigned chunk, uint32_t count)
{
    uint32_t n = part_of(chunk, count);
    void *at = chunk_new(chunk_bytes(slab, chunk));

    if (at == NULL) {
        return ORT_ENOMEM;
    }
    memcpy(at, chunk_at(slab, chunk), (size_t)n * slab->stride_bytes);
    publish(fresh, chunk, at);
    return ORT_OK;
}

size_t
dp_slab_bytes(const dp_slab *slab, uint32_t count)
{
    size_t sum = 0;

    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < count; c++) {
        uint32_t left = count - dp_slab_chunk_begin(c);
        uint32_t n = left < dp_slab_chunk_count(c) ? left : dp_slab_chunk_count(c);
        size_t page = chunk_bytes(slab, c) >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : PAGE_BYTES;

        if (!dp_slab_is_mapped(slab, c)) {
            sum += ((size_t)n * slab->stride_bytes + page - 1) / page * page;
        }
    }
    return sum;
}
