/* data-plane/storage/segment_internal.h: what reading and writing a segment share. */
#ifndef DP_SEGMENT_INTERNAL_H
#define DP_SEGMENT_INTERNAL_H
#include <pthread.h>

#include "base/mapped.h"
#include "storage/segment.h"

#define DP_SEGMENT_MAGIC "ORTSEG\0\1"

/* A block is closed at this size; one value may make it larger. 16 KiB of JSON unpack in some 10
 * us, which is what a random read of one payload costs, and pack nearly as well as larger blocks.
 */
#define DP_SEGMENT_RAW_BYTES (16u << 10)
#define DP_SEGMENT_RAW_BYTES_MAX (DP_SEGMENT_RAW_BYTES + DP_VALUE_BYTES_MAX + 1u)

struct dp_segment {
    const unsigned char *map;
    size_t map_bytes;
    bool mapped;
    int fd;           /* -1: bytes in memory */
    ort_watch *watch; /* of the map; NULL: bytes in memory */

    uint64_t tenant, shard;
    uint32_t version;
    dp_segment_ref ref;
    uint32_t slots, chunk_count, last_used, order_count;
    uint32_t section_count, crc_count;
    uint64_t index_offset;
    dp_section *sections;
    const unsigned char *crcs;
    const unsigned char *chunks, *ids, *versions, *order;
    pthread_mutex_t checking; /* held by who checks a whole section of rows */
    uint32_t *numbers; /* [chunk_count]: of chunks, as they are now; UINT32_MAX: not this one's */
};
#endif /* DP_SEGMENT_INTERNAL_H */
