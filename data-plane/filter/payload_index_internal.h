/* data-plane/filter/payload_index_internal.h: what an index of a field is made of. */
#ifndef DP_PAYLOAD_INDEX_INTERNAL_H
#define DP_PAYLOAD_INDEX_INTERNAL_H
#include "filter/numbers.h"
#include "filter/payload_index.h"
#include "filter/words.h"

/* Sets that every index has. A leaf is a value at the path, or an element where that is an array:
 * what conditions are asked about. */
typedef enum {
    DP_HAS_FILLED, /* a value that is neither null nor an empty array */
    DP_HAS_NULL,   /* a null, or an array that holds one */
    DP_HAS_LEAF,   /* a leaf that is not null */
    DP_HAS_LEAVES, /* more than one of those */
    DP_HAS_OTHER,  /* a leaf that is not null and not of the index's kind */
    DP_HAS_PLAIN,  /* one value at the path, and it is no array and not null */
    DP_HAS_COUNT,
} dp_has;

struct dp_payload_index {
    dp_fields *fields; /* holds `field` */
    const dp_declared_field *field;
    dp_slots *has[DP_HAS_COUNT];
    dp_numbers *numbers;     /* INTEGER, FLOAT, BOOL, DATETIME, GEO */
    dp_words *words;         /* KEYWORD, UUID, TEXT */
    dp_tokenizer *tokenizer; /* TEXT: for adding */
};

/* Keys of numbers: integers, booleans and microseconds as they are; floats so that their order is
 * that of the keys; places as cells of a Z curve. */
int64_t dp_key__of_float(double v);
double dp_key__to_float(int64_t key);

#define DP_GEO_BITS 31u /* of a cell's number in each direction: 1 to 2 cm */
int64_t dp_key__of_place(double lon, double lat);
void dp_key__to_cell(int64_t key, uint32_t *x, uint32_t *y);
uint32_t dp_key__cell_x(double lon);
uint32_t dp_key__cell_y(double lat);
int64_t dp_key__of_cell(uint32_t x, uint32_t y);
double dp_key__cell_lon(double x); /* of a cell's western edge; x + 1: of its eastern */
double dp_key__cell_lat(double y);

static inline bool
dp_payload_index__has_words(dp_field_kind kind)
{
    return kind == DP_FIELD_KEYWORD || kind == DP_FIELD_UUID || kind == DP_FIELD_TEXT;
}
#endif /* DP_PAYLOAD_INDEX_INTERNAL_H */
