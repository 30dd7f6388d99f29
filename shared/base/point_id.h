/* shared/base/point_id.h: the id of a point, as clients give it: a u64 or a UUID. */
#ifndef ORT_POINT_ID_H
#define ORT_POINT_ID_H
#include <stdint.h>

#include "base/err.h"

/* Compared, hashed and stored field by field. A number stands in `lo` with `hi` 0; a UUID's 16
 * bytes stand in both, big-endian, so that comparing the fields compares the bytes. */
typedef struct {
    uint64_t hi, lo;
    bool uuid;
} ort_point_id;

static inline ort_point_id
ort_point_id_of(uint64_t number)
{
    return (ort_point_id){.lo = number};
}

/* The order of every listing: all numbers ascending, then all UUIDs. Below, at or above 0. */
int ort_point_id_cmp(ort_point_id a, ort_point_id b);

static inline bool
ort_point_id_eq(ort_point_id a, ort_point_id b)
{
    return a.hi == b.hi && a.lo == b.lo && a.uuid == b.uuid;
}

/* For hash tables. Unkeyed mixing would let a tenant choose ids that collide, so it is SipHash
 * under a key of the process. */
uint64_t ort_point_id_hash(ort_point_id id);

/* Reads decimal digits, or a UUID in any of its forms (hyphens, 32 hex digits, urn:uuid:, braces;
 * either case), as text of a path or a JSON string. A JSON *string* of digits is no id: pass
 * `digits` false there.
 * ORT_EINVAL: neither; diag in Qdrant's words. */
ORT_NODISCARD ort_err ort_point_id_parse(const char *text, size_t len, bool digits,
                                         ort_point_id *out, ort_diag *diag);

/* The id as text: digits, or a lower-case hyphenated UUID. Returns its length; a NUL follows. */
#define ORT_POINT_ID_TEXT_BYTES 37
size_t ort_point_id_format(ort_point_id id, char out[ORT_POINT_ID_TEXT_BYTES]);

/* The 17 bytes of an id in files and on the wire: kind (0 number, 1 UUID), then the number
 * little-endian and 8 zero bytes, or the UUID's 16 bytes. */
#define ORT_POINT_ID_BYTES 17
void ort_point_id_encode(ort_point_id id, unsigned char out[ORT_POINT_ID_BYTES]);

/* The reverse. ORT_ECORRUPT: another kind, or bytes that must be zero are not. */
ORT_NODISCARD ort_err ort_point_id_decode(const unsigned char in[ORT_POINT_ID_BYTES],
                                          ort_point_id *out);
#endif /* ORT_POINT_ID_H */
