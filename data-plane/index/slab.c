/* Chunks of a slab come straight from the system: zeroed, page by page when touched, in huge pages
 * where it has them (a walk is bound by memory; 4 KiB pages cost it 10-30 %, reference/ann.md). */
#include "index/slab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
    size_t page = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 4096;

    return (bytes + page - 1) / page * page;
}

/* The sanitizers watch the heap better than mappings. */
#ifdef ORT_CHECK
static void *
chunk_new(size_t bytes)
{
    void *at = aligned_alloc(4096, bytes);

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

void
dp_slab_fini(dp_slab *slab)
{
    for (unsigned c = 0; c < DP_SLAB_CHUNKS; c++) {
        uintptr_t base = atomic_load_explicit(&slab->biased[c], memory_order_relaxed);

        if (base != 0) {
            base += (uintptr_t)dp_slab_chunk_begin(c) * slab->stride_bytes;
            chunk_free((void *)base, chunk_bytes(slab, c));
        }
        atomic_store_explicit(&slab->biased[c], 0, memory_order_relaxed);
    }
}

ort_err
dp_slab_reserve(dp_slab *slab, uint32_t index)
{
    unsigned last = dp_slab_chunk_of(index);

    for (unsigned c = 0; c <= last; c++) {
        void *at;

        if (atomic_load_explicit(&slab->biased[c], memory_order_relaxed) != 0) {
            continue;
        }
        at = chunk_new(chunk_bytes(slab, c));
        if (at == NULL) {
            return ORT_ENOMEM;
        }
        atomic_store_explicit(&slab->biased[c],
                              (uintptr_t)at -
                                  (uintptr_t)dp_slab_chunk_begin(c) * slab->stride_bytes,
                              memory_order_release);
    }
    return ORT_OK;
}

size_t
dp_slab_bytes(const dp_slab *slab, uint32_t count)
{
    size_t sum = 0;

    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < count; c++) {
        uint32_t left = count - dp_slab_chunk_begin(c);
        uint32_t n = left < dp_slab_chunk_count(c) ? left : dp_slab_chunk_count(c);
        size_t page = chunk_bytes(slab, c) >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 4096;

        sum += ((size_t)n * slab->stride_bytes + page - 1) / page * page;
    }
    return sum;
}
