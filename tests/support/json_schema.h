/* tests/support/json_schema.h: does a JSON value fit a schema of an OpenAPI 3.1 document?
 *
 * The part of JSON Schema 2020-12 that docs/reference/admin-api.yaml uses: type (one or a list),
 * enum, const, required, properties, additionalProperties, items, minItems, maxItems, minLength,
 * maxLength, pattern, minimum, maximum, oneOf, anyOf, allOf, $ref into the document. Any keyword
 * that is none of these and no annotation is an error, so that a rule is never skipped in silence.
 */
#ifndef ORT_TEST_JSON_SCHEMA_H
#define ORT_TEST_JSON_SCHEMA_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* false: why[] says where and what, as "/items/0/name: is no string". */
bool json_schema_fits(const json_t *document, const json_t *schema, const json_t *value, char *why,
                      size_t why_bytes);

/* Whether an answer is one that the document allows for this method ("GET") and path (as sent,
 * without query): the operation exists, lists the status (or a default), and the body fits the
 * schema of its content type. body may be NULL (none). */
bool openapi_answer_fits(const json_t *document, const char *method, const char *path, int status,
                         const char *content_type, const char *body, size_t body_len, char *why,
                         size_t why_bytes);
#endif /* ORT_TEST_JSON_SCHEMA_H */
