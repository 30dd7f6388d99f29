/* Which points of a sample are near each other: search/matrix/pairs and search/matrix/offsets. */
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"

/* Points of one sample, and what their vectors may take: all are compared with all. */
#define SAMPLE_MAX 2048u
#define SAMPLE_BYTES_MAX (64u << 20)
#define PAIRS_MAX 262144u /* of one answer */

typedef struct {
    ort_point_id id;
    dp_vector vector;
} sampled;

typedef struct {
    dp_call *call;
    uint64_t sample, limit;
    dp_api__ask ask; /* using, filter */
    uint32_t column;
    dp_vector_schema schema;
    sampled *points; /* by id */
    size_t count, bytes;
} matrix;

static ort_err
take_sampled(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    matrix *m = ctx;
    dp_vector v;
    (void)query;
    (void)schema;

    ort_err err = dp_point_vector(view, m->column, &v);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND ? ORT_OK : err;
    }
    m->bytes += (size_t)v.count * (v.kind == DP_VECTOR_MULTI ? v.rows : 2) * sizeof(float);
    if (m->count == m->sample || m->bytes > SAMPLE_BYTES_MAX) {
        return ORT_OK;
    }
    err = dp_plan__copy_vector(&v, &m->points[m->count].vector);
    if (err == ORT_OK) {
        m->points[m->count++].id = view->id;
    }
    return err;
}

static int
by_id(const void *a, const void *b)
{
    const sampled *x = a;
    const sampled *y = b;
    return ort_point_id_cmp(x->id, y->id);
}

/* The filter, and that the point has the vector. */
static ort_err
make_filter(matrix *m, ort_json filter, const char *name, dp_filter **out)
{
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_jw_object(&w);
    ort_jw_key(&w, "must");
    ort_jw_array(&w);
    ort_jw_object(&w);
    ort_jw_key(&w, "has_vector");
    ort_jw_str(&w, name);
    ort_jw_object_end(&w);
    if (ort_json_count(filter) > 0) {
        ort_jw_value(&w, filter);
    }
    ort_jw_array_end(&w);
    ort_jw_object_end(&w);
    ort_err err = ort_buf_check(&text);
    if (err == ORT_OK) {
        err = dp_filter_parse_text(out, text.data, text.len, &m->call->diag);
        dp_filter_set_until_ns(*out, ort_http_req_deadline_ns(m->call->req));
    }
    ort_buf_fini(&text);
    return err;
}

static ort_err
take_sample(matrix *m, ort_json filter)
{
    const char *name = m->ask.using_name != NULL ? m->ask.using_name : "";
    dp_schema *schema = dp_collection_schema(m->call->collection);
    const int column = dp_schema_find_vector(schema, name, strlen(name));
    dp_filter *with_vector = NULL;
    if (column < 0) {
        dp_schema_unref(schema);
        return ort_fail(&m->call->diag, ORT_EINVAL, "Not existing vector name error: %.200s", name);
    }
    m->column = (uint32_t)column;
    m->schema = *dp_schema_peek_vector(schema, m->column);
    m->schema.name = NULL;
    dp_schema_unref(schema);
    m->points = calloc(m->sample + 1, sizeof *m->points);
    ort_err err = m->points != NULL ? make_filter(m, filter, name, &with_vector) : ORT_ENOMEM;
    if (err == ORT_OK) {
        const dp_query query = {.kind = DP_QUERY_SAMPLE, .filter = with_vector, .limit = m->sample};
        err = dp_call_query(m->call, &query, 1, false, take_sampled, m);
    }
    dp_filter_free(with_vector);
    if (err == ORT_OK && m->count > 1) {
        qsort(m->points, m->count, sizeof *m->points, by_id);
    } else if (m->count == 1) { /* of one point there is no pair */
        dp_vector_fini(&m->points[0].vector);
        m->count = 0;
    }
    return err;
}

/* The nearest of the sample to point i, best first: room[count]. Returns how many. */
static size_t
nearest_of(const matrix *m, size_t i, dp_hit *room)
{
    size_t n = 0;
    for (size_t k = 0; k < m->count; k++) {
        if (k != i) {
            room[n++] = (dp_hit){.slot = (uint32_t)k,
                                 .distance = dp_vector_distance(&m->schema, &m->points[i].vector,
                                                                &m->points[k].vector)};
        }
    }
    qsort(room, n, sizeof *room, dp_hit_compare);
    return n < m->limit ? n : (size_t)m->limit;
}

static void
write_pairs(const matrix *m, size_t i, const dp_hit *hits, size_t n)
{
    ort_jw *w = &m->call->w;
    for (size_t k = 0; k < n; k++) {
        ort_jw_object(w);
        ort_jw_key(w, "a");
        dp_point_id_write(w, m->points[i].id);
        ort_jw_key(w, "b");
        dp_point_id_write(w, m->points[hits[k].slot].id);
        ort_jw_key(w, "score");
        ort_jw_f32(w, dp_vector_score(&m->schema, hits[k].distance));
        ort_jw_object_end(w);
    }
}

static ort_err
answer_pairs(const matrix *m, dp_hit *room)
{
    ort_jw *w = &m->call->w;
    ort_err err = ORT_OK;
    ort_jw_object(w);
    ort_jw_key(w, "pairs");
    ort_jw_array(w);
    for (size_t i = 0; err == ORT_OK && i < m->count; i++) {
        write_pairs(m, i, room, nearest_of(m, i, room));
        err = dp_api__check_answer_size(m->call);
        err = err == ORT_OK ? dp_call_check_time(m->call) : err;
    }
    ort_jw_array_end(w);
    ort_jw_object_end(w);
    return err;
}

/* A sparse matrix: three lists of one length, and what the numbers in the first two stand for. */
static ort_err
answer_offsets(const matrix *m, dp_hit *room)
{
    ort_jw *w = &m->call->w;
    ort_buf columns = {0}, scores = {0};
    ort_jw cols = {.buf = &columns}, marks = {.buf = &scores};
    ort_jw_object(w);
    ort_jw_key(w, "offsets_row");
    ort_jw_array(w);
    ort_jw_array(&cols);
    ort_jw_array(&marks);
    ort_err err = ORT_OK;
    for (size_t i = 0; err == ORT_OK && i < m->count; i++) {
        const size_t n = nearest_of(m, i, room);
        for (size_t k = 0; k < n; k++) {
            ort_jw_u64(w, i);
            ort_jw_u64(&cols, room[k].slot);
            ort_jw_f32(&marks, dp_vector_score(&m->schema, room[k].distance));
        }
        err = dp_call_check_time(m->call);
    }
    ort_jw_array_end(w);
    ort_jw_array_end(&cols);
    ort_jw_array_end(&marks);
    if (err == ORT_OK) {
        err = ort_buf_check(&columns);
    }
    if (err == ORT_OK) {
        err = ort_buf_check(&scores);
    }
    if (err == ORT_OK) {
        ort_jw_key(w, "offsets_col");
        ort_jw_raw(w, columns.data, columns.len);
        ort_jw_key(w, "scores");
        ort_jw_raw(w, scores.data, scores.len);
        ort_jw_key(w, "ids");
        ort_jw_array(w);
        for (size_t i = 0; i < m->count; i++) {
            dp_point_id_write(w, m->points[i].id);
        }
        ort_jw_array_end(w);
    }
    ort_jw_object_end(w);
    ort_buf_fini(&columns);
    ort_buf_fini(&scores);
    return err;
}

/* {sample, limit, filter, using} */
static ort_err
parse(matrix *m, ort_json body)
{
    dp_call *call = m->call;
    m->sample = 10;
    m->limit = 3;
    ort_err err = dp_call_get_u64(call, body, "sample", &m->sample);
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "limit", &m->limit);
    }
    if (err == ORT_OK && m->sample < 2) {
        err =
            ort_fail(&call->diag, ORT_EVALIDATE, "sample: value %llu invalid, must be 2 or larger",
                     (unsigned long long)m->sample);
    }
    if (err == ORT_OK && m->limit == 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "limit: value 0 invalid, must be 1 or larger");
    }
    if (err == ORT_OK) { /* as it was sent, before it is put beside another condition */
        err = dp_call_filter(call, &m->ask.filter, ort_json_get(body, "filter"), "filter");
    }
    m->sample = m->sample < SAMPLE_MAX ? m->sample : SAMPLE_MAX;
    if (err == ORT_OK && m->limit > PAIRS_MAX / m->sample) {
        m->limit = PAIRS_MAX / m->sample;
    }
    return err == ORT_OK ? dp_api__ask_using(call, &m->ask, "using", ort_json_get(body, "using"))
                         : err;
}

static ort_err
run(dp_call *call, ort_err (*answer)(const matrix *m, dp_hit *room))
{
    matrix m = {.call = call};
    ort_json body;
    dp_hit *room = NULL;
    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = parse(&m, body);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = take_sample(&m, ort_json_get(body, "filter"));
    }
    if (err == ORT_OK) {
        room = calloc(m.count + 1, sizeof *room);
        err = room != NULL ? answer(&m, room) : ORT_ENOMEM;
    }
    for (size_t i = 0; i < m.count; i++) {
        dp_vector_fini(&m.points[i].vector);
    }
    free(m.points);
    free(room);
    dp_api__ask_fini(&m.ask);
    return err;
}

ort_err
dp_api__matrix_pairs(dp_call *call)
{
    return run(call, answer_pairs);
}

ort_err
dp_api__matrix_offsets(dp_call *call)
{
    return run(call, answer_offsets);
}
