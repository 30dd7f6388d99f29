/* shared/base/limits.h: every bound that outside input meets, named once. */
#ifndef ORT_LIMITS_H
#define ORT_LIMITS_H

/* Wire and body. */
#define ORT_BODY_BYTES_MAX (32u << 20)      /* one REST body; Qdrant's max_request_size_mb */
#define ORT_ADMIN_BODY_BYTES_MAX (1u << 20) /* one admin body */
#define ORT_WIRE_BYTES_MAX (64u << 20)      /* one NNG message: NNG's own default is unlimited */
#define ORT_JSON_DEPTH_MAX 64u              /* nesting of any JSON document from outside */
#define ORT_HEADERS_MAX 64u                 /* civetweb drops what follows the 64th: refuse */
#define ORT_URI_BYTES_MAX 4096u

/* Names and ids. */
#define ORT_NAME_BYTES_MAX 255u            /* tenant, plan, region names */
#define ORT_COLLECTION_NAME_CHARS_MAX 255u /* Qdrant's own bound */
#define ORT_COLLECTION_NAME_BYTES_MAX (4 * ORT_COLLECTION_NAME_CHARS_MAX)
#define ORT_VECTOR_NAME_BYTES_MAX 200u /* Qdrant's own bound */
#define ORT_REQUEST_ID_BYTES_MAX 64u

/* Vectors and queries. */
#define ORT_DIM_MAX 65536u        /* components of one dense vector; Qdrant refuses 65537 */
#define ORT_SPARSE_NNZ_MAX 65536u /* entries of one sparse vector */
#define ORT_VECTORS_PER_POINT_MAX 256u
#define ORT_BATCH_POINTS_MAX 65536u /* points in one upsert */
#define ORT_BATCH_QUERIES_MAX 1024u /* searches in one batch call */
#define ORT_TOP_K_MAX 65536u  /* limit + offset of a search: a larger one is cut, not allocated */
#define ORT_SCROLL_MAX 65536u /* points of one scroll page: likewise */
#define ORT_FILTER_CONDITIONS_MAX 4096u
#define ORT_FILTER_CORNERS_MAX 16384u /* of all polygons in a filter */
#define ORT_FILTER_BYTES_MAX                                            \
    (8u << 20) /* of its text, which is kept and parsed beside the body \
                */
#define ORT_PREFETCH_DEPTH_MAX 64u

/* Rates and waits. */
#define ORT_RETRY_AFTER_S_MAX 9u /* JS clients read only the first digit */

#endif /* ORT_LIMITS_H */
