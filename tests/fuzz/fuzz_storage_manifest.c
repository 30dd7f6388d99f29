/* Bytes as a manifest: refused, or encoding what was read gives the same meaning again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "storage/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_manifest m, again;
    ort_diag diag;
    ort_buf bytes = {0};
    if (size < 5) {
        return 0;
    }
    unsigned char *copy = malloc(size - 1);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, size - 1);
    if ((data[0] & 1) != 0) { /* the checksum made right */
        ort_put_u32(copy + size - 5, ort_crc32c(0, copy, size - 5));
    }
    if (dp_manifest_decode(copy, size - 1, &m, &diag) == ORT_OK) {
        for (uint32_t i = 0; i < m.chunk_count; i++) {
            m.chunks[i].used = DP_CHUNK_SLOTS;
        }
        dp_manifest_encode(&m, &bytes);
        if (bytes.failed || dp_manifest_decode(bytes.data, bytes.len, &again, &diag) != ORT_OK) {
            abort();
        }
        if (again.chunk_count != m.chunk_count || again.slot_end != m.slot_end) {
            abort();
        }
        for (uint32_t i = 0; i < m.chunk_count; i++) {
            if (memcmp(again.chunks[i].live, m.chunks[i].live, sizeof m.chunks[i].live) != 0) {
                abort();
            }
        }
        dp_manifest_fini(&again);
        dp_manifest_fini(&m);
        ort_buf_fini(&bytes);
    }
    free(copy);
    return 0;
}
