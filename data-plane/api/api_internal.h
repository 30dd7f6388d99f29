/* One call of the data API on its way through its handler; the handlers, one file a resource. */
#ifndef DP_API_INTERNAL_H
#define DP_API_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "base/json_write.h"
#include "tenant/snapshots.h"

/* What `GET /` claims to speak: clients compare major and minor with their own, and warn when they
 * are more than one minor apart; 1.18 is within reach of 1.17, 1.18 and 1.19. */
#define DP_API_QDRANT_VERSION "1.18.2"

/* An answer is made in memory: this is where it ends. */
#define DP_API_ANSWER_BYTES_MAX (256u << 20)

typedef struct dp_call dp_call;

/* Writes the call's `result` and returns ORT_OK, or returns an error whose words are in call->diag:
 * then what was written is thrown away, and the error answers. */
typedef ort_err (*dp_call_fn)(dp_call *call);

enum {
    DP_ROUTE_PUBLIC = 1u << 0, /* no key; fn answers by itself */
    DP_ROUTE_GROWS = 1u << 1,  /* may need room */
    DP_ROUTE_STORES = 1u << 2, /* changes something */
    DP_ROUTE_STREAM = 1u << 3, /* a body or an answer too large for memory: never forwarded */
};

/* What a route means to us; the `extra` of its ort_http_route. */
typedef struct {
    dp_call_fn fn;
    uint32_t scopes_any;
    uint32_t flags;
    dp_meter meter;
} dp_route;

/* Which part of the request a complaint is about. */
typedef enum { DP_PLACE_BODY, DP_PLACE_QUERY, DP_PLACE_PATH } dp_place;

/* Where the time of a search goes. A call is in one stage at a time, see dp_call_stage(). */
typedef enum {
    DP_STAGE_GATE,   /* key, rate, quota */
    DP_STAGE_WAIT,   /* for the body and for a processor slot */
    DP_STAGE_JSON,   /* the body's text into values and floats */
    DP_STAGE_PLAN,   /* what is asked for, checked; the collection found */
    DP_STAGE_SEARCH, /* inside the collection */
    DP_STAGE_ANSWER, /* points into text, out to the socket */
    DP_STAGE_COUNT,
} dp_stage;

struct dp_call {
    dp_api *api;
    ort_http_req *req;
    const dp_route *route;
    dp_gate_pass pass; /* zeroes on public routes */

    ort_json_doc *doc;         /* of the body */
    dp_collection *collection; /* in use, released at the end */
    bool in_slot;
    uint64_t slot_cpu_ns; /* thread time when the slot was taken */

    ort_buf out;
    ort_jw w; /* into out, just behind `"result":` */
    dp_place place;
    ort_diag diag;

    dp_stage stage;
    uint64_t stage_begin_ns;
    uint64_t stage_ns[DP_STAGE_COUNT];
};

#define DP_API_GRANTS_MAX 256u /* used ones that have not expired */

struct dp_api {
    dp_api_config config;
    atomic_bool ready;
    pthread_mutex_t grants_lock;
    struct {
        uint64_t nonce;
        int64_t expires_ms;
    } grants[DP_API_GRANTS_MAX];
    ort_histogram *search_seconds;
    ort_histogram *write_seconds;
    ort_histogram *read_seconds;
    _Atomic(uint64_t) search_stage_ns[DP_STAGE_COUNT]; /* of searches answered with 200 */
};

/* --- call.c: what handlers stand on ---------------------------------------------------------- */

/* The body, parsed: an object, or (may_be_empty) nothing at all. ORT_EFORMAT with serde's words. */
ORT_NODISCARD ort_err dp_call_body(dp_call *call, bool may_be_empty, ort_json *out);

/* Opens the collection of the path and keeps it until the call ends. */
ORT_NODISCARD ort_err dp_call_use_collection(dp_call *call);

/* Checks the query parameters of a read (consistency, timeout) or a write (wait, ordering, timeout)
 * and shortens the deadline by `timeout`. */
ORT_NODISCARD ort_err dp_call_read_params(dp_call *call);
ORT_NODISCARD ort_err dp_call_write_params(dp_call *call, bool *wait_out);

/* The call's time counts for this stage from now on; returns the one before. */
dp_stage dp_call_stage(dp_call *call, dp_stage stage);

/* Whether there is time left: a request of many steps can end between them. ORT_ETIMEOUT. */
ORT_NODISCARD ort_err dp_call_check_time(dp_call *call);

/* dp_collection_query() on the call's collection, each kind of time told apart. */
ORT_NODISCARD ort_err dp_call_query(dp_call *call, const dp_query *queries, size_t count,
                                    bool want_payload, dp_point_fn fn, void *ctx);

/* Gives the CPU slot back early, before waiting for a disk. */
void dp_call_slot_leave(dp_call *call);

/* The filter of a read: it is asked of points no longer than the request may take. */
ORT_NODISCARD ort_err dp_call_filter(dp_call *call, dp_filter **out, ort_json v, const char *where);

/* Optional members of a body: absent and null leave *out as it is. ORT_EFORMAT. */
ORT_NODISCARD ort_err dp_call_get_bool(dp_call *call, ort_json object, const char *key, bool *out);
ORT_NODISCARD ort_err dp_call_get_u64(dp_call *call, ort_json object, const char *key,
                                      uint64_t *out);

/* "invalid type: ..., expected what" for a value of a body. */
ort_err dp_call_bad_type(dp_call *call, const char *key, ort_json v, const char *expected);
ort_err dp_call_missing(dp_call *call, const char *key);

/* --- error.c: Qdrant's envelope for what went wrong ------------------------------------------- */

/* The status and the whole text an error answers with. */
int dp_api__error_status(ort_err err);
void dp_api__error_text(ort_err err, dp_place place, const char *detail, ort_buf *out);

/* Answers with it. seconds: since the request began. */
void dp_api__reply_error(ort_http_req *req, int status, const char *text);
void dp_api__refuse(ort_http_req *req, ort_err err, const char *detail, void *user);
void dp_api__reply_refusal(dp_call *call);

/* --- run.c: the way of a call ------------------------------------------------------------------
 */
bool dp_api__admit(ort_http_req *req, void *user);
void dp_api__run(ort_http_req *req, void *user);
void dp_api__done(ort_http_req *req, const ort_http_outcome *outcome, void *user);

/* Writes the value of `time`: seconds since the request began. */
void dp_api__write_time(ort_jw *w, const ort_http_req *req);

/* --- forward.c ---------------------------------------------------------------------------------
 */
void dp_api__forward(dp_call *call);

/* The header that marks a request from another node; a client that sends it only loses the way on.
 */
#define DP_API_FORWARDED "x-orthant-forwarded"

/* --- observe.c ---------------------------------------------------------------------------------
 */
ORT_NODISCARD ort_err dp_api__observe_init(dp_api *api);
void dp_api__observe(dp_api *api, const ort_http_req *req, const ort_http_outcome *outcome);
void dp_api__observe_stages(dp_call *call, int status);

/* --- routes.c ----------------------------------------------------------------------------------
 */
extern const ort_http_route dp_api__routes[];
extern const size_t dp_api__route_count;

/* --- handlers ----------------------------------------------------------------------------------
 */

/* service.c */
ort_err dp_api__root(dp_call *call);
ort_err dp_api__healthz(dp_call *call);
ort_err dp_api__readyz(dp_call *call);
ort_err dp_api__metrics(dp_call *call);
ort_err dp_api__cluster(dp_call *call);
ort_err dp_api__telemetry(dp_call *call);

/* operator.c */
ort_err dp_api__collection_cluster(dp_call *call);
ort_err dp_api__collection_optimizations(dp_call *call);
ort_err dp_api__collection_memory(dp_call *call);
ort_err dp_api__issues(dp_call *call);
ort_err dp_api__issues_clear(dp_call *call);
ort_err dp_api__standalone(dp_call *call);
ort_err dp_api__operators_only(dp_call *call);

/* collections.c */
ort_err dp_api__collections_list(dp_call *call);
ort_err dp_api__collection_create(dp_call *call);
ort_err dp_api__collection_get(dp_call *call);
ort_err dp_api__collection_patch(dp_call *call);
ort_err dp_api__collection_delete(dp_call *call);
ort_err dp_api__collection_exists(dp_call *call);

/* vectors.c */
ort_err dp_api__vector_add(dp_call *call);
ort_err dp_api__vector_drop(dp_call *call);

/* indexes.c */
ort_err dp_api__index_create(dp_call *call);
ort_err dp_api__index_delete(dp_call *call);

/* The answer of a change of indexes or vectors is that of a write: it names the newest operation.
 */
ort_err dp_api__write_newest(dp_call *call, bool wait);

/* Writes the object `payload_schema` of a collection. */
void dp_api__write_payload_schema(dp_call *call, const dp_schema *schema,
                                  const dp_collection_info *info);

/* aliases.c */
ort_err dp_api__aliases_change(dp_call *call);
ort_err dp_api__aliases_list(dp_call *call);
ort_err dp_api__collection_aliases(dp_call *call);

/* points_write.c */
void dp_api__write_update_result(ort_jw *w, uint64_t operation_id, bool wait);
ort_err dp_api__points_upsert(dp_call *call);
ort_err dp_api__points_delete(dp_call *call);
ort_err dp_api__payload_set(dp_call *call);
ort_err dp_api__payload_overwrite(dp_call *call);
ort_err dp_api__payload_delete(dp_call *call);
ort_err dp_api__payload_clear(dp_call *call);
ort_err dp_api__vectors_update(dp_call *call);
ort_err dp_api__vectors_delete(dp_call *call);
ort_err dp_api__points_batch(dp_call *call);

/* points_read.c */
ort_err dp_api__point_get(dp_call *call);
ort_err dp_api__points_retrieve(dp_call *call);
ort_err dp_api__points_scroll(dp_call *call);
ort_err dp_api__points_count(dp_call *call);

/* query.c */
ort_err dp_api__query(dp_call *call);
ort_err dp_api__query_batch(dp_call *call);
ort_err dp_api__search(dp_call *call);
ort_err dp_api__search_batch(dp_call *call);
ort_err dp_api__recommend(dp_call *call);
ort_err dp_api__recommend_batch(dp_call *call);
ort_err dp_api__discover(dp_call *call);
ort_err dp_api__discover_batch(dp_call *call);

/* groups.c */
ort_err dp_api__query_groups(dp_call *call);
ort_err dp_api__search_groups(dp_call *call);
ort_err dp_api__recommend_groups(dp_call *call);

/* matrix.c */
ort_err dp_api__matrix_pairs(dp_call *call);
ort_err dp_api__matrix_offsets(dp_call *call);

/* strict.c: the call against its collection's strict mode. ORT_EBADREQ, ORT_ERATE. */
ORT_NODISCARD ort_err dp_api__check_strict(dp_call *call);

/* snapshots.c */
ort_err dp_api__snapshot_create(dp_call *call);
ort_err dp_api__snapshots_list(dp_call *call);
ort_err dp_api__snapshot_get(dp_call *call);
ort_err dp_api__snapshot_delete(dp_call *call);
ort_err dp_api__snapshot_upload(dp_call *call);
ort_err dp_api__snapshot_recover(dp_call *call);
ort_err dp_api__snapshots_whole(dp_call *call);

/* The region of this node; "" while its table does not have it. */
const char *dp_api__region(const dp_table *table);

/* Answers with a file, as it is read; and reads a body into one, as it comes: a form's part
 * `snapshot`, or any other body as it is. */
void dp_api__send_file(dp_call *call, int fd, uint64_t bytes, const char *name);
ort_err dp_api__receive_file(dp_call *call, dp_tenant_file *file);

/* 202 {"status": "accepted"} */
void dp_api__reply_accepted(dp_call *call);

/* backups.c */
ort_err dp_api__backup(dp_call *call);
ort_err dp_api__restore(dp_call *call);
ort_err dp_api__clone(dp_call *call);

/* facet.c */
ort_err dp_api__facet(dp_call *call);
#endif /* DP_API_INTERNAL_H */
