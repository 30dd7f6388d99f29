/* A schema's text and what it means: decoding, looking up, writing `config`. */
#include "collection/schema.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collection/schema_internal.h"
#include "index/hnsw.h"

struct dp_schema {
    atomic_uint refs;
    ort_buf text;
    ort_json_doc *doc;
    dp_vector_schema *vectors;
    uint32_t count;
    dp_strict strict;
    dp_fields *fields; /* payload_schema, read */
};

static const struct {
    const char *name;
    dp_metric metric;
} metric_names[] = {{"Cosine", DP_METRIC_COSINE},
                    {"Dot", DP_METRIC_DOT},
                    {"Euclid", DP_METRIC_EUCLID},
                    {"Manhattan", DP_METRIC_MANHATTAN}};

static const struct {
    const char *name;
    dp_elem elem;
} elem_names[] = {{"float32", DP_ELEM_F32},
                  {"float16", DP_ELEM_F16},
                  {"uint8", DP_ELEM_U8},
                  {"turbo4", DP_ELEM_F16}}; /* with codes, see read_turbo4() */

const char *
dp_metric_name(dp_metric metric)
{
    for (size_t i = 0; i < sizeof metric_names / sizeof *metric_names; i++) {
        if (metric_names[i].metric == metric) {
            return metric_names[i].name;
        }
    }
    return "";
}

dp_schema *
dp_schema_ref(dp_schema *schema)
{
    atomic_fetch_add_explicit(&schema->refs, 1, memory_order_relaxed);
    return schema;
}

void
dp_schema_unref(dp_schema *schema)
{
    if (schema == NULL || atomic_fetch_sub_explicit(&schema->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    ort_json_free(schema->doc);
    ort_buf_fini(&schema->text);
    for (uint32_t i = 0; i < schema->count; i++) {
        free((char *)(uintptr_t)schema->vectors[i].name); /* ours; const only to readers */
    }
    free(schema->vectors);
    dp_fields_unref(schema->fields);
    free(schema);
}

dp_fields *
dp_schema_fields(const dp_schema *schema)
{
    return schema->fields;
}

const dp_strict *
dp_schema_peek_strict(const dp_schema *schema)
{
    return schema->strict.enabled ? &schema->strict : NULL;
}

ort_json
dp_schema_peek_strict_config(const dp_schema *schema)
{
    return ort_json_get(ort_json_root(schema->doc), "strict_mode_config");
}

uint32_t
dp_schema_vector_count(const dp_schema *schema)
{
    return schema->count;
}

const dp_vector_schema *
dp_schema_peek_vector(const dp_schema *schema, uint32_t i)
{
    return &schema->vectors[i];
}

int
dp_schema_find_vector(const dp_schema *schema, const char *name, size_t len)
{
    for (uint32_t i = 0; i < schema->count; i++) {
        if (!schema->vectors[i].dropped && strlen(schema->vectors[i].name) == len &&
            memcmp(schema->vectors[i].name, name, len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

ort_json
dp_schema__view(const dp_schema *schema)
{
    return ort_json_root(schema->doc);
}

const char *
dp_schema_payload_codec(const dp_schema *schema, uint32_t *level_out)
{
    static const char *const codecs[] = {"none", "lz4", "zstd"};
    const ort_json v =
        ort_json_get(ort_json_get(ort_json_root(schema->doc), "params"), "payload_compression");
    uint64_t level;
    *level_out = ort_json_u64(ort_json_get(v, "level"), &level) == ORT_OK ? (uint32_t)level : 0;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        if (ort_json_str_is(ort_json_get(v, "codec"), codecs[i])) {
            return codecs[i];
        }
    }
    return NULL;
}

void
dp_schema_encode(const dp_schema *schema, ort_jw *w)
{
    ort_jw_raw(w, schema->text.data, schema->text.len);
}

/* A whole number of a settings object: the vector's own, else the collection's, else the default.
 */
static uint32_t
setting(ort_json own, ort_json common, const char *name, uint32_t otherwise)
{
    uint64_t v;
    if (ort_json_u64(ort_json_get(own, name), &v) != ORT_OK &&
        ort_json_u64(ort_json_get(common, name), &v) != ORT_OK) {
        return otherwise;
    }
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

/* Where something lies: `memory` (cold, cached, pinned) over the older `on_disk`, each the vector's
 * own over the collection's. */
static bool
lies_on_disk(ort_json own, ort_json common, bool otherwise)
{
    ort_json memory = ort_json_get(own, "memory"), said = ort_json_get(own, "on_disk");
    bool on_disk = otherwise;
    if (!ort_json_given(memory) && !ort_json_given(said)) {
        memory = ort_json_get(common, "memory");
        said = ort_json_get(common, "on_disk");
    }
    if (ort_json_given(memory)) {
        return ort_json_str_is(memory, "cold");
    }
    return ort_json_bool(said, &on_disk) == ORT_OK ? on_disk : otherwise;
}

static uint32_t
links_of(uint32_t m)
{
    return m > DP_HNSW_M_MAX ? DP_HNSW_M_MAX : m == 1 ? 2 : m;
}

static void
read_hnsw(dp_hnsw_settings *out, ort_json own, ort_json root)
{
    const ort_json common = ort_json_get(root, "hnsw_config");
    const ort_json optimizers = ort_json_get(root, "optimizers_config");
    out->m = links_of(setting(own, common, "m", DP_HNSW_M_DEFAULT));
    /* Qdrant links by every indexed field, as densely as the graph, unless payload_m says
     * otherwise. Here a filter needs no such links to be quick, and they cost 128 bytes a point and
     * field: is_tenant asks for them, and so does payload_m. */
    out->value_m_all = setting(own, common, "payload_m", 0) > 0;
    out->value_m = links_of(setting(own, common, "payload_m", out->m));
    out->ef_construct = setting(own, common, "ef_construct", DP_HNSW_EF_CONSTRUCT_DEFAULT);
    out->full_scan_threshold_kb =
        setting(own, common, "full_scan_threshold", DP_FULL_SCAN_THRESHOLD_KB);
    out->indexing_threshold_kb =
        setting(optimizers, optimizers, "indexing_threshold", DP_INDEXING_THRESHOLD_KB_DEFAULT);
    out->on_disk = lies_on_disk(own, common, false);
}

static bool
read_dense(dp_vector_schema *v, ort_json params)
{
    uint64_t size;
    const ort_json datatype = ort_json_get(params, "datatype");
    bool metric = false, elem = !ort_json_given(datatype);
    if (ort_json_u64(ort_json_get(params, "size"), &size) != ORT_OK || size == 0 ||
        size > ORT_DIM_MAX) {
        return false;
    }
    v->size = (uint32_t)size;
    v->on_disk = lies_on_disk(params, params, ort_json_str_is(datatype, "turbo4"));
    v->multi = ort_json_given(ort_json_get(params, "multivector_config"));
    for (size_t i = 0; i < sizeof metric_names / sizeof *metric_names; i++) {
        if (ort_json_str_is(ort_json_get(params, "distance"), metric_names[i].name)) {
            v->metric = metric_names[i].metric;
            metric = true;
        }
    }
    for (size_t i = 0; i < sizeof elem_names / sizeof *elem_names; i++) {
        if (ort_json_str_is(datatype, elem_names[i].name)) {
            v->elem = elem_names[i].elem;
            elem = true;
        }
    }
    return metric && elem;
}

/* The number behind a name in a table; `otherwise` where it is not given. What was let in by check_
 * quantization() is in the table. */
typedef struct {
    const char *name;
    uint32_t value;
} named;

static uint32_t
number_of(ort_json v, const named *table, size_t count, uint32_t otherwise)
{
    for (size_t i = 0; i < count; i++) {
        if (ort_json_str_is(v, table[i].name)) {
            return table[i].value;
        }
    }
    return otherwise;
}
#define NUMBER_OF(v, table, otherwise) \
    number_of(v, table, sizeof(table) / sizeof *(table), otherwise)

/* quantization_config in words of the index. Compressions count from floats of four bytes; what
 * Qdrant calls turbo are our rotated codes, and one and a half bits are two. */
static void
read_quantization(dp_vector_schema *v, ort_json own, ort_json common)
{
    static const named ratios[] = {{"x4", 1}, {"x8", 2}, {"x16", 4}, {"x32", 8}, {"x64", 16}};
    static const named encodings[] = {{"one_bit", 1}, {"two_bits", 2}, {"one_and_half_bits", 2}};
    static const named queries[] = {{"binary", 1}, {"scalar4bits", 4}, {"scalar8bits", 8}};
    static const named bits[] = {{"bits1", 1}, {"bits1_5", 2}, {"bits2", 2}, {"bits4", 4}};
    const ort_json q = ort_json_given(own) ? own : common;
    const ort_json scalar = ort_json_get(q, "scalar"), product = ort_json_get(q, "product");
    const ort_json binary = ort_json_get(q, "binary"), turbo = ort_json_get(q, "turbo");
    v->code = DP_CODE_AUTO;
    v->coding = (dp_code_options){0};
    if (v->metric == DP_METRIC_MANHATTAN) {
        return; /* rows are compared */
    }
    if (ort_json_given(scalar)) {
        double quantile;
        v->code = DP_CODE_INT8;
        if (ort_json_f64(ort_json_get(scalar, "quantile"), &quantile) == ORT_OK) {
            v->coding.quantile = (float)quantile;
        }
    } else if (ort_json_given(product)) {
        v->code = DP_CODE_PRODUCT;
        v->coding.ratio = NUMBER_OF(ort_json_get(product, "compression"), ratios, 4);
    } else if (ort_json_given(binary)) {
        v->code = DP_CODE_BINARY;
        v->coding.bits = NUMBER_OF(ort_json_get(binary, "encoding"), encodings, 1);
        v->coding.query_bits = NUMBER_OF(ort_json_get(binary, "query_encoding"), queries, 8);
    } else if (ort_json_given(turbo)) {
        v->code = DP_CODE_ROTATED;
        v->coding.bits = NUMBER_OF(ort_json_get(turbo, "bits"), bits, 4);
    }
}

/* Four bits a component: what is held in memory are rotated codes of that width; what vectors are
 * read back from, and nearest ones compared by, are halves on disk (ADR 0131). */
static void
read_turbo4(dp_vector_schema *v, ort_json params)
{
    if (v->code == DP_CODE_AUTO && v->metric != DP_METRIC_MANHATTAN &&
        ort_json_str_is(ort_json_get(params, "datatype"), "turbo4")) {
        v->code = DP_CODE_ROTATED;
        v->coding.bits = 4;
    }
}

static ort_err
read_vector(dp_schema *schema, ort_json v, ort_diag *diag)
{
    dp_vector_schema *out = &schema->vectors[schema->count];
    const ort_json root = ort_json_root(schema->doc), params = ort_json_get(v, "params");
    size_t len;
    const char *name = ort_json_str(ort_json_get(v, "name"), &len);
    if (name == NULL || len > ORT_VECTOR_NAME_BYTES_MAX || memchr(name, '\0', len) != NULL) {
        return ort_fail(diag, ORT_ECORRUPT, "schema: a vector without a name");
    }
    if (ort_json_given(ort_json_get(v, "sparse"))) {
        out->sparse = true;
        out->idf = ort_json_str_is(ort_json_get(params, "modifier"), "idf");
    } else if (!read_dense(out, params)) {
        return ort_fail(diag, ORT_ECORRUPT, "schema: vector '%.*s' has no size or distance",
                        (int)len, name);
    }
    out->dropped = ort_json_given(ort_json_get(v, "dropped"));
    read_hnsw(&out->hnsw, ort_json_get(params, "hnsw_config"), root);
    read_quantization(out, ort_json_get(params, "quantization_config"),
                      ort_json_get(root, "quantization_config"));
    read_turbo4(out, params);
    out->name = strndup(name, len);
    if (out->name == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    schema->count++;
    return ORT_OK;
}

static ort_err
read_text(dp_schema *schema, ort_diag *diag)
{
    uint64_t version;
    ort_err err = ort_json_parse(&schema->doc, schema->text.data, schema->text.len,
                                 (ort_json_limits){0}, diag);
    if (err != ORT_OK) {
        return err == ORT_ENOMEM ? err : ORT_ECORRUPT;
    }
    const ort_json root = ort_json_root(schema->doc), vectors = ort_json_get(root, "vectors");
    if (ort_json_u64(ort_json_get(root, "version"), &version) != ORT_OK ||
        ort_json_type_of(vectors) != ORT_JSON_ARRAY ||
        ort_json_count(vectors) > ORT_VECTORS_PER_POINT_MAX) {
        return ort_fail(diag, ORT_ECORRUPT, "schema: not one that was written here");
    }
    if (version > DP_SCHEMA_VERSION) {
        return ort_fail(diag, ORT_EVERSION, "schema: version %llu, this program knows %u",
                        (unsigned long long)version, DP_SCHEMA_VERSION);
    }
    schema->vectors = calloc((size_t)ort_json_count(vectors) + 1, sizeof *schema->vectors);
    if (schema->vectors == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    for (ort_json_iter it = ort_json_each(vectors); err == ORT_OK && ort_json_step(&it);) {
        err = read_vector(schema, it.value, diag);
    }
    /* Checked when it was set; of what an older program let in, what cannot be read limits nothing.
     */
    if (dp_strict_read(&schema->strict, ort_json_get(root, "strict_mode_config"), NULL) != ORT_OK) {
        schema->strict.enabled = false;
    }
    return err;
}

ort_err
dp_schema__from_text(dp_schema **out, ort_buf *buf, ort_diag *diag)
{
    *out = NULL;
    dp_schema *schema = ort_buf_check(buf) == ORT_OK ? calloc(1, sizeof *schema) : NULL;
    if (schema == NULL) {
        ort_buf_fini(buf);
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    schema->text = *buf;
    *buf = (ort_buf){0};
    atomic_init(&schema->refs, 1);
    ort_err err = read_text(schema, diag);
    if (err == ORT_OK) {
        err = dp_fields_parse(&schema->fields, dp_schema_peek_fields(schema), diag);
    }
    if (err != ORT_OK) {
        dp_schema_unref(schema);
        return err;
    }
    *out = schema;
    return ORT_OK;
}

ort_err
dp_schema_decode(dp_schema **out, ort_json v, ort_diag *diag)
{
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        *out = NULL;
        return ort_fail(diag, ORT_ECORRUPT, "schema: no object");
    }
    ort_jw_value(&w, v);
    return dp_schema__from_text(out, &buf, diag);
}

/* --- config -------------------------------------------------------------------------------------
 */

/* A member with what was set, or what holds when nothing was. */
typedef struct {
    const char *name;
    const char *otherwise; /* JSON; NULL: left out unless set */
} default_member;

static const default_member hnsw_members[] = {{"m", "16"},
                                              {"ef_construct", "100"},
                                              {"full_scan_threshold", "10000"},
                                              {"max_indexing_threads", "0"},
                                              {"on_disk", "false"},
                                              {"payload_m", NULL},
                                              {"memory", NULL},
                                              {"inline_storage", NULL},
                                              {NULL, NULL}};

static const default_member optimizer_members[] = {
    {"deleted_threshold", "0.2"},    {"vacuum_min_vector_number", "1000"},
    {"default_segment_number", "0"}, {"max_segment_size", "null"},
    {"memmap_threshold", "null"},    {"indexing_threshold", "4000"},
    {"flush_interval_sec", "5"},     {"max_optimization_threads", "null"},
    {"prevent_unoptimized", NULL},   {NULL, NULL}};

static const default_member wal_members[] = {{"wal_capacity_mb", "32"},
                                             {"wal_segments_ahead", "0"},
                                             {"wal_retain_closed", "1"},
                                             {NULL, NULL}};

static const default_member param_members[] = {{"shard_number", "1"},
                                               {"sharding_method", NULL},
                                               {"replication_factor", "1"},
                                               {"write_consistency_factor", "1"},
                                               {"read_fan_out_factor", NULL},
                                               {"on_disk_payload", "true"},
                                               {"payload", NULL},
                                               {"payload_compression", NULL},
                                               {NULL, NULL}};

static void
write_members(ort_jw *w, ort_json set, const default_member *members)
{
    for (const default_member *m = members; m->name != NULL; m++) {
        const ort_json v = ort_json_get(set, m->name);
        if (ort_json_given(v)) {
            ort_jw_key(w, m->name);
            ort_jw_value(w, v);
        } else if (m->otherwise != NULL) {
            ort_jw_key(w, m->name);
            ort_jw_raw(w, m->otherwise, strlen(m->otherwise));
        }
    }
}

static void
write_object(ort_jw *w, const char *name, ort_json set, const default_member *members)
{
    ort_jw_key(w, name);
    ort_jw_object(w);
    write_members(w, set, members);
    ort_jw_object_end(w);
}

static void
write_vectors(ort_jw *w, ort_json root, bool sparse)
{
    const ort_json vectors = ort_json_get(root, "vectors");
    const bool single = !sparse && ort_json_given(ort_json_get(root, "single"));
    uint32_t count = 0;
    for (ort_json_iter it = ort_json_each(vectors); ort_json_step(&it);) {
        if (ort_json_given(ort_json_get(it.value, "sparse")) != sparse ||
            ort_json_given(ort_json_get(it.value, "dropped"))) {
            continue;
        }
        if (count++ == 0) {
            ort_jw_key(w, sparse ? "sparse_vectors" : "vectors");
            if (!single) {
                ort_jw_object(w);
            }
        }
        if (!single) {
            size_t len;
            const char *name = ort_json_str(ort_json_get(it.value, "name"), &len);
            ort_jw_key_n(w, name != NULL ? name : "", name != NULL ? len : 0);
        }
        ort_jw_value(w, ort_json_get(it.value, "params"));
    }
    if (count > 0 && !single) {
        ort_jw_object_end(w);
    } else if (count == 0 && !sparse) {
        ort_jw_key(w, "vectors");
        ort_jw_raw(w, "{}", 2);
    }
}

static void
write_if_set(ort_jw *w, ort_json root, const char *name)
{
    const ort_json v = ort_json_get(root, name);
    if (ort_json_given(v)) {
        ort_jw_key(w, name);
        ort_jw_value(w, v);
    }
}

void
dp_schema_get_links(const dp_schema *schema, uint32_t i, uint32_t *m, uint32_t *payload_m)
{
    const ort_json root = dp_schema__view(schema), common = ort_json_get(root, "hnsw_config");
    ort_json own = {0};
    uint32_t at = 0;
    for (ort_json_iter it = ort_json_each(ort_json_get(root, "vectors")); ort_json_step(&it);) {
        if (at++ == i) {
            own = ort_json_get(ort_json_get(it.value, "params"), "hnsw_config");
        }
    }
    *m = setting(own, common, "m", DP_HNSW_M_DEFAULT);
    *payload_m = setting(own, common, "payload_m", *m);
}

/* `inline_storage` puts vectors beside links, as codes: it needs codes, and one row a point. */
static const char *
wrong_inline_storage(ort_json root, ort_json params)
{
    const ort_json own = ort_json_get(ort_json_get(params, "hnsw_config"), "inline_storage");
    const ort_json common = ort_json_get(ort_json_get(root, "hnsw_config"), "inline_storage");
    bool on = false;
    if (ort_json_bool(ort_json_given(own) ? own : common, &on) != ORT_OK || !on) {
        return NULL;
    }
    if (ort_json_given(ort_json_get(params, "multivector_config"))) {
        return "is not compatible with multivectors";
    }
    return ort_json_given(ort_json_get(params, "quantization_config")) ||
                   ort_json_given(ort_json_get(root, "quantization_config"))
               ? NULL
               : "requires quantization to be enabled";
}

void
dp_schema_write_warnings(const dp_schema *schema, ort_jw *w)
{
    const ort_json root = dp_schema__view(schema);
    const ort_json vectors = ort_json_get(root, "vectors");
    uint32_t count = 0;
    for (ort_json_iter it = ort_json_each(vectors); ort_json_step(&it);) {
        const char *what = wrong_inline_storage(root, ort_json_get(it.value, "params"));
        size_t len;
        const char *name = ort_json_str(ort_json_get(it.value, "name"), &len);
        if (what == NULL || name == NULL || ort_json_given(ort_json_get(it.value, "sparse")) ||
            ort_json_given(ort_json_get(it.value, "dropped"))) {
            continue;
        }
        char text[ORT_VECTOR_NAME_BYTES_MAX + 200];
        snprintf(
            text, sizeof text,
            "The `hnsw_config.inline_storage` option for vector '%.*s' %s. This option will be "
            "ignored.",
            (int)len, name, what);
        if (count++ == 0) {
            ort_jw_key(w, "warnings");
            ort_jw_array(w);
        }
        ort_jw_object(w);
        ort_jw_key(w, "message");
        ort_jw_str(w, text);
        ort_jw_object_end(w);
    }
    if (count > 0) {
        ort_jw_array_end(w);
    }
}

void
dp_schema_write_config(const dp_schema *schema, ort_jw *w)
{
    const ort_json root = dp_schema__view(schema);
    const ort_json quantization = ort_json_get(root, "quantization_config");
    ort_jw_object(w);
    ort_jw_key(w, "params");
    ort_jw_object(w);
    write_vectors(w, root, false);
    write_vectors(w, root, true);
    write_members(w, ort_json_get(root, "params"), param_members);
    ort_jw_object_end(w);
    write_object(w, "hnsw_config", ort_json_get(root, "hnsw_config"), hnsw_members);
    write_object(w, "optimizer_config", ort_json_get(root, "optimizers_config"), optimizer_members);
    write_object(w, "wal_config", ort_json_get(root, "wal_config"), wal_members);
    ort_jw_key(w, "quantization_config");
    if (ort_json_given(quantization)) {
        ort_jw_value(w, quantization);
    } else {
        ort_jw_null(w);
    }
    write_if_set(w, root, "strict_mode_config");
    write_if_set(w, root, "metadata");
    ort_jw_object_end(w);
}
