/* Two C library calls that the HTTP library makes, caught in our executables.
 *
 * The dynamic linker looks for a symbol in the executable first, so that a function defined here is
 * called by libcivetweb.so in place of glibc's. It is the only way to change these two habits of
 * the Debian build (docs/adr/0021-two-interposed-calls-and-a-tls-shim.md):
 *
 * - pthread_attr_setstacksize: workers get 100 KiB, which a nested JSON body of 1,000 levels or one
 *   large frame overruns. Whoever asks for less than 1 MiB gets 1 MiB; only pages that are touched
 *   cost memory.
 * - poll: each byte of a body restarts the library's read clock, so a sender of one byte in half a
 *   second holds its thread for as long as it likes, and there is no handle to cut it off. A
 *   deadline per thread makes poll() fail when it is over. A write does not take that for an end,
 * and would try again without a pause for as long as its client takes a byte now and then: its
 *   connection is shut down with it. And the thread that accepts connections looks only every 2 s
 *   whether it is to stop: a descriptor per thread cuts its wait short.
 * Threads that set neither are not touched.
 */
#undef _FORTIFY_SOURCE /* its inline poll() would be defined twice */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "http_internal.h"

#ifdef ORT_TSAN /* keeps its own state of a thread on the thread's stack */
#define STACK_BYTES_MIN ((size_t)4 << 20)
#else
#define STACK_BYTES_MIN ((size_t)1 << 20)
#endif

static _Thread_local uint64_t io_deadline_ns;
static _Thread_local int waker_plus_1; /* 0: none */

void
ort_http__io_deadline(uint64_t mono_ns)
{
    io_deadline_ns = mono_ns;
}

void
ort_http__poll_waker(int fd)
{
    waker_plus_1 = fd + 1;
}

/* As ppoll(), and 0 (the time is over) as soon as the waker can be read. */
static int
ppoll_wakeable(struct pollfd *fds, nfds_t count, const struct timespec *wait, int waker)
{
    struct pollfd all[ORT_HTTP_LISTENERS_MAX + 1];

    memcpy(all, fds, count * sizeof *fds);
    all[count] = (struct pollfd){.fd = waker, .events = POLLIN};
    int n = ppoll(all, count + 1, wait, NULL);
    memcpy(fds, all, count * sizeof *fds);
    return n > 0 && all[count].revents != 0 ? n - 1 : n;
}

int
poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec wait = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};

    if (io_deadline_ns != 0) {
        uint64_t now = ort_mono_ns();
        if (now >= io_deadline_ns) {
            for (nfds_t i = 0; i < count; i++) {
                if ((fds[i].events & POLLOUT) != 0) {
                    (void)shutdown(fds[i].fd, SHUT_RDWR);
                }
            }
            errno = ETIMEDOUT;
            return -1;
        }
        uint64_t left = io_deadline_ns - now;
        if (timeout_ms < 0 || left < (uint64_t)timeout_ms * 1000000u) {
            wait = (struct timespec){.tv_sec = (time_t)(left / 1000000000u),
                                     .tv_nsec = (long)(left % 1000000000u)};
            timeout_ms = 0;
        }
    }
    const struct timespec *limit = timeout_ms < 0 ? NULL : &wait;
    return waker_plus_1 != 0 && count <= ORT_HTTP_LISTENERS_MAX
               ? ppoll_wakeable(fds, count, limit, waker_plus_1 - 1)
               : ppoll(fds, count, limit, NULL);
}

typedef int setstacksize_fn(pthread_attr_t *, size_t);

int
pthread_attr_setstacksize(pthread_attr_t *attr, size_t bytes)
{
    static _Atomic(setstacksize_fn *) next;
    setstacksize_fn *fn = next;

    if (fn == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_attr_setstacksize");
        if (symbol == NULL) {
            abort(); /* there is no C library without it */
        }
        memcpy(&fn, &symbol, sizeof fn); /* ISO C has no cast from void * to a function */
        next = fn;
    }
    return fn(attr, bytes < STACK_BYTES_MIN ? STACK_BYTES_MIN : bytes);
}
