/* data-plane/filter/field.h: a payload field that an index was declared for. */
#ifndef DP_FIELD_H
#define DP_FIELD_H
#include "base/json_write.h"
#include "filter/path.h"
#include "filter/text.h"

/* Numbers are in index files: append, never change. */
typedef enum {
    DP_FIELD_KEYWORD = 1,
    DP_FIELD_INTEGER = 2,
    DP_FIELD_FLOAT = 3,
    DP_FIELD_BOOL = 4,
    DP_FIELD_GEO = 5,
    DP_FIELD_DATETIME = 6,
    DP_FIELD_UUID = 7,
    DP_FIELD_TEXT = 8,
} dp_field_kind;

/* One declaration. Immutable once read. */
typedef struct {
    char *name; /* as declared: the text of the path */
    size_t name_len;
    dp_path *path;
    dp_field_kind kind;
    bool lookup, range; /* INTEGER: which of the two it serves; both by default */
    bool prefix;        /* KEYWORD: may serve prefix matches under strict mode */
    bool is_tenant;     /* KEYWORD, UUID: points of one value are searched together */
    bool links;         /* enable_hnsw: graph links may be kept by its values; true by default */
    dp_text_options text;
    char *definition; /* compact JSON of {data_type, params}: what an index file belongs to */
    size_t definition_len;
} dp_declared_field;

/* The declarations of a collection; immutable and counted. NULL stands for none. */
typedef struct dp_fields dp_fields;

/* What a request may send as field_schema: a kind's name, or an object with `type`.
 *
 * ORT_EFORMAT    another kind, a parameter of a wrong type: Qdrant's "did not match any variant"
 * ORT_EVALIDATE  an integer index with neither lookup nor range; see dp_text_options_parse()
 * ORT_ENOMEM */
ORT_NODISCARD ort_err dp_field_check(ort_json spec, ort_diag *diag);

const char *dp_field_kind_name(dp_field_kind kind);

/* From the schema's {"field": {"data_type": "keyword", "params": {..}}}. What dp_field_check()
 * would not let through today is left out. ORT_ENOMEM: *out is NULL; so it is without any field. */
ORT_NODISCARD ort_err dp_fields_parse(dp_fields **out, ort_json schema, ort_diag *diag);
dp_fields *dp_fields_ref(dp_fields *fields); /* NULL is fine, as below */
void dp_fields_unref(dp_fields *fields);

size_t dp_fields_count(const dp_fields *fields);
const dp_declared_field *dp_fields_peek(const dp_fields *fields, size_t i);

/* The declaration whose path has the same steps, or NULL. */
const dp_declared_field *dp_fields_find(const dp_fields *fields, const dp_path *path);

/* Whether the steps are the same, however they were written. */
bool dp_path_is_same(const dp_path *a, const dp_path *b);
#endif /* DP_FIELD_H */
