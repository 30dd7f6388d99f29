/* tests/support/data_openapi.h: docs/reference/data-api.yaml as JSON text, made while building. */
#ifndef ORT_TEST_DATA_OPENAPI_H
#define ORT_TEST_DATA_OPENAPI_H
#include <stddef.h>

extern const char test_data_openapi_json[]; /* NUL-ended */
extern const size_t test_data_openapi_json_len;
#endif /* ORT_TEST_DATA_OPENAPI_H */
