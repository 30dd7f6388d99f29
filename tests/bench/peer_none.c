/* In the place of peer_hnswlib.cpp where hnswlib's headers, or a C++ compiler, are not there. */
#include "peer_hnswlib.h"

bench_peer *
bench_peer_new(uint32_t dim, uint32_t rows, uint32_t m, uint32_t ef_construct, bool cosine)
{
    (void)dim;
    (void)rows;
    (void)m;
    (void)ef_construct;
    (void)cosine;
    return NULL;
}

void
bench_peer_add(bench_peer *peer, const float *row, uint32_t id)
{
    (void)peer;
    (void)row;
    (void)id;
}

void
bench_peer_search(bench_peer *peer, const float *query, uint32_t k, uint32_t ef, uint64_t *ids)
{
    (void)peer;
    (void)query;
    (void)k;
    (void)ef;
    (void)ids;
}

size_t
bench_peer_bytes(const bench_peer *peer)
{
    (void)peer;
    return 0;
}

void
bench_peer_save(const bench_peer *peer, const char *path)
{
    (void)peer;
    (void)path;
}

bool
bench_peer_load(bench_peer *peer, const char *path)
{
    (void)peer;
    (void)path;
    return false;
}

void
bench_peer_free(bench_peer *peer)
{
    (void)peer;
}

void
bench_peer_hide(bench_peer *peer, uint32_t id, bool hidden)
{
    (void)peer;
    (void)id;
    (void)hidden;
}
