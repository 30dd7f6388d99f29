/* tests/bench/density_node.h: the directory of a node with many tenants, made without a hub. */
#ifndef BENCH_DENSITY_NODE_H
#define BENCH_DENSITY_NODE_H
#include "base/id.h"
#include "crypto/token.h"

typedef struct {
    ort_tenant_id id;
    char token[ORT_TOKEN_TEXT_BYTES]; /* of its key */
} density_tenant;

#define DENSITY_COLLECTION "notes"

/* Makes dir (which must not be there) the data directory of a node that has joined a hub, with a
 * signed routing table of these tenants; fills in ids and tokens. Ends the program on failure, as
 * the other does. */
void density_node_make(const char *dir, density_tenant *tenants, size_t count);

/* Gives each tenant one collection of so many points; `indexes`: of their fields `kind` (keyword)
 * and `n` (integer), too.
 *
 * The first tenant's is written as a node writes it: a catalog, a log, a checkpoint at its close.
 * The others' files are copies of its files in which only the ids of tenant and collection are
 * others, and the checksums of what holds them: the header of a log (bytes 16..31, checksum at 60),
 * the header of a segment (16..31, checksum at 84), the manifest (16..31, checksum at its end), and
 * the catalog. Nothing else in these files depends on whose they are. Every hundredth tenant's are
 * then verified by dp_storage_verify(). */
void density_node_fill(const char *dir, const density_tenant *tenants, size_t count,
                       unsigned points, unsigned dim, bool indexes);

/* A vector as both the points and the queries have them: "[0.1,...]". */
void density_vector(ort_buf *out, uint64_t seed, unsigned dim);
#endif /* BENCH_DENSITY_NODE_H */
