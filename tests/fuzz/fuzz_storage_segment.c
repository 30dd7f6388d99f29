/* Bytes as a segment: refused, or every accessor stays inside. Odd first byte: checksums of header
 * and index are made right first, as somebody would who forges a snapshot. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "storage/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Rewrites checksums so that only the meaning of the numbers is left to refuse. */
static void
mend(unsigned char *p, size_t n)
{
    if (n < DP_SEGMENT_HEADER_BYTES) {
        return;
    }
    memcpy(p, "ORTSEG\0\1", 8);
    ort_put_u32(p + 8, DP_SEGMENT_VERSION);
    ort_put_u64(p + 72, n);
    memset(p + 88, 0, DP_SEGMENT_HEADER_BYTES - 88);
    const uint64_t index = ort_get_u64(p + 64);
    const uint64_t sections = ort_get_u32(p + 12), crcs = ort_get_u32(p + 60);
    if (index <= n && sections <= DP_SEGMENT_SECTIONS_MAX && crcs < n &&
        sections * DP_SEGMENT_SECTION_BYTES + crcs * 4 <= n - index) {
        unsigned char *list = p + index + sections * DP_SEGMENT_SECTION_BYTES;
        for (uint64_t i = 0; i < sections; i++) {
            const unsigned char *s = p + index + i * DP_SEGMENT_SECTION_BYTES;
            const uint64_t at = ort_get_u64(s + 24), bytes = ort_get_u64(s + 32);
            const uint32_t crc = ort_get_u32(s + 20);
            if (at <= index && bytes <= index - at && bytes <= DP_SEGMENT_CRC_SPAN && crc < crcs) {
                ort_put_u32(list + (size_t)crc * 4, ort_crc32c(0, p + at, (size_t)bytes));
            }
        }
        ort_put_u32(p + 80, ort_crc32c(0, p + index,
                                       (size_t)(sections * DP_SEGMENT_SECTION_BYTES + crcs * 4)));
    }
    ort_put_u32(p + 84, ort_crc32c(0, p, 84));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_segment *s;
    ort_diag diag;
    if (size < 1) {
        return 0;
    }
    unsigned char *copy = aligned_alloc(64, (size + 63) / 64 * 64);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, size - 1);
    if ((data[0] & 1) != 0) {
        mend(copy, size - 1);
    }
    if (dp_segment_open_bytes(&s, copy, size - 1, &diag) == ORT_OK) {
        ort_buf block = {0};
        static const uint32_t columns[] = {10, 11, 12, DP_STREAM_PAYLOAD};
        for (uint32_t i = 0; i < dp_segment_order_count(s); i++) {
            (void)dp_segment_seek(s, dp_segment_order(s, i).id);
        }
        for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
            const dp_column column = {
                .id = columns[c], .type = c == 0 ? DP_COLUMN_F32 : DP_COLUMN_U8, .dim = 5};
            dp_segment_column rows;
            if (dp_segment_column_of(s, &column, &rows, &diag) == ORT_OK && rows.rows != NULL) {
                volatile unsigned char last =
                    rows.rows[(size_t)dp_segment_slots(s) * rows.stride - 1];
                (void)last;
            }
            for (uint32_t p = 0; p < dp_segment_slots(s); p++) {
                dp_segment_place place;
                if (dp_segment_locate(s, columns[c], p, &place, &diag) == ORT_OK && place.len > 0 &&
                    dp_segment_unpack(s, columns[c], place.block, &block, &diag) == ORT_OK) {
                    volatile char end = block.data[place.at + place.len - 1];
                    (void)end;
                }
            }
        }
        if (dp_segment_verify(s, &diag) != ORT_OK && diag.text[0] == '\0') {
            abort();
        }
        ort_buf_fini(&block);
        dp_segment_close(s);
    }
    free(copy);
    return 0;
}
