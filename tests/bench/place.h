/* tests/bench/place.h: a collection in a directory of its own, without a server. */
#ifndef BENCH_PLACE_H
#define BENCH_PLACE_H
#include "base/buf.h"
#include "collection/collection.h"

typedef struct {
    char path[64];
    ort_pool *workers;
    dp_quota *quota;
    dp_schema *schema;
    dp_collection *c;
} bench_place;

/* Processor time of this thread, which neighbours on the machine lengthen least. */
uint64_t bench_cpu_ns(void);

/* Ends the program with the error's words when it is one. */
void bench_must(ort_err err, const ort_diag *diag);

/* An open, empty collection of this schema (JSON of a PUT body), in /tmp, built by two threads. */
void bench_place_init(bench_place *p, const char *schema);
void bench_place_fini(bench_place *p); /* with its files */

/* body: the JSON of an upsert. */
void bench_place_upsert(bench_place *p, const ort_buf *body);
#endif /* BENCH_PLACE_H */
