/* tests/bench/peer_hnswlib.h: hnswlib of Debian (libhnswlib-dev), when it was there at building. */
#ifndef PEER_HNSWLIB_H
#define PEER_HNSWLIB_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bench_peer bench_peer;

/* An empty index for `rows` float[dim]; cosine: the product, of rows of unit length. NULL: not
 * built in. */
bench_peer *bench_peer_new(uint32_t dim, uint32_t rows, uint32_t m, uint32_t ef_construct,
                           bool cosine);
void bench_peer_add(bench_peer *peer, const float *row, uint32_t id);
void bench_peer_search(bench_peer *peer, const float *query, uint32_t k, uint32_t ef,
                       uint64_t *ids);
/* Whether answers leave this row out; walks pass through it all the same. */
void bench_peer_hide(bench_peer *peer, uint32_t id, bool hidden);
size_t bench_peer_bytes(const bench_peer *peer);
void bench_peer_save(const bench_peer *peer, const char *path);
bool bench_peer_load(bench_peer *peer, const char *path);
void bench_peer_free(bench_peer *peer);

#ifdef __cplusplus
}
#endif
#endif /* PEER_HNSWLIB_H */
