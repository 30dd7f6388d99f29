/* What at Qdrant belongs to whoever runs the server. A tenant is shown its own collections as if
 * each stood on one machine of its own; the node, its other tenants and the nodes beside it are the
 * hub operator's, and a call for them is refused in words. */
#include "api/api_internal.h"

/* One shard, on one peer, active: what clients draw. The peer has no name here. */
ort_err
dp_api__collection_cluster(dp_call *call)
{
    ort_jw *w = &call->w;
    dp_collection_info info;
    const ort_err err = dp_call_use_collection(call);
    if (err != ORT_OK) {
        return err;
    }
    dp_collection_get_info(call->collection, &info);
    ort_jw_object(w);
    ort_jw_key(w, "peer_id");
    ort_jw_u64(w, 0);
    ort_jw_key(w, "shard_count");
    ort_jw_u64(w, 1);
    ort_jw_key(w, "local_shards");
    ort_jw_array(w);
    ort_jw_object(w);
    ort_jw_key(w, "shard_id");
    ort_jw_u64(w, 0);
    ort_jw_key(w, "points_count");
    ort_jw_u64(w, info.points);
    ort_jw_key(w, "state");
    ort_jw_str(w, info.error == NULL ? "Active" : "Dead");
    ort_jw_object_end(w);
    ort_jw_array_end(w);
    ort_jw_key(w, "remote_shards");
    ort_jw_raw(w, "[]", 2);
    ort_jw_key(w, "shard_transfers");
    ort_jw_raw(w, "[]", 2);
    ort_jw_object_end(w);
    return ORT_OK;
}

/* What waits for a graph, in Qdrant's shape. Which job runs is the node's business. */
ort_err
dp_api__collection_optimizations(dp_call *call)
{
    ort_jw *w = &call->w;
    dp_collection_info info;
    const ort_err err = dp_call_use_collection(call);
    if (err != ORT_OK) {
        return err;
    }
    dp_collection_get_info(call->collection, &info);
    const uint64_t waiting =
        info.green || info.vectors < info.indexed_vectors ? 0 : info.vectors - info.indexed_vectors;
    ort_jw_object(w);
    ort_jw_key(w, "summary");
    ort_jw_object(w);
    ort_jw_key(w, "queued_optimizations");
    ort_jw_u64(w, info.green ? 0 : 1);
    ort_jw_key(w, "queued_segments");
    ort_jw_u64(w, info.green ? 0 : 1);
    ort_jw_key(w, "queued_points");
    ort_jw_u64(w, waiting);
    ort_jw_key(w, "idle_segments");
    ort_jw_u64(w, info.green ? info.segments : info.segments - 1);
    ort_jw_object_end(w);
    ort_jw_key(w, "running");
    ort_jw_raw(w, "[]", 2);
    ort_jw_object_end(w);
    return ORT_OK;
}

/* In all; what the parts of a collection share is not told apart here. */
ort_err
dp_api__collection_memory(dp_call *call)
{
    ort_jw *w = &call->w;
    dp_collection_info info;
    const ort_err err = dp_call_use_collection(call);
    if (err != ORT_OK) {
        return err;
    }
    dp_collection_get_info(call->collection, &info);
    const uint64_t memory = dp_collection_memory(call->collection);
    ort_jw_object(w);
    ort_jw_key(w, "total");
    ort_jw_object(w);
    ort_jw_key(w, "disk_bytes");
    ort_jw_u64(w, info.disk_bytes);
    ort_jw_key(w, "ram_bytes");
    ort_jw_u64(w, memory);
    ort_jw_key(w, "cached_bytes");
    ort_jw_u64(w, 0);
    ort_jw_key(w, "expected_cache_bytes");
    ort_jw_u64(w, 0);
    ort_jw_object_end(w);
    ort_jw_object_end(w);
    return ORT_OK;
}

/* Advice on how a server is used: there is none to give. */
ort_err
dp_api__issues(dp_call *call)
{
    ort_jw_object(&call->w);
    ort_jw_key(&call->w, "issues");
    ort_jw_raw(&call->w, "[]", 2);
    ort_jw_object_end(&call->w);
    return ORT_OK;
}

ort_err
dp_api__issues_clear(dp_call *call)
{
    ort_jw_bool(&call->w, true);
    return ORT_OK;
}

/* Shards, peers and their moves: as a Qdrant that stands alone answers. */
ort_err
dp_api__standalone(dp_call *call)
{
    return ort_fail(&call->diag, ORT_EMETHOD,
                    "Distributed mode disabled: where a tenant's data lies is for the hub to say");
}

ort_err
dp_api__operators_only(dp_call *call)
{
    return ort_fail(&call->diag, ORT_EDENIED, "%s is for the operator of the hub, not for a tenant",
                    ort_http_req_route(call->req)->pattern);
}
