/* Mapped files whose pages the disk may fail to give.
 *
 * The handler may run at any moment in any thread, so what it reads is atomics in blocks that are
 * never freed: it walks all of them, which takes as long as it takes, since it is about to make a
 * page of zeros of somebody's data. mmap() is not on POSIX's list of calls for handlers; on Linux
 * it is one system call and takes no lock of ours. It is made straight: the thread sanitizer's in
 * front of libc's would take it for a write to what others read. */
#include "base/mapped.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK_ENTRIES 1024u

struct ort_watch {
    _Atomic(uintptr_t) start; /* 0: free */
    _Atomic(uintptr_t) end;
    atomic_bool writable, bad;
    struct ort_watch *next_free; /* lock */
};

typedef struct block {
    struct block *next; /* set before the block is published */
    ort_watch entries[BLOCK_ENTRIES];
} block;

static _Atomic(block *) blocks;
static _Atomic(uint64_t) bad_pages;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ort_watch *free_list; /* lock */
static struct sigaction before;
static uintptr_t page_bytes;

/* Lets the signal end the process, or go where it went before: it comes again when this returns. */
static void
hand_back(void)
{
    sigaction(SIGBUS, &before, NULL);
}

static void
on_sigbus(int sig, siginfo_t *info, void *context)
{
    const int error = errno;
    const uintptr_t at = (uintptr_t)info->si_addr;
    (void)sig;
    (void)context;
    for (block *b = atomic_load(&blocks); b != NULL; b = b->next) {
        for (size_t i = 0; i < BLOCK_ENTRIES; i++) {
            ort_watch *w = &b->entries[i];
            const uintptr_t start = atomic_load(&w->start);
            if (start == 0 || at < start || at >= atomic_load(&w->end)) {
                continue;
            }
            const long prot = PROT_READ | (atomic_load(&w->writable) ? PROT_WRITE : 0);
            /* First: another thread that reads the zeros asks at once, and must be told. */
            atomic_store(&w->bad, true);
            atomic_fetch_add(&bad_pages, 1);
            if (syscall(SYS_mmap, at & ~(page_bytes - 1), page_bytes, prot,
                        (long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED), -1L, 0L) == -1) {
                hand_back();
            }
            errno = error;
            return;
        }
    }
    hand_back();
    errno = error;
}

/* Ours may have been replaced since: libraries and test frameworks do such things. The lock is
 * held. */
static ort_err
install(ort_diag *diag)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
        now.sa_sigaction == on_sigbus) {
        return ORT_OK;
    }
    before = now;
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) == 0
               ? ORT_OK
               : ort_fail_errno(diag, ORT_EINTERNAL, "handle SIGBUS");
}

/* The lock is held. */
static ort_err
grow(ort_diag *diag)
{
    block *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "a list of mapped files");
    }
    for (size_t i = BLOCK_ENTRIES; i-- > 0;) {
        b->entries[i].next_free = free_list;
        free_list = &b->entries[i];
    }
    b->next = atomic_load(&blocks);
    atomic_store(&blocks, b);
    return ORT_OK;
}

ort_err
ort_watch_begin(ort_watch **out, void *at, size_t bytes, bool writable, ort_diag *diag)
{
    *out = NULL;
    pthread_mutex_lock(&lock);
    ort_err err = install(diag);
    if (err == ORT_OK && free_list == NULL) {
        err = grow(diag);
    }
    if (err == ORT_OK) {
        ort_watch *w = free_list;
        free_list = w->next_free;
        atomic_store(&w->bad, false);
        atomic_store(&w->writable, writable);
        atomic_store(&w->end, (uintptr_t)at + bytes);
        atomic_store(&w->start, (uintptr_t)at);
        *out = w;
    }
    pthread_mutex_unlock(&lock);
    return err;
}

void
ort_watch_end(ort_watch *w)
{
    if (w != NULL) {
        pthread_mutex_lock(&lock);
        atomic_store(&w->start, 0);
        w->next_free = free_list;
        free_list = w;
        pthread_mutex_unlock(&lock);
    }
}

bool
ort_watch_is_bad(const ort_watch *w)
{
    return atomic_load_explicit(&w->bad, memory_order_acquire);
}

uint64_t
ort_watch_bad_pages(void)
{
    return atomic_load_explicit(&bad_pages, memory_order_acquire);
}
