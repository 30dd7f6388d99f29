/* shared/base/id.h: ids as one-field structs, so that the compiler refuses one for another. */
#ifndef ORT_ID_H
#define ORT_ID_H
#include <stdint.h>

#include "base/err.h"

typedef struct {
    uint64_t v; /* random, never 0 */
} ort_tenant_id;

typedef struct {
    uint64_t v; /* random, never 0 */
} ort_node_id;

typedef struct {
    uint64_t v; /* random, never 0; unique within its tenant */
} ort_collection_id;

/* A key's public half. It carries its tenant, so that any node can tell where a request belongs
 * without holding every key of the hub; `serial` is random, 56 bits. */
typedef struct {
    ort_tenant_id tenant;
    uint64_t serial;
} ort_key_id;

/* 16 lower-case hex digits and a NUL: how tenant, node and collection ids are written everywhere
 * (paths, JSON, logs). */
#define ORT_ID_TEXT_BYTES 17
void ort_id_format(uint64_t id, char out[ORT_ID_TEXT_BYTES]);

/* The reverse, strict: exactly 16 lower-case hex digits, not zero. ORT_EFORMAT otherwise. */
ORT_NODISCARD ort_err ort_id_parse(const char *text, size_t len, uint64_t *out);

/* A new random id from the kernel's generator; aborts when the kernel has none to give. */
uint64_t ort_id_random(void);

/* n random bytes from the kernel, as above. Not for long-term secrets: crypto/ has its own. */
void ort_random_bytes(void *out, size_t n);
#endif /* ORT_ID_H */
