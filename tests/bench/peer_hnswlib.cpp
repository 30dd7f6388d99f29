// hnswlib behind a few C calls. Header-only, so it is compiled here for this very machine, as its
// users do; the one C++ file of the project (docs/adr/0100).
#include "peer_hnswlib.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wconversion"
#include <hnswlib/hnswlib.h>
#pragma GCC diagnostic pop
#include <memory>

struct bench_peer {
    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    std::unique_ptr<hnswlib::HierarchicalNSW<float>> graph;
    uint32_t rows;
};

bench_peer *
bench_peer_new(uint32_t dim, uint32_t rows, uint32_t m, uint32_t ef_construct, bool cosine)
{
    auto *peer = new bench_peer;

    if (cosine) {
        peer->space.reset(new hnswlib::InnerProductSpace(dim));
    } else {
        peer->space.reset(new hnswlib::L2Space(dim));
    }
    peer->graph.reset(
        new hnswlib::HierarchicalNSW<float>(peer->space.get(), rows, m, ef_construct, 100));
    peer->rows = rows;
    return peer;
}

void
bench_peer_add(bench_peer *peer, const float *row, uint32_t id)
{
    peer->graph->addPoint(row, id);
}

void
bench_peer_search(bench_peer *peer, const float *query, uint32_t k, uint32_t ef, uint64_t *ids)
{
    if (peer->graph->ef_ != ef) {
        peer->graph->setEf(ef);
    }
    auto found = peer->graph->searchKnn(query, k);

    for (size_t i = found.size(); i < k; i++) {
        ids[i] = UINT64_MAX;
    }
    for (size_t i = found.size(); i-- > 0; found.pop()) {
        ids[i] = found.top().second;
    }
}

void
bench_peer_hide(bench_peer *peer, uint32_t id, bool hidden)
{
    const auto internal = peer->graph->label_lookup_[id];

    if (hidden != peer->graph->isMarkedDeleted(internal)) {
        if (hidden) {
            peer->graph->markDelete(id);
        } else {
            peer->graph->unmarkDelete(id);
        }
    }
}

size_t
bench_peer_bytes(const bench_peer *peer)
{
    const auto &graph = *peer->graph;
    size_t bytes = graph.max_elements_ * graph.size_data_per_element_;

    for (size_t i = 0; i < graph.cur_element_count; i++) {
        bytes += sizeof(void *) + sizeof(int) +
                 static_cast<size_t>(graph.element_levels_[i]) * graph.size_links_per_element_;
    }
    return bytes;
}

void
bench_peer_save(const bench_peer *peer, const char *path)
{
    peer->graph->saveIndex(path);
}

bool
bench_peer_load(bench_peer *peer, const char *path)
{
    try {
        peer->graph.reset(
            new hnswlib::HierarchicalNSW<float>(peer->space.get(), path, false, peer->rows));
        return peer->graph->cur_element_count == peer->rows;
    } catch (const std::exception &) {
        return false;
    }
}

void
bench_peer_free(bench_peer *peer)
{
    delete peer;
}
