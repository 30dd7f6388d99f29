/* Log records of any bytes: opened and walked without harm, or refused. */
#include <stdint.h>

#include "collection/op_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_op_record record;
    dp_op_point point;
    dp_op_vector vector;
    volatile unsigned sink = 0;
    if (dp_op__open(&record, data, size, NULL) != ORT_OK) {
        return 0;
    }
    ort_cursor c = record.points;
    for (uint32_t left = record.point_count; dp_op__next_point(&record, &c, &left, &point);) {
        ort_cursor at = point.vectors;
        for (uint32_t n = point.vector_count; dp_op__next_vector(&record, &at, &n, &vector);) {
            sink += vector.bytes > 0 ? vector.data[vector.bytes - 1] : 0u;
        }
    }
    for (uint32_t i = 0; i < record.id_count; i++) {
        sink += (unsigned)dp_op__id(&record, i).lo;
    }
    return 0;
}
