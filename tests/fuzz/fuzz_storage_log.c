/* Bytes as a log file: no crash, and what is accepted is a chain. The first byte chooses: frames as
 * they come, or with their checksums made right, which is how a hostile snapshot would come. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "storage/log_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 + DP_LOG_HEADER_BYTES) {
        return 0;
    }
    unsigned char *copy = malloc(size - 1);
    const size_t n = size - 1;
    ort_diag diag;
    dp_log_header header;
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, n);
    const bool mend = (data[0] & 1) != 0;
    if (mend) {
        ort_put_u32(copy + 60, ort_crc32c(0, copy, 60));
    }
    const ort_err err = dp_log__header_decode(copy, &header, &diag);
    size_t at = DP_LOG_HEADER_BYTES;
    while (err == ORT_OK && at < n) {
        if (mend && n - at >= DP_LOG_RECORD_HEADER_BYTES) {
            ort_put_u32(copy + at + 48, ort_crc32c(0, copy + at, 48));
        }
        const dp_log_frame frame = dp_log__frame_peek(copy + at, n - at);
        if (frame.kind == DP_LOG_FRAME_NONE) {
            (void)dp_log__tail_is_torn(copy + at, n - at, at, 1, &diag);
            break;
        }
        const size_t bytes = frame.kind == DP_LOG_FRAME_MARK
                                 ? DP_LOG_MARK_BYTES
                                 : dp_log__record_bytes(frame.body_bytes);
        if (bytes > n - at) {
            (void)dp_log__tail_is_torn(copy + at, n - at, at, frame.lsn, &diag);
            break;
        }
        if (frame.kind == DP_LOG_FRAME_RECORD && !dp_log__record_check(&frame, copy + at)) {
            (void)dp_log__tail_is_torn(copy + at, n - at, at, frame.lsn, &diag);
        }
        at += bytes;
    }
    free(copy);
    return 0;
}
