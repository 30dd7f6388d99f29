/* The log is packed, cut and read beside its writers, and pages go bad under those who read them:
 * what several threads do at once there. Made for the thread sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mapped.h"
#include "base/thread.h"
#include "storage/io.h"
#include "storage/log.h"
#include "support/scratch.h"

#define MUST(cond)                                                     \
    do {                                                               \
        if (!(cond)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond); \
            abort();                                                   \
        }                                                              \
    } while (0)

static atomic_bool stop;

static void
start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
    assert_int_equal(ort_thread_start(thread, "race", fn, arg, NULL), ORT_OK);
}

/* --- the log ---------------------------------------------------------------------------------- */

enum { WRITERS = 3, BODY_MAX = 3000, KEPT = 2000 };

static dp_log *log_;
static _Atomic(uint64_t) written, packed, read_;

/* A record's body follows from its LSN, which only its writer's answer tells: so it says its own
 * number, and the reader checks what follows from that. */
static size_t
make_body(uint64_t number, char *body)
{
    const size_t len = 100 + (size_t)(number * 7919 % (BODY_MAX - 100));
    memset(body, (int)(number % 251), len);
    memcpy(body, &number, sizeof number);
    return len;
}

static void *
write_on(void *arg)
{
    uint64_t number = (uint64_t)(uintptr_t)arg << 40;
    char body[BODY_MAX];
    while (!atomic_load(&stop)) {
        dp_log_ticket ticket = {0};
        for (int i = 0; i < 5; i++) {
            const size_t len = make_body(number++, body);
            MUST(dp_log_append(log_, 1, body, len, &ticket, NULL) == ORT_OK);
        }
        MUST(dp_log_wait(log_, ticket, NULL) == ORT_OK);
        atomic_fetch_add(&written, 5);
    }
    return NULL;
}

static dp_log_mark folded; /* up to where it was cut; pack_on()'s until that has ended */

static void *
pack_on(void *arg)
{
    dp_log_mark next = {0};
    (void)arg;
    while (!atomic_load(&stop)) {
        bool did = false;
        MUST(dp_log_pack(log_, 1, 1, &did, NULL) == ORT_OK);
        atomic_fetch_add(&packed, did);
        const dp_log_mark now = dp_log_durable(log_);
        if (now.lsn > next.lsn + KEPT) { /* as a checkpoint does */
            folded = next;
            next = now;
            MUST(dp_log_cut(log_, folded.lsn, NULL) == ORT_OK);
        }
    }
    return NULL;
}

static void
check_record(const dp_log_record *record, uint64_t lsn)
{
    char body[BODY_MAX];
    uint64_t number;
    MUST(record->lsn == lsn && record->len >= sizeof number);
    memcpy(&number, record->body, sizeof number);
    MUST(record->len == make_body(number, body) && memcmp(record->body, body, record->len) == 0);
}

/* From the oldest there is, over packed files and plain ones, to the one that is written to. */
static void *
read_on(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        dp_log_reader *reader;
        dp_log_record record;
        ort_diag diag = {""};
        bool got = true;
        const uint64_t last = dp_log_durable(log_).lsn;
        uint64_t lsn = last > KEPT / 2 ? last - KEPT / 2 : 1;
        ort_err err = dp_log_reader_open(&reader, log_, lsn, &diag);
        while (err == ORT_OK && got) {
            err = dp_log_reader_next(reader, &record, &got, &diag);
            if (err == ORT_OK && got) {
                check_record(&record, lsn++);
                atomic_fetch_add(&read_, 1);
            }
        }
        if (err != ORT_OK && err != ORT_ENOTFOUND) { /* the last: it was cut while we were at it */
            fprintf(stderr, "record %llu: %s\n", (unsigned long long)lsn, diag.text);
            abort();
        }
        dp_log_reader_close(reader);
    }
    return NULL;
}

static void
the_log_is_packed_and_cut_beside_writers_and_readers(void **state)
{
    dp_log_config config = {.tenant = {1}, .shard = {2}, .epoch = 1, .file_bytes_max = 256u << 10};
    const struct timespec nap = {.tv_sec = 1, .tv_nsec = 500000000};
    pthread_t threads[WRITERS + 3];
    scratch place = scratch_make();
    (void)state;
    assert_int_equal(dp_log_open(&log_, place.fd, &config, NULL, NULL), ORT_OK);
    for (uintptr_t i = 0; i < WRITERS; i++) {
        start(&threads[i], write_on, (void *)(i + 1));
    }
    start(&threads[WRITERS], pack_on, NULL);
    start(&threads[WRITERS + 1], read_on, NULL);
    start(&threads[WRITERS + 2], read_on, NULL);
    (void)nanosleep(&nap, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < WRITERS + 3; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&stop, false);
    print_message("%llu records written, %llu read, %llu files packed\n",
                  (unsigned long long)written, (unsigned long long)read_,
                  (unsigned long long)packed);
    assert_true(written > 0 && read_ > 0);
    assert_int_equal(dp_log_durable(log_).lsn, written);
    dp_log_close(log_);
    dp_log_found found;
    config.folded = folded;
    assert_int_equal(dp_log_verify(place.fd, &config, NULL, NULL, &found, NULL), ORT_OK);
    assert_int_equal(found.last_lsn, written);
    scratch_drop(&place);
}

#if ORT_CHECK
static bool cutting;

/* A file's size, after which its writer cuts the zeros at its end off. */
static int
size_then_cut(int fd, uint64_t *out)
{
    char path[64], last = 0;
    const int rc = dp_io_real.size(fd, out);
    if (cutting) {
        uint64_t end = *out;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        const int writer = open(path, O_RDWR | O_CLOEXEC);
        MUST(writer >= 0);
        while (last == 0) {
            MUST(pread(writer, &last, 1, (off_t)--end) == 1);
        }
        MUST(end + 1 < *out && ftruncate(writer, (off_t)end + 1) == 0);
        close(writer);
        cutting = false;
    }
    return rc;
}

/* The writer cuts them off when it begins another file: what a reader takes for the end of the file
 * may be none any more when it reads. */
static void
zeros_that_go_under_a_reader_are_no_damage(void **state)
{
    const dp_log_config config = {.tenant = {1}, .shard = {2}, .epoch = 1};
    dp_io io = dp_io_real;
    dp_log_reader *reader;
    dp_log_record record;
    dp_log_ticket ticket;
    char body[BODY_MAX];
    bool got;
    scratch place = scratch_make();
    (void)state;
    assert_int_equal(dp_log_open(&log_, place.fd, &config, NULL, NULL), ORT_OK);
    assert_int_equal(dp_log_append(log_, 1, body, make_body(1, body), &ticket, NULL), ORT_OK);
    assert_int_equal(dp_log_wait(log_, ticket, NULL), ORT_OK);
    assert_int_equal(dp_log_reader_open(&reader, log_, 1, NULL), ORT_OK);
    io.size = size_then_cut;
    dp_io_set(&io);
    cutting = true;
    assert_int_equal(dp_log_reader_next(reader, &record, &got, NULL), ORT_OK);
    dp_io_set(NULL);
    assert_true(got && !cutting);
    check_record(&record, 1);
    dp_log_reader_close(reader);
    dp_log_close(log_);
    scratch_drop(&place);
}
#endif

/* --- pages ------------------------------------------------------------------------------------ */

enum { PAGES = 64, LOOKERS = 4, ROUNDS = 60 };

static size_t page_bytes;
static const volatile unsigned char *mapped;
static ort_watch *watch;
static _Atomic(uint64_t) zeros;

/* Each page begins with a byte that is not 0. Whoever reads one has met a bad page, his own or
 * another thread's, and is told so by the watch. */
static void *
look_on(void *arg)
{
    uint64_t random = (uintptr_t)arg;
    while (!atomic_load(&stop)) {
        random = random * UINT64_C(6364136223846793005) + 1;
        if (mapped[(random >> 33) % PAGES * page_bytes] == 0) {
            MUST(ort_watch_is_bad(watch));
            atomic_fetch_add(&zeros, 1);
        }
    }
    return NULL;
}

/* Other mappings come and go meanwhile. */
static void *
come_and_go(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        ort_watch *other = NULL;
        void *at = mmap(NULL, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(at != MAP_FAILED);
        MUST(ort_watch_begin(&other, at, page_bytes, false, NULL) == ORT_OK);
        MUST(!ort_watch_is_bad(other));
        ort_watch_end(other);
        munmap(at, page_bytes);
    }
    return NULL;
}

static void
lose_pages_under_readers(int dir)
{
    pthread_t threads[LOOKERS + 1];
    const struct timespec nap = {.tv_nsec = 3000000};
    const int fd = openat(dir, "pages", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < PAGES; i++) {
        assert_int_equal(pwrite(fd, "x", 1, (off_t)(i * page_bytes)), 1);
    }
    assert_int_equal(ftruncate(fd, (off_t)(PAGES * page_bytes)), 0);
    void *at = mmap(NULL, PAGES * page_bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(ort_watch_begin(&watch, at, PAGES * page_bytes, false, NULL), ORT_OK);
    mapped = at;
    for (uintptr_t i = 0; i < LOOKERS; i++) {
        start(&threads[i], look_on, (void *)(i + 1));
    }
    start(&threads[LOOKERS], come_and_go, NULL);
    (void)nanosleep(&nap, NULL);
    assert_int_equal(ftruncate(fd, (off_t)(PAGES / 2 * page_bytes)), 0);
    (void)nanosleep(&nap, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i <= LOOKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&stop, false);
    ort_watch_end(watch);
    munmap(at, PAGES * page_bytes);
    close(fd);
}

static void
pages_that_go_bad_are_told_to_all_who_read_them(void **state)
{
    scratch place = scratch_make();
    (void)state;
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    const uint64_t before = ort_watch_bad_pages();
    for (int round = 0; round < ROUNDS; round++) {
        lose_pages_under_readers(place.fd);
    }
    assert_true(zeros > 0);
    assert_true(ort_watch_bad_pages() > before);
    scratch_drop(&place);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_is_packed_and_cut_beside_writers_and_readers),
#if ORT_CHECK
        cmocka_unit_test(zeros_that_go_under_a_reader_are_no_damage),
#endif
        cmocka_unit_test(pages_that_go_bad_are_told_to_all_who_read_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
