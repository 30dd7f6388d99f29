/* Reading a schema from requests: PUT makes one, PATCH merges into one. Both write the text of a
 * new schema; nothing else differs. Members that Qdrant does not know are dropped, nulls count as
 * absent. */
#include <stdio.h>
#include <string.h>

#include "collection/schema_internal.h"

typedef enum {
    V_UINT,
    V_BOOL,
    V_SHARE,
    V_THREADS,
    V_PACKING,
    V_MEMORY,      /* where something lives: cold, cached, pinned */
    V_PAYLOAD,     /* {"memory": cold | cached} */
    V_SHARDING,    /* auto, custom */
    V_SPARSE_TYPE, /* how the values of sparse vectors are stored */
    V_ANY
} value_kind;

/* A member of a settings object. Bounds of 0 are none; a value below `serde_min` does not
 * deserialize at Qdrant (400), one outside min..max breaks a bound (422). */
typedef struct {
    const char *name;
    value_kind kind;
    uint64_t min, max, serde_min;
} member;

static const member hnsw_members[] = {{"m", V_UINT, 0, 0, 0},
                                      {"ef_construct", V_UINT, 4, 0, 0},
                                      {"full_scan_threshold", V_UINT, 0, 0, 0},
                                      {"max_indexing_threads", V_UINT, 0, 0, 0},
                                      {"on_disk", V_BOOL, 0, 0, 0},
                                      {"payload_m", V_UINT, 0, 0, 0},
                                      {"memory", V_MEMORY, 0, 0, 0},
                                      {"inline_storage", V_BOOL, 0, 0, 0},
                                      {NULL, V_ANY, 0, 0, 0}};

static const member optimizer_members[] = {
    {"deleted_threshold", V_SHARE, 0, 0, 0},     {"vacuum_min_vector_number", V_UINT, 100, 0, 0},
    {"default_segment_number", V_UINT, 0, 0, 0}, {"max_segment_size", V_UINT, 1, 0, 0},
    {"memmap_threshold", V_UINT, 0, 0, 0},       {"indexing_threshold", V_UINT, 0, 0, 0},
    {"flush_interval_sec", V_UINT, 0, 0, 0},     {"max_optimization_threads", V_THREADS, 0, 0, 0},
    {"prevent_unoptimized", V_BOOL, 0, 0, 0},    {NULL, V_ANY, 0, 0, 0}};

static const member wal_members[] = {{"wal_capacity_mb", V_UINT, 1, 0, 0},
                                     {"wal_segments_ahead", V_UINT, 0, 0, 0},
                                     {"wal_retain_closed", V_UINT, 1, 0, 0},
                                     {NULL, V_ANY, 0, 0, 0}};

static const member param_members[] = {{"shard_number", V_UINT, 0, 0, 1},
                                       {"sharding_method", V_SHARDING, 0, 0, 0},
                                       {"replication_factor", V_UINT, 0, 0, 1},
                                       {"write_consistency_factor", V_UINT, 0, 0, 1},
                                       {"read_fan_out_factor", V_UINT, 0, 0, 0},
                                       {"on_disk_payload", V_BOOL, 0, 0, 0},
                                       {"payload", V_PAYLOAD, 0, 0, 0},
                                       {"payload_compression", V_PACKING, 0, 0, 0}, /* ours */
                                       {NULL, V_ANY, 0, 0, 0}};

static const member sparse_index_members[] = {{"full_scan_threshold", V_UINT, 0, 0, 0},
                                              {"on_disk", V_BOOL, 0, 0, 0},
                                              {"datatype", V_SPARSE_TYPE, 0, 0, 0},
                                              {"memory", V_MEMORY, 0, 0, 0},
                                              {NULL, V_ANY, 0, 0, 0}};

/* What is being written, and from where: `where` is the place in the request. */
typedef struct {
    ort_jw w;
    ort_diag *diag;
    char where[400];
} writer;

static ort_err
wrong_type(writer *s, const char *name, const char *expected)
{
    return ort_fail(s->diag, ORT_EFORMAT, "%s%s%s: expected %s", s->where,
                    s->where[0] != '\0' ? "." : "", name, expected);
}

static ort_err
out_of_bounds(writer *s, const member *m, uint64_t v)
{
    const char *dot = s->where[0] != '\0' ? "." : "";
    const unsigned long long value = v, min = m->min, max = m->max;
    if (m->max == 0) {
        return ort_fail(s->diag, ORT_EVALIDATE,
                        "%s%s%s: value %llu invalid, must be %llu or larger", s->where, dot,
                        m->name, value, min);
    }
    return ort_fail(s->diag, ORT_EVALIDATE, "%s%s%s: value %llu invalid, must be from %llu to %llu",
                    s->where, dot, m->name, value, min, max);
}

static ort_err
check_uint(writer *s, const member *m, ort_json v)
{
    uint64_t n;
    if (ort_json_u64(v, &n) != ORT_OK) {
        return wrong_type(s, m->name, "an unsigned integer");
    }
    if (n < m->serde_min) {
        return ort_fail(s->diag, ORT_EFORMAT,
                        "%s%s%s: invalid value: integer `%llu`, expected a nonzero integer",
                        s->where, s->where[0] != '\0' ? "." : "", m->name, (unsigned long long)n);
    }
    return n < m->min || (m->max != 0 && n > m->max) ? out_of_bounds(s, m, n) : ORT_OK;
}

/* {"codec": "none" | "lz4" | "zstd", "level": 1 .. 22}; lz4 has levels up to 12. */
static ort_err
check_packing(writer *s, const member *m, ort_json v)
{
    const ort_json codec = ort_json_get(v, "codec"), level = ort_json_get(v, "level");
    const bool lz4 = ort_json_str_is(codec, "lz4");
    uint64_t n = 1;
    if (ort_json_type_of(v) != ORT_JSON_OBJECT ||
        !(lz4 || ort_json_str_is(codec, "none") || ort_json_str_is(codec, "zstd"))) {
        return wrong_type(s, m->name, "a codec `none`, `lz4` or `zstd`, and a level");
    }
    if (ort_json_count(v) != (ort_json_given(level) ? 2u : 1u)) {
        return wrong_type(s, m->name, "no members but `codec` and `level`");
    }
    if (ort_json_given(level) && ort_json_u64(level, &n) != ORT_OK) {
        return wrong_type(s, m->name, "a level that is an unsigned integer");
    }
    const member bounds = {.name = "payload_compression.level", .min = 1, .max = lz4 ? 12 : 22};
    return n < bounds.min || n > bounds.max ? out_of_bounds(s, &bounds, n) : ORT_OK;
}

static const char *const memories[] = {"cold", "cached", "pinned", NULL};
static const char *const shardings[] = {"auto", "custom", NULL};
static const char *const sparse_types[] = {"float32", "float16", "uint8", NULL};

static ort_err
check_choice(writer *s, const char *name, ort_json v, const char *const *choices)
{
    for (const char *const *choice = choices; *choice != NULL; choice++) {
        if (ort_json_str_is(v, *choice)) {
            return ORT_OK;
        }
    }
    size_t len;
    const char *raw = ort_json_raw(v, &len);
    return ort_fail(s->diag, ORT_EFORMAT, "%s%s%s: unknown variant %.*s", s->where,
                    s->where[0] != '\0' ? "." : "", name, len > 60 ? 60 : (int)len, raw);
}

/* Payloads may be cold or cached, as on_disk_payload says it; they cannot be pinned. */
static ort_err
check_payload(writer *s, const member *m, ort_json v)
{
    const ort_json memory = ort_json_get(v, "memory");
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return wrong_type(s, m->name, "an object");
    }
    if (ort_json_str_is(memory, "pinned")) {
        return ort_fail(s->diag, ORT_EVALIDATE,
                        "%s%spayload.memory: `pinned` is not supported for payloads", s->where,
                        s->where[0] != '\0' ? "." : "");
    }
    return ort_json_given(memory) ? check_choice(s, "payload.memory", memory, memories) : ORT_OK;
}

static ort_err
check_member(writer *s, const member *m, ort_json v)
{
    double share;
    bool flag;
    switch (m->kind) {
    case V_UINT:
        return check_uint(s, m, v);
    case V_THREADS:
        return ort_json_str_is(v, "auto") ? ORT_OK : check_uint(s, m, v);
    case V_BOOL:
        return ort_json_bool(v, &flag) == ORT_OK ? ORT_OK : wrong_type(s, m->name, "a boolean");
    case V_PACKING:
        return check_packing(s, m, v);
    case V_MEMORY:
        return check_choice(s, m->name, v, memories);
    case V_PAYLOAD:
        return check_payload(s, m, v);
    case V_SHARDING:
        return check_choice(s, m->name, v, shardings);
    case V_SPARSE_TYPE:
        return check_choice(s, m->name, v, sparse_types);
    case V_SHARE:
        if (ort_json_f64(v, &share) != ORT_OK) {
            return wrong_type(s, m->name, "a number");
        }
        return share >= 0 && share <= 1
                   ? ORT_OK
                   : ort_fail(s->diag, ORT_EVALIDATE,
                              "%s.%s: value %g invalid, must be from 0.0 to 1.0", s->where, m->name,
                              share);
    default:
        return ORT_OK;
    }
}

/* Writes `name`: {members of given over those of old}, or nothing when neither has any. Only
 * members of the table, only those that were set. */
static ort_err
merge_object(writer *s, const char *name, const member *members, ort_json given, ort_json old)
{
    const size_t before = strlen(s->where);
    ort_err err = ORT_OK;
    if (!ort_json_given(given) && !ort_json_given(old)) {
        return ORT_OK;
    }
    if (ort_json_given(given) && ort_json_type_of(given) != ORT_JSON_OBJECT) {
        return wrong_type(s, name, "an object");
    }
    snprintf(s->where + before, sizeof s->where - before, "%s%s", before > 0 ? "." : "", name);
    ort_jw_key(&s->w, name);
    ort_jw_object(&s->w);
    for (const member *m = members; err == ORT_OK && m->name != NULL; m++) {
        const ort_json now = ort_json_get(given, m->name), was = ort_json_get(old, m->name);
        if (ort_json_given(now)) {
            err = check_member(s, m, now);
        }
        if (ort_json_given(now) || ort_json_given(was)) {
            ort_jw_key(&s->w, m->name);
            ort_jw_value(&s->w, ort_json_given(now) ? now : was);
        }
    }
    ort_jw_object_end(&s->w);
    s->where[before] = '\0';
    return err;
}

/* Merges whole members, whatever they are called; null removes when asked to. */
static ort_err
merge_free_object(writer *s, const char *name, ort_json given, ort_json old, bool null_removes)
{
    if (!ort_json_given(given) && !ort_json_given(old)) {
        return ORT_OK;
    }
    if (ort_json_given(given) && ort_json_type_of(given) != ORT_JSON_OBJECT) {
        return wrong_type(s, name, "an object");
    }
    ort_jw_key(&s->w, name);
    ort_jw_object(&s->w);
    for (ort_json_iter it = ort_json_each(old); ort_json_step(&it);) {
        size_t len;
        bool replaced = false;
        const char *key = ort_json_str(it.key, &len);
        for (ort_json_iter at = ort_json_each(given); ort_json_step(&at);) {
            size_t n;
            const char *k = ort_json_str(at.key, &n);
            replaced =
                replaced || (k != NULL && key != NULL && n == len && memcmp(k, key, n) == 0 &&
                             (null_removes || ort_json_given(at.value)));
        }
        if (!replaced && key != NULL) {
            ort_jw_key_n(&s->w, key, len);
            ort_jw_value(&s->w, it.value);
        }
    }
    for (ort_json_iter it = ort_json_each(given); ort_json_step(&it);) {
        size_t len;
        const char *key = ort_json_str(it.key, &len);
        if (key != NULL && ort_json_given(it.value)) {
            ort_jw_key_n(&s->w, key, len);
            ort_jw_value(&s->w, it.value);
        }
    }
    ort_jw_object_end(&s->w);
    return ORT_OK;
}

/* --- quantization -------------------------------------------------------------------------------
 */

/* A member of a quantization: flags, or one of a few words. */
static ort_err
check_flag(writer *s, ort_json config, const char *name)
{
    const ort_json v = ort_json_get(config, name);
    bool flag;
    return !ort_json_given(v) || ort_json_bool(v, &flag) == ORT_OK
               ? ORT_OK
               : wrong_type(s, name, "a boolean");
}

static ort_err
check_word(writer *s, ort_json config, const char *name, bool needed, const char *const *choices)
{
    const ort_json v = ort_json_get(config, name);
    if (!ort_json_given(v)) {
        return needed
                   ? ort_fail(s->diag, ORT_EFORMAT, "quantization_config: missing field `%s`", name)
                   : ORT_OK;
    }
    return check_choice(s, name, v, choices);
}

static ort_err
check_scalar(writer *s, ort_json config)
{
    static const char *const types[] = {"int8", NULL};
    const ort_json q = ort_json_get(config, "quantile");
    double quantile;
    const ort_err err = check_word(s, config, "type", true, types);
    if (err != ORT_OK || !ort_json_given(q)) {
        return err;
    }
    if (ort_json_f64(q, &quantile) != ORT_OK) {
        return wrong_type(s, "quantile", "a number");
    }
    return quantile >= 0.5 && quantile <= 1
               ? ORT_OK
               : ort_fail(s->diag, ORT_EVALIDATE,
                          "quantization_config.scalar.quantile: value %g invalid, must be from 0.5 "
                          "to 1.0",
                          quantile);
}

static ort_err
check_binary(writer *s, ort_json config)
{
    static const char *const encodings[] = {"one_bit", "two_bits", "one_and_half_bits", NULL};
    static const char *const queries[] = {"default", "binary", "scalar4bits", "scalar8bits", NULL};
    const ort_err err = check_word(s, config, "encoding", false, encodings);
    return err == ORT_OK ? check_word(s, config, "query_encoding", false, queries) : err;
}

/* {"scalar": {..}} and so on: exactly one kind, and what stands in it. */
static ort_err
check_quantization(writer *s, ort_json given)
{
    static const char *const kinds[] = {"scalar", "product", "binary", "turbo", NULL};
    static const char *const compressions[] = {"x4", "x8", "x16", "x32", "x64", NULL};
    static const char *const bits[] = {"bits1", "bits1_5", "bits2", "bits4", NULL};
    ort_json config = {0};
    size_t kind = 0, found = 0;
    for (size_t i = 0; kinds[i] != NULL; i++) {
        const ort_json v = ort_json_get(given, kinds[i]);
        if (ort_json_type_of(v) == ORT_JSON_OBJECT) {
            kind = i;
            config = v;
            found++;
        }
    }
    if (found != 1) {
        return wrong_type(s, "quantization_config",
                          "one of `scalar`, `product`, `binary`, `turbo`");
    }
    ort_err err = check_flag(s, config, "always_ram");
    if (err == ORT_OK) {
        err = check_word(s, config, "memory", false, memories);
    }
    if (err != ORT_OK) {
        return err;
    }
    switch (kind) {
    case 0:
        return check_scalar(s, config);
    case 1:
        return check_word(s, config, "compression", true, compressions);
    case 2:
        return check_binary(s, config);
    default:
        return check_word(s, config, "bits", false, bits);
    }
}

/* It is replaced as a whole; "Disabled" removes it. */
static ort_err
put_quantization(writer *s, ort_json given, ort_json old)
{
    ort_err err = ORT_OK;
    if (ort_json_str_is(given, "Disabled")) {
        return ORT_OK;
    }
    if (ort_json_given(given)) {
        err = check_quantization(s, given);
    } else if (!ort_json_given(old)) {
        return ORT_OK;
    }
    ort_jw_key(&s->w, "quantization_config");
    ort_jw_value(&s->w, ort_json_given(given) ? given : old);
    return err;
}

/* --- one vector ---------------------------------------------------------------------------------
 */

static ort_err
put_choice(writer *s, ort_json params, const char *name, const char *const *choices)
{
    const ort_json v = ort_json_get(params, name);
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    const ort_err err = check_choice(s, name, v, choices);
    if (err == ORT_OK) {
        ort_jw_key(&s->w, name);
        ort_jw_value(&s->w, v);
    }
    return err;
}

/* Rows may be cold or cached; only what is made from them can be pinned. */
static ort_err
put_row_memory(writer *s, ort_json params)
{
    if (ort_json_str_is(ort_json_get(params, "memory"), "pinned")) {
        return ort_fail(s->diag, ORT_EVALIDATE,
                        "%s.memory: `pinned` is not supported for dense vectors", s->where);
    }
    return put_choice(s, params, "memory", memories);
}

static ort_err
put_flag(writer *s, ort_json params, const char *name)
{
    const ort_json v = ort_json_get(params, name);
    bool flag;
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_bool(v, &flag) != ORT_OK) {
        return wrong_type(s, name, "a boolean");
    }
    ort_jw_key(&s->w, name);
    ort_jw_bool(&s->w, flag);
    return ORT_OK;
}

static ort_err
put_size(writer *s, ort_json params)
{
    static const member size = {"size", V_UINT, 1, ORT_DIM_MAX, 1};
    const ort_json v = ort_json_get(params, "size");
    if (!ort_json_given(v)) {
        return ort_fail(s->diag, ORT_EFORMAT, "%s: missing field `size`", s->where);
    }
    const ort_err err = check_uint(s, &size, v);
    ort_jw_key(&s->w, "size");
    ort_jw_value(&s->w, v);
    return err;
}

static ort_err
put_multivector(writer *s, ort_json params)
{
    const ort_json v = ort_json_get(params, "multivector_config");
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (!ort_json_str_is(ort_json_get(v, "comparator"), "max_sim")) {
        return wrong_type(s, "multivector_config", "a comparator `max_sim`");
    }
    ort_jw_key(&s->w, "multivector_config");
    ort_jw_raw(&s->w, "{\"comparator\":\"max_sim\"}", 24);
    return ORT_OK;
}

static ort_err
put_dense_params(writer *s, ort_json params)
{
    static const char *const distances[] = {"Cosine", "Dot", "Euclid", "Manhattan", NULL};
    static const char *const datatypes[] = {"float32", "uint8", "float16", "turbo4", NULL};
    if (ort_json_type_of(params) != ORT_JSON_OBJECT) {
        return ort_fail(s->diag, ORT_EFORMAT, "%s: expected struct VectorParams", s->where);
    }
    ort_jw_object(&s->w);
    ort_err err = put_size(s, params);
    if (err == ORT_OK && !ort_json_given(ort_json_get(params, "distance"))) {
        err = ort_fail(s->diag, ORT_EFORMAT, "%s: missing field `distance`", s->where);
    }
    err = err == ORT_OK ? put_choice(s, params, "distance", distances) : err;
    if (err == ORT_OK) {
        err = merge_object(s, "hnsw_config", hnsw_members, ort_json_get(params, "hnsw_config"),
                           (ort_json){0});
    }
    if (err == ORT_OK) {
        err = put_quantization(s, ort_json_get(params, "quantization_config"), (ort_json){0});
    }
    err = err == ORT_OK ? put_flag(s, params, "on_disk") : err;
    err = err == ORT_OK ? put_choice(s, params, "datatype", datatypes) : err;
    err = err == ORT_OK ? put_multivector(s, params) : err;
    err = err == ORT_OK ? put_row_memory(s, params) : err;
    ort_jw_object_end(&s->w);
    return err;
}

static ort_err
put_sparse_params(writer *s, ort_json params, ort_json old)
{
    static const char *const modifiers[] = {"none", "idf", NULL};
    const ort_json modifier = ort_json_get(params, "modifier");
    if (ort_json_given(params) && ort_json_type_of(params) != ORT_JSON_OBJECT) {
        return ort_fail(s->diag, ORT_EFORMAT, "%s: expected struct SparseVectorParams", s->where);
    }
    ort_jw_object(&s->w);
    ort_err err = merge_object(s, "index", sparse_index_members, ort_json_get(params, "index"),
                               ort_json_get(old, "index"));
    if (err == ORT_OK) {
        err = put_choice(s, ort_json_given(modifier) ? params : old, "modifier", modifiers);
    }
    ort_jw_object_end(&s->w);
    return err;
}

static void
open_vector(writer *s, const char *name, size_t len, bool sparse)
{
    ort_jw_object(&s->w);
    ort_jw_key(&s->w, "name");
    ort_jw_str_n(&s->w, name, len);
    if (sparse) {
        ort_jw_key(&s->w, "sparse");
        ort_jw_bool(&s->w, true);
    }
    ort_jw_key(&s->w, "params");
}

ort_err
dp_schema__put_params(ort_jw *w, bool sparse, ort_json body, ort_diag *diag)
{
    writer s = {.w = *w, .diag = diag};
    snprintf(s.where, sizeof s.where, "%s", sparse ? "sparse" : "dense");
    const ort_err err = sparse ? put_sparse_params(&s, ort_json_get(body, "sparse"), (ort_json){0})
                               : put_dense_params(&s, ort_json_get(body, "dense"));
    *w = s.w;
    return err;
}

/* --- create -------------------------------------------------------------------------------------
 */

static ort_err
put_named(writer *s, ort_json map, bool sparse)
{
    ort_err err = ORT_OK;
    for (ort_json_iter it = ort_json_each(map); err == ORT_OK && ort_json_step(&it);) {
        size_t len;
        const char *name = ort_json_str(it.key, &len);
        if (name == NULL) {
            return ort_fail(s->diag, ORT_ENOMEM, "out of memory");
        }
        if (len > 0 || sparse) {
            err = dp_vector_name_check(name, len, s->diag);
        }
        if (err != ORT_OK) {
            return err;
        }
        snprintf(s->where, sizeof s->where, "%s.%.*s", sparse ? "sparse_vectors" : "vectors",
                 (int)len, name);
        open_vector(s, name, len, sparse);
        err =
            sparse ? put_sparse_params(s, it.value, (ort_json){0}) : put_dense_params(s, it.value);
        ort_jw_object_end(&s->w);
        s->where[0] = '\0';
    }
    return err;
}

/* No name twice: JSON lets a key stand twice, and both kinds share one space of names. */
static ort_err
check_names(ort_json dense, ort_json sparse, ort_diag *diag)
{
    const ort_json maps[] = {dense, sparse};
    for (size_t m = 0; m < 2; m++) {
        for (ort_json_iter a = ort_json_each(maps[m]); ort_json_step(&a);) {
            size_t len, n;
            uint32_t found = 0;
            const char *name = ort_json_str(a.key, &len);
            for (size_t o = 0; name != NULL && o < 2; o++) {
                for (ort_json_iter b = ort_json_each(maps[o]); ort_json_step(&b);) {
                    const char *other = ort_json_str(b.key, &n);
                    found += other != NULL && n == len && memcmp(name, other, n) == 0;
                }
            }
            if (name != NULL && found > 1) {
                return ort_fail(diag, ORT_EINVAL,
                                "Vector name `%.*s` is used more than once in dense and sparse "
                                "vectors",
                                len > 100 ? 100 : (int)len, name);
            }
        }
    }
    return ORT_OK;
}

static ort_err
put_all_vectors(writer *s, ort_json body)
{
    const ort_json dense = ort_json_get(body, "vectors");
    const ort_json sparse = ort_json_get(body, "sparse_vectors");
    const ort_json size = ort_json_get(dense, "size");
    const bool single = ort_json_given(size) && ort_json_type_of(size) != ORT_JSON_OBJECT;
    ort_err err = ORT_OK;
    if (ort_json_given(dense) && ort_json_type_of(dense) != ORT_JSON_OBJECT) {
        return wrong_type(s, "vectors", "an object");
    }
    if (ort_json_given(sparse) && ort_json_type_of(sparse) != ORT_JSON_OBJECT) {
        return wrong_type(s, "sparse_vectors", "an object");
    }
    if ((uint64_t)ort_json_count(dense) + ort_json_count(sparse) > ORT_VECTORS_PER_POINT_MAX) {
        return ort_fail(s->diag, ORT_EVALIDATE, "vectors: more than %u vectors",
                        ORT_VECTORS_PER_POINT_MAX);
    }
    const ort_json none = {0};
    err = check_names(single ? none : dense, sparse, s->diag);
    if (single) {
        ort_jw_key(&s->w, "single");
        ort_jw_bool(&s->w, true);
    }
    ort_jw_key(&s->w, "vectors");
    ort_jw_array(&s->w);
    if (err == ORT_OK && single) {
        snprintf(s->where, sizeof s->where, "vectors");
        open_vector(s, "", 0, false);
        err = put_dense_params(s, dense);
        ort_jw_object_end(&s->w);
        s->where[0] = '\0';
    } else if (err == ORT_OK) {
        err = put_named(s, dense, false);
    }
    err = err == ORT_OK ? put_named(s, sparse, true) : err;
    ort_jw_array_end(&s->w);
    return err;
}

/* What create and patch share: everything but the vectors. `params` has its own place in a PATCH.
 */
static ort_err
put_settings(writer *s, ort_json body, ort_json params, ort_json old)
{
    ort_err err = merge_object(s, "params", param_members, params, ort_json_get(old, "params"));
    if (err == ORT_OK) {
        err = merge_object(s, "hnsw_config", hnsw_members, ort_json_get(body, "hnsw_config"),
                           ort_json_get(old, "hnsw_config"));
    }
    if (err == ORT_OK) {
        err = merge_object(s, "optimizers_config", optimizer_members,
                           ort_json_get(body, "optimizers_config"),
                           ort_json_get(old, "optimizers_config"));
    }
    if (err == ORT_OK) {
        err = merge_object(s, "wal_config", wal_members, ort_json_get(body, "wal_config"),
                           ort_json_get(old, "wal_config"));
    }
    if (err == ORT_OK) {
        err = put_quantization(s, ort_json_get(body, "quantization_config"),
                               ort_json_get(old, "quantization_config"));
    }
    if (err == ORT_OK) {
        dp_strict unused;
        err = dp_strict_read(&unused, ort_json_get(body, "strict_mode_config"), s->diag);
    }
    if (err == ORT_OK) {
        err = merge_free_object(s, "strict_mode_config", ort_json_get(body, "strict_mode_config"),
                                ort_json_get(old, "strict_mode_config"), false);
    }
    if (err == ORT_OK) {
        err = merge_free_object(s, "metadata", ort_json_get(body, "metadata"),
                                ort_json_get(old, "metadata"), true);
    }
    return err;
}

static void
begin(writer *s, ort_buf *buf, ort_diag *diag)
{
    *s = (writer){.w = {.buf = buf}, .diag = diag};
    ort_jw_object(&s->w);
    ort_jw_key(&s->w, "version");
    ort_jw_u64(&s->w, DP_SCHEMA_VERSION);
}

static ort_err
finish(writer *s, dp_schema **out, ort_err err)
{
    ort_jw_object_end(&s->w);
    if (err != ORT_OK) {
        ort_buf_fini(s->w.buf);
        return err;
    }
    return dp_schema__from_text(out, s->w.buf, s->diag);
}

ort_err
dp_schema_parse(dp_schema **out, ort_json body, ort_diag *diag)
{
    ort_buf buf = {0};
    writer s;
    *out = NULL;
    if (ort_json_type_of(body) != ORT_JSON_OBJECT) {
        return ort_fail(diag, ORT_EFORMAT, "expected struct CreateCollection");
    }
    begin(&s, &buf, diag);
    ort_err err = put_all_vectors(&s, body);
    err = err == ORT_OK ? put_settings(&s, body, body, (ort_json){0}) : err;
    return finish(&s, out, err);
}

/* --- patch --------------------------------------------------------------------------------------
 */

static ort_err
patch_dense_params(writer *s, ort_json diff, ort_json old)
{
    static const char *const replaced[] = {"on_disk", "memory", "hnsw_config",
                                           "quantization_config", NULL};
    ort_jw_object(&s->w);
    for (ort_json_iter it = ort_json_each(old); ort_json_step(&it);) {
        bool ours = false;
        for (size_t i = 0; replaced[i] != NULL; i++) {
            ours = ours || ort_json_str_is(it.key, replaced[i]);
        }
        if (!ours) {
            size_t len;
            const char *key = ort_json_str(it.key, &len);
            ort_jw_key_n(&s->w, key != NULL ? key : "", key != NULL ? len : 0);
            ort_jw_value(&s->w, it.value);
        }
    }
    ort_err err = merge_object(s, "hnsw_config", hnsw_members, ort_json_get(diff, "hnsw_config"),
                               ort_json_get(old, "hnsw_config"));
    if (err == ORT_OK) {
        err = put_quantization(s, ort_json_get(diff, "quantization_config"),
                               ort_json_get(old, "quantization_config"));
    }
    if (err == ORT_OK) {
        err = put_flag(s, ort_json_given(ort_json_get(diff, "on_disk")) ? diff : old, "on_disk");
    }
    if (err == ORT_OK) {
        err = put_row_memory(s, ort_json_given(ort_json_get(diff, "memory")) ? diff : old);
    }
    ort_jw_object_end(&s->w);
    return err;
}

static ort_err
patch_vector(writer *s, ort_json old, ort_json dense, ort_json sparse)
{
    const bool is_sparse = ort_json_given(ort_json_get(old, "sparse"));
    const ort_json diffs = is_sparse ? sparse : dense, params = ort_json_get(old, "params");
    size_t len;
    const char *name = ort_json_str(ort_json_get(old, "name"), &len);
    ort_json diff = {0};
    ort_err err;
    if (name == NULL) {
        return ort_fail(s->diag, ORT_ENOMEM, "out of memory");
    }
    for (ort_json_iter it = ort_json_each(diffs); ort_json_step(&it);) {
        size_t n;
        const char *key = ort_json_str(it.key, &n);
        if (key != NULL && n == len && memcmp(key, name, n) == 0) {
            diff = it.value;
        }
    }
    open_vector(s, name, len, is_sparse);
    if (ort_json_given(diff) && ort_json_type_of(diff) != ORT_JSON_OBJECT) {
        err = wrong_type(s, is_sparse ? "sparse_vectors" : "vectors", "an object");
    } else {
        err = is_sparse ? put_sparse_params(s, diff, params) : patch_dense_params(s, diff, params);
    }
    ort_jw_object_end(&s->w);
    return err;
}

/* Diffs may only name vectors that are there, of their own kind. */
static ort_err
check_diff_names(const dp_schema *old, ort_json diffs, bool sparse, ort_diag *diag)
{
    if (ort_json_given(diffs) && ort_json_type_of(diffs) != ORT_JSON_OBJECT) {
        return ort_fail(diag, ORT_EFORMAT, "vectors: expected an object");
    }
    for (ort_json_iter it = ort_json_each(diffs); ort_json_step(&it);) {
        size_t len;
        const char *name = ort_json_str(it.key, &len);
        const int i = name != NULL ? dp_schema_find_vector(old, name, len) : -1;
        if (i < 0 || dp_schema_peek_vector(old, (uint32_t)i)->sparse != sparse) {
            return ort_fail(diag, ORT_EINVAL, "Not existing vector name error: %.*s",
                            name == NULL ? 0 : (int)(len > 200 ? 200 : len),
                            name == NULL ? "" : name);
        }
    }
    return ORT_OK;
}

ort_err
dp_schema_patch(dp_schema **out, const dp_schema *old, ort_json body, ort_diag *diag)
{
    const ort_json was = dp_schema__view(old);
    const ort_json dense = ort_json_get(body, "vectors");
    const ort_json sparse = ort_json_get(body, "sparse_vectors");
    ort_buf buf = {0};
    writer s;
    *out = NULL;
    if (ort_json_type_of(body) != ORT_JSON_OBJECT) {
        return ort_fail(diag, ORT_EFORMAT, "expected struct UpdateCollection");
    }
    ort_err err = check_diff_names(old, dense, false, diag);
    err = err == ORT_OK ? check_diff_names(old, sparse, true, diag) : err;
    if (err != ORT_OK) {
        return err;
    }
    begin(&s, &buf, diag);
    if (ort_json_given(ort_json_get(was, "single"))) {
        ort_jw_key(&s.w, "single");
        ort_jw_bool(&s.w, true);
    }
    ort_jw_key(&s.w, "vectors");
    ort_jw_array(&s.w);
    const ort_json vectors = ort_json_get(was, "vectors");
    for (ort_json_iter it = ort_json_each(vectors); err == ORT_OK && ort_json_step(&it);) {
        if (ort_json_given(ort_json_get(it.value, "dropped"))) {
            ort_jw_value(&s.w, it.value);
        } else {
            err = patch_vector(&s, it.value, dense, sparse);
        }
    }
    ort_jw_array_end(&s.w);
    err = err == ORT_OK ? put_settings(&s, body, ort_json_get(body, "params"), was) : err;
    if (ort_json_given(dp_schema_peek_fields(old))) { /* changed by dp_schema_set_field() alone */
        ort_jw_key(&s.w, "payload_schema");
        ort_jw_value(&s.w, dp_schema_peek_fields(old));
    }
    return finish(&s, out, err);
}

/* --- names --------------------------------------------------------------------------------------
 */

ort_err
dp_collection_name_check(const char *name, size_t len, ort_diag *diag)
{
    size_t chars = 0;
    for (size_t i = 0; i < len; i++) {
        chars += ((unsigned char)name[i] & 0xc0) != 0x80; /* what goes on a character is none */
    }
    if (chars < 1 || chars > ORT_COLLECTION_NAME_CHARS_MAX || len > ORT_COLLECTION_NAME_BYTES_MAX) {
        return ort_fail(diag, ORT_EVALIDATE,
                        "collection_name: value \"%.*s\" invalid, must be from 1 to %u characters",
                        len > 300 ? 300 : (int)len, name, ORT_COLLECTION_NAME_CHARS_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '\0' || strchr("<>:\"/\\|?*\x1f", name[i]) != NULL) {
            return ort_fail(diag, ORT_EVALIDATE,
                            "collection_name: collection name cannot contain \"%c\" char",
                            name[i] == '\0' || name[i] == '\x1f' ? ' ' : name[i]);
        }
    }
    if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.')) {
        return ort_fail(diag, ORT_EVALIDATE, "collection_name: cannot be \"%.*s\"", (int)len, name);
    }
    return ORT_OK;
}

ort_err
dp_vector_name_check(const char *name, size_t len, ort_diag *diag)
{
    if (len < 1 || len > ORT_VECTOR_NAME_BYTES_MAX) {
        return ort_fail(diag, ORT_EVALIDATE,
                        "vector name: value invalid, must be from 1 to %u characters",
                        ORT_VECTOR_NAME_BYTES_MAX);
    }
    if (memchr(name, '\0', len) != NULL) {
        return ort_fail(diag, ORT_EVALIDATE, "vector name: cannot contain a NUL");
    }
    return ORT_OK;
}
