/* shared/base/mapped.h: mapped files whose pages the disk may fail to give.
 *
 * A page of a mapping that cannot be read (a bad sector, a file that was cut short meanwhile, a
 * machine check) is SIGBUS, which would end the process and with it every tenant's service. A
 * mapping that is watched gets a page of zeros in the place of the bad one instead, and its word is
 * broken for good: whoever answers from it asks ort_watch_is_bad() after reading and before
 * answering, and answers ORT_EIO. */
#ifndef ORT_MAPPED_H
#define ORT_MAPPED_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Opaque. From ort_watch_begin() to ort_watch_end(). Threads: any number. */
typedef struct ort_watch ort_watch;

/* Watches the mapping of `bytes` at `at` (page-aligned, readable; writable tells whether it may be
 * written, for private ones). Sees to it that SIGBUS is handled here; signals that concern
 * no watched mapping go to whoever handled them before. End it before munmap (NULL is fine).
 * ORT_ENOMEM: as if not called. */
ORT_NODISCARD ort_err ort_watch_begin(ort_watch **out, void *at, size_t bytes, bool writable,
                                      ort_diag *diag);
void ort_watch_end(ort_watch *watch);

/* Whether a page of it was bad. Also true when the read that met it was another thread's. */
bool ort_watch_is_bad(const ort_watch *watch);

/* Bad pages met so far, in all mappings: while it has not moved, none has become bad. */
uint64_t ort_watch_bad_pages(void);
#endif /* ORT_MAPPED_H */
