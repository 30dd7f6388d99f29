/* control-plane/api/openapi.h: docs/reference/admin-api.yaml as JSON text, made while building. */
#ifndef CP_OPENAPI_H
#define CP_OPENAPI_H
#include <stddef.h>

extern const char cp_openapi_json[]; /* NUL-ended */
extern const size_t cp_openapi_json_len;
#endif /* CP_OPENAPI_H */
