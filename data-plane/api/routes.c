/* Every path of the data API, what a key needs for it, and who answers. */
#include "api/api_internal.h"

#define READ DP_SCOPE_DATA_READ
#define WRITE DP_SCOPE_DATA_WRITE
#define MANAGE DP_SCOPE_COLLECTIONS_MANAGE
#define ANY_SCOPE (READ | WRITE | MANAGE)

#define ROUTE(verb, path, handler_fn, scopes, how, what)                                   \
    {                                                                                      \
        .method = ORT_HTTP_##verb, .pattern = path, .handler = dp_api__run,                \
        .extra = &(const dp_route)                                                         \
        {                                                                                  \
            .fn = handler_fn, .scopes_any = scopes, .flags = how, .meter = DP_METER_##what \
        }                                                                                  \
    }

/* Health answers whatever happens: no key, no cap, also while draining. */
#define PAGE(path, handler_fn)                                                    \
    {                                                                             \
        .method = ORT_HTTP_GET, .pattern = path, .handler = dp_api__run,          \
        .flags = ORT_HTTP_ROUTE_ALWAYS, .extra = &(const dp_route)                \
        {                                                                         \
            .fn = handler_fn, .flags = DP_ROUTE_PUBLIC, .meter = DP_METER_REQUEST \
        }                                                                         \
    }

/* Bodies and answers as large as a snapshot: read and written as they come, for as long as every
 * 64 KiB of them come in time. */
#define STREAM_TOTAL_MS (6u * 3600u * 1000u)
#define STREAM(verb, path, handler_fn, scopes, how)                                   \
    {                                                                                 \
        .method = ORT_HTTP_##verb, .pattern = path, .handler = dp_api__run,           \
        .flags = ORT_HTTP_ROUTE_STREAM, .body_bytes_max = SIZE_MAX / 2,               \
        .body_total_ms = STREAM_TOTAL_MS, .extra = &(const dp_route)                  \
        {                                                                             \
            .fn = handler_fn, .scopes_any = scopes, .flags = (how) | DP_ROUTE_STREAM, \
            .meter = DP_METER_REQUEST                                                 \
        }                                                                             \
    }

#define GRANTED(verb, path, handler_fn)                                     \
    {                                                                       \
        .method = ORT_HTTP_##verb, .pattern = path, .handler = dp_api__run, \
        .flags = ORT_HTTP_ROUTE_STREAM, .body_bytes_max = SIZE_MAX / 2,     \
        .body_total_ms = STREAM_TOTAL_MS, .extra = &(const dp_route)        \
        {                                                                   \
            .fn = handler_fn, .flags = DP_ROUTE_PUBLIC | DP_ROUTE_STREAM,   \
            .meter = DP_METER_REQUEST                                       \
        }                                                                   \
    }

#define C "/collections/{collection}"
#define P C "/points"
#define STORES DP_ROUTE_STORES
#define GROWS (DP_ROUTE_STORES | DP_ROUTE_GROWS)
#define STANDALONE(verb, path) ROUTE(verb, path, dp_api__standalone, ANY_SCOPE, 0, REQUEST)
#define OPERATOR(verb, path) ROUTE(verb, path, dp_api__operators_only, ANY_SCOPE, 0, REQUEST)

const ort_http_route dp_api__routes[] = {
    PAGE("/", dp_api__root),
    PAGE("/healthz", dp_api__healthz),
    PAGE("/livez", dp_api__healthz),
    PAGE("/readyz", dp_api__readyz),
    PAGE("/metrics", dp_api__metrics),
    ROUTE(GET, "/cluster", dp_api__cluster, ANY_SCOPE, 0, REQUEST),
    ROUTE(GET, "/telemetry", dp_api__telemetry, ANY_SCOPE, 0, REQUEST),
    ROUTE(GET, "/issues", dp_api__issues, ANY_SCOPE, 0, REQUEST),
    ROUTE(DELETE, "/issues", dp_api__issues_clear, MANAGE, 0, REQUEST),
    STANDALONE(GET, "/cluster/telemetry"),
    STANDALONE(POST, "/cluster/recover"),
    STANDALONE(DELETE, "/cluster/peer/{peer}"),
    OPERATOR(GET, "/quotas"),
    OPERATOR(PUT, "/quotas"),
    OPERATOR(GET, "/audit/logs"),
    OPERATOR(GET, "/logger"),
    OPERATOR(POST, "/logger"),
    OPERATOR(GET, "/profiler/slow_requests"),
    OPERATOR(GET, "/stacktrace"),
    OPERATOR(GET, "/debugger"),
    OPERATOR(PATCH, "/debugger"),

    ROUTE(GET, "/collections", dp_api__collections_list, ANY_SCOPE, 0, REQUEST),
    ROUTE(GET, C, dp_api__collection_get, ANY_SCOPE, 0, REQUEST),
    ROUTE(PUT, C, dp_api__collection_create, MANAGE, STORES, REQUEST),
    ROUTE(PATCH, C, dp_api__collection_patch, MANAGE, STORES, REQUEST),
    ROUTE(DELETE, C, dp_api__collection_delete, MANAGE, STORES, REQUEST),
    ROUTE(GET, C "/exists", dp_api__collection_exists, ANY_SCOPE, 0, REQUEST),
    ROUTE(GET, "/aliases", dp_api__aliases_list, ANY_SCOPE, 0, REQUEST),
    ROUTE(POST, "/collections/aliases", dp_api__aliases_change, MANAGE, STORES, REQUEST),
    ROUTE(GET, C "/aliases", dp_api__collection_aliases, ANY_SCOPE, 0, REQUEST),
    ROUTE(GET, C "/cluster", dp_api__collection_cluster, ANY_SCOPE, 0, REQUEST),
    ROUTE(GET, C "/optimizations", dp_api__collection_optimizations, ANY_SCOPE, 0, REQUEST),
    ROUTE(GET, C "/memory", dp_api__collection_memory, ANY_SCOPE, 0, REQUEST),
    STANDALONE(POST, C "/cluster"),
    STANDALONE(GET, C "/shards"),
    STANDALONE(PUT, C "/shards"),
    STANDALONE(POST, C "/shards/delete"),

    ROUTE(PUT, C "/vectors/{vector}", dp_api__vector_add, MANAGE, STORES, REQUEST),
    ROUTE(DELETE, C "/vectors/{vector}", dp_api__vector_drop, MANAGE, STORES, REQUEST),
    ROUTE(PUT, C "/index", dp_api__index_create, MANAGE, STORES, REQUEST),
    ROUTE(DELETE, C "/index/{field}", dp_api__index_delete, MANAGE, STORES, REQUEST),

    ROUTE(PUT, P, dp_api__points_upsert, WRITE, GROWS, WRITE),
    ROUTE(POST, P, dp_api__points_retrieve, READ, 0, REQUEST),
    ROUTE(GET, P "/{id}", dp_api__point_get, READ, 0, REQUEST),
    ROUTE(POST, P "/delete", dp_api__points_delete, WRITE, STORES, WRITE),
    ROUTE(POST, P "/payload", dp_api__payload_set, WRITE, GROWS, WRITE),
    ROUTE(PUT, P "/payload", dp_api__payload_overwrite, WRITE, GROWS, WRITE),
    ROUTE(POST, P "/payload/delete", dp_api__payload_delete, WRITE, STORES, WRITE),
    ROUTE(POST, P "/payload/clear", dp_api__payload_clear, WRITE, STORES, WRITE),
    ROUTE(PUT, P "/vectors", dp_api__vectors_update, WRITE, GROWS, WRITE),
    ROUTE(POST, P "/vectors/delete", dp_api__vectors_delete, WRITE, STORES, WRITE),
    /* A batch may consist of deletes alone, so a full tenant is not turned away at its head. */
    ROUTE(POST, P "/batch", dp_api__points_batch, WRITE, STORES, WRITE),
    ROUTE(POST, P "/scroll", dp_api__points_scroll, READ, 0, REQUEST),
    ROUTE(POST, P "/count", dp_api__points_count, READ, 0, REQUEST),

    ROUTE(POST, P "/query", dp_api__query, READ, 0, SEARCH),
    ROUTE(POST, P "/query/batch", dp_api__query_batch, READ, 0, SEARCH),
    ROUTE(POST, P "/query/groups", dp_api__query_groups, READ, 0, SEARCH),
    ROUTE(POST, P "/search/groups", dp_api__search_groups, READ, 0, SEARCH),
    ROUTE(POST, P "/recommend", dp_api__recommend, READ, 0, SEARCH),
    ROUTE(POST, P "/recommend/batch", dp_api__recommend_batch, READ, 0, SEARCH),
    ROUTE(POST, P "/recommend/groups", dp_api__recommend_groups, READ, 0, SEARCH),
    ROUTE(POST, P "/discover", dp_api__discover, READ, 0, SEARCH),
    ROUTE(POST, P "/discover/batch", dp_api__discover_batch, READ, 0, SEARCH),
    ROUTE(POST, P "/search/matrix/pairs", dp_api__matrix_pairs, READ, 0, SEARCH),
    ROUTE(POST, P "/search/matrix/offsets", dp_api__matrix_offsets, READ, 0, SEARCH),
    ROUTE(POST, C "/facet", dp_api__facet, READ, 0, REQUEST),
    ROUTE(POST, P "/search", dp_api__search, READ, 0, SEARCH),
    ROUTE(POST, P "/search/batch", dp_api__search_batch, READ, 0, SEARCH),

    ROUTE(GET, C "/snapshots", dp_api__snapshots_list, READ | MANAGE, 0, REQUEST),
    ROUTE(POST, C "/snapshots", dp_api__snapshot_create, MANAGE, STORES, REQUEST),
    STREAM(GET, C "/snapshots/{snapshot}", dp_api__snapshot_get, READ, 0),
    ROUTE(DELETE, C "/snapshots/{snapshot}", dp_api__snapshot_delete, MANAGE, STORES, REQUEST),
    STREAM(POST, C "/snapshots/upload", dp_api__snapshot_upload, MANAGE, STORES),
    ROUTE(PUT, C "/snapshots/recover", dp_api__snapshot_recover, MANAGE, 0, REQUEST),
    ROUTE(GET, "/snapshots", dp_api__snapshots_whole, MANAGE, 0, REQUEST),
    ROUTE(POST, "/snapshots", dp_api__snapshots_whole, MANAGE, 0, REQUEST),

    /* By a grant of the hub and no key: dp_api__* in backups.c. */
    GRANTED(GET, "/tenant/backup", dp_api__backup),
    GRANTED(POST, "/tenant/restore", dp_api__restore),
    GRANTED(POST, "/tenant/clone", dp_api__clone),
};

const size_t dp_api__route_count = sizeof dp_api__routes / sizeof dp_api__routes[0];
