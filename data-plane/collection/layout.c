/* How the points of a schema are stored. */
#include "collection/layout.h"

#include <string.h>

static dp_column_type
column_type(const dp_vector_schema *v)
{
    if (v->sparse || v->multi) {
        return DP_COLUMN_BYTES;
    }
    return v->elem == DP_ELEM_F32   ? DP_COLUMN_F32
           : v->elem == DP_ELEM_F16 ? DP_COLUMN_F16
                                    : DP_COLUMN_U8;
}

dp_packing
dp_collection_packing(const dp_schema *schema)
{
    uint32_t level;
    const char *codec = dp_schema_payload_codec(schema, &level);
    const dp_pack_kind kind = codec == NULL                ? DP_PACK_DEFAULT
                              : strcmp(codec, "none") == 0 ? DP_PACK_NONE
                              : strcmp(codec, "lz4") == 0  ? DP_PACK_LZ4
                                                           : DP_PACK_ZSTD;
    return (dp_packing){.kind = kind, .level = (int)level};
}

void
dp_collection_points_config(const dp_schema *schema, ort_tenant_id tenant, ort_collection_id id,
                            dp_column columns[ORT_VECTORS_PER_POINT_MAX], dp_points_config *out)
{
    const uint32_t count = dp_schema_vector_count(schema);
    for (uint32_t i = 0; i < count; i++) {
        const dp_vector_schema *v = dp_schema_peek_vector(schema, i);
        columns[i] = (dp_column){.id = i, .type = column_type(v)};
        columns[i].dim = columns[i].type == DP_COLUMN_BYTES ? 0 : v->size;
    }
    *out = (dp_points_config){.tenant = tenant,
                              .shard = id,
                              .layout = {.columns = columns, .column_count = count},
                              .packing = dp_collection_packing(schema)};
}
