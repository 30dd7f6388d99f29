/* A collection for benchmarks that need no server. */
#include "place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

uint64_t
bench_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void
bench_must(ort_err err, const ort_diag *diag)
{
    if (err != ORT_OK) {
        fprintf(stderr, "%s\n", diag->text[0] != '\0' ? diag->text : ort_err_code(err));
        exit(1);
    }
}

void
bench_place_init(bench_place *p, const char *schema)
{
    ort_diag diag = {{0}};
    ort_json_doc *doc;
    *p = (bench_place){.path = "/tmp/bench-place-XXXXXX"};
    if (mkdtemp(p->path) == NULL) {
        perror(p->path);
        exit(1);
    }
    const int dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bench_must(ort_pool_new(&p->workers, "build", 2, 64, &diag), &diag);
    bench_must(dp_quota_new(&p->quota, NULL, "tenant"), &diag);
    bench_must(ort_json_parse(&doc, schema, strlen(schema), (ort_json_limits){0}, &diag), &diag);
    bench_must(dp_schema_parse(&p->schema, ort_json_root(doc), &diag), &diag);
    ort_json_free(doc);
    const dp_collection_config config = {
        .tenant = {1}, .id = {2}, .name = "bench", .schema = p->schema, .quota = p->quota};
    const dp_collection_env env = {.workers = p->workers, .build_threads = 2};
    bench_must(dp_collection_open(&p->c, dir, -1, &config, &env, &diag), &diag);
    close(dir);
}

void
bench_place_fini(bench_place *p)
{
    ort_diag diag = {{0}};
    const int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dp_collection_close(p->c);
    ort_pool_free(p->workers);
    dp_quota_free(p->quota);
    dp_schema_unref(p->schema);
    bench_must(ort_tree_remove(tmp, p->path + strlen("/tmp/"), &diag), &diag);
    close(tmp);
}

void
bench_place_upsert(bench_place *p, const ort_buf *body)
{
    ort_diag diag = {{0}};
    ort_json_doc *doc;
    dp_op *op;
    dp_op_result result;
    bench_must(
        ort_json_parse(&doc, body->data, body->len, (ort_json_limits){.floats = true}, &diag),
        &diag);
    bench_must(dp_op_parse(&op, DP_OP_UPSERT, p->schema, ort_json_root(doc), &diag), &diag);
    bench_must(dp_collection_apply(p->c, op, 0, &result, &diag), &diag);
    dp_op_free(op);
    ort_json_free(doc);
}
