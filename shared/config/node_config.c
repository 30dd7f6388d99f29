/* orthant-node's keys: the one place with their names, defaults, ranges and units. */
#include "config/node_config.h"

#include <assert.h>

#include "base/limits.h"
#include "rules.h"

#define STRING(path_, field, otherwise_, min_, max_, help_)                                   \
    {                                                                                         \
        .path = path_, .type = ORT_CONFIG_STRING, .offset = offsetof(ort_node_config, field), \
        .otherwise = otherwise_, .min = min_, .max = max_, .unit = "", .help = help_          \
    }
#define LIST(path_, field, otherwise_, min_, max_, help_)                                      \
    {                                                                                          \
        .path = path_, .type = ORT_CONFIG_STRINGS, .offset = offsetof(ort_node_config, field), \
        .otherwise = otherwise_, .min = min_, .max = max_, .unit = "", .help = help_           \
    }
#define NUMBER(path_, field, otherwise_, min_, max_, unit_, help_)                         \
    {                                                                                      \
        .path = path_, .type = ORT_CONFIG_U32, .offset = offsetof(ort_node_config, field), \
        .otherwise = otherwise_, .min = min_, .max = max_, .unit = unit_, .help = help_    \
    }
#define NUMBER64(path_, field, otherwise_, min_, max_, unit_, help_)                       \
    {                                                                                      \
        .path = path_, .type = ORT_CONFIG_U64, .offset = offsetof(ort_node_config, field), \
        .otherwise = otherwise_, .min = min_, .max = max_, .unit = unit_, .help = help_    \
    }
#define BOOL(path_, field, otherwise_, help_)                                               \
    {                                                                                       \
        .path = path_, .type = ORT_CONFIG_BOOL, .offset = offsetof(ort_node_config, field), \
        .otherwise = otherwise_, .unit = "", .help = help_                                  \
    }
#define PATH_MAX_ ORT_CONFIG_PATH_BYTES_MAX
#define URL_MAX_ ORT_CONFIG_URL_BYTES_MAX

static const ort_config_key keys[] = {
    STRING("data_dir", data_dir, NULL, 1, PATH_MAX_,
           "Directory of tenants, credential and last table; made when missing."),
    STRING("name", name, "", 0, 63, "The node's name, for people; empty: the host's name."),
    STRING("region", region, NULL, 1, 63, "The region it stands in; the hub must know it."),
    STRING("zone", zone, "default", 1, 63, "Failure domain in the region."),
    {.path = "log.level",
     .type = ORT_CONFIG_CHOICE,
     .offset = offsetof(ort_node_config, log_level),
     .otherwise = "info",
     .unit = "",
     .choices = ort_config__log_levels,
     .help = "Lines below this level are not written."},

    STRING("http.listen", http.listen, "127.0.0.1:6333", 9, 64,
           "IPv4 address and port of the data API; TLS when a certificate is given."),
    STRING("http.listen_plain", http.listen_plain, "", 0, 64,
           "A second listener, always plain, for health checks and a local proxy; empty: none."),
    STRING("http.endpoint", http.endpoint, "", 0, URL_MAX_,
           "URL that clients use; empty: made from `http.listen`."),
    STRING("http.tls_cert", http.tls_cert, "", 0, PATH_MAX_,
           "PEM file with certificate and chain; empty: plain HTTP. Read again on SIGHUP."),
    STRING("http.tls_key", http.tls_key, "", 0, PATH_MAX_,
           "PEM file with the certificate's private key."),
    BOOL("http.allow_plain", http.allow_plain, "false",
         "Serve plain HTTP also on an address that is not loopback."),
    NUMBER("http.threads", http.threads, "2048", 8, 65000, "threads",
           "Connections served at once; each holds a thread while it is open (33 KB)."),
    NUMBER("http.inflight_max", http.inflight_max, "1024", 1, 65000, "requests",
           "Requests in work at once; more get 503."),
    NUMBER("http.keep_alive_ms", http.keep_alive_ms, "60000", 100, 3600000, "ms",
           "An idle connection is closed after this."),
    NUMBER("http.head_ms", http.head_ms, "10000", 100, 600000, "ms",
           "Time for a request's head to come."),
    NUMBER("http.request_ms", http.request_ms, "60000", 100, 3600000, "ms",
           "Deadline of a request."),
    NUMBER("http.body_chunk_ms", http.body_chunk_ms, "10000", 100, 600000, "ms",
           "Time for each 64 KiB of a body to come."),
    NUMBER("http.body_total_ms", http.body_total_ms, "60000", 100, 3600000, "ms",
           "Time for a whole body to come."),
    NUMBER64("http.body_bytes_max", http.body_bytes_max, "33554432", 1024, 1u << 30, "bytes",
             "Size of a request's body; Qdrant's own default is 32 MiB."),
    NUMBER("http.drain_grace_ms", http.drain_grace_ms, "1000", 0, 600000, "ms",
           "At stop: how long requests are still taken while `/readyz` says 503."),
    NUMBER("http.drain_wait_ms", http.drain_wait_ms, "30000", 0, 600000, "ms",
           "At stop: how long requests in work may take to end."),
    LIST("http.cors_origins", http.cors_origins, "", 0, 64,
         "Origins whose pages may call the API; empty: none."),
    BOOL("http.metrics_public", http.metrics_public, "false",
         "Answer `/metrics` without a key also to clients that are not on loopback."),

    LIST("hub.urls", hub.urls, NULL, 1, 8, "NNG URLs of the hub where nodes join."),
    LIST("hub.publish", hub.publish, "", 0, 8,
         "NNG URLs of the hub's hints, in the order of `hub.urls`; empty: as the hub says."),
    STRING(
        "hub.control", hub.control, "", 0, URL_MAX_,
        "NNG URL where the hub takes heartbeats; empty: as it said at the join. For a hub that has "
        "moved."),
    STRING("hub.join_token_file", hub.join_token_file, "", 0, PATH_MAX_,
           "File with the one-time join token; not needed any more once the node has joined."),
    BOOL("hub.allow_plain", hub.allow_plain, "false",
         "Take plain tcp:// also to an address that is not loopback."),
    NUMBER("hub.heartbeat_ms", hub.heartbeat_ms, "1000", 100, 60000, "ms",
           "Time between heartbeats."),

    STRING("forward.listen", forward.listen, "tls+tcp://127.0.0.1:7403", 0, URL_MAX_,
           "NNG URL where other nodes hand over requests; empty: none."),
    STRING("forward.url", forward.url, "", 0, URL_MAX_,
           "NNG URL by which other nodes reach it; empty: `forward.listen`."),
    NUMBER("forward.timeout_ms", forward.timeout_ms, "30000", 100, 600000, "ms",
           "How long a forwarded request may take."),

    NUMBER64("limits.memory_bytes", limits.memory_bytes, "0", 0, UINT64_MAX, "bytes",
             "Memory budget; 0: 80 % of what the control group or the machine allows."),
    NUMBER64("limits.disk_bytes", limits.disk_bytes, "0", 0, UINT64_MAX, "bytes",
             "Capacity the node offers; 0: that of its file system."),
    NUMBER64("limits.disk_reserve_bytes", limits.disk_reserve_bytes, "1073741824", 0, UINT64_MAX,
             "bytes", "Writes are refused when less than this is free."),
    NUMBER("limits.cpu_slots", limits.cpu_slots, "0", 0, 4096, "requests",
           "Requests on CPU at once; 0: the CPUs it may use."),
    NUMBER("limits.queue_per_tenant", limits.queue_per_tenant, "256", 1, 65000, "requests",
           "Requests of one tenant that may wait for a CPU slot; more get 503."),
    NUMBER("limits.collections_open", limits.collections_open, "1024", 1, 1000000, "collections",
           "Collections open at once; idle ones are closed first."),
    NUMBER("limits.tenant_idle_s", limits.tenant_idle_s, "300", 1, 86400, "s",
           "A tenant's files are closed when it has been idle for this long."),

    NUMBER64("scrub.bytes_per_s", scrub.bytes_per_s, "8388608", 0, UINT64_MAX, "bytes",
             "Rate at which closed collections are read and checked for damage; 0: never."),
    NUMBER("scrub.round_hours", scrub.round_hours, "168", 0, 87600, "hours",
           "A round over all of them is not begun sooner after the one before."),

    NUMBER("index.build_threads", index.build_threads, "0", 0, 256, "threads",
           "Threads that build indexes; 0: all the CPUs; they give way to requests."),
};

static ort_err
check(const void *config, ort_diag *diag)
{
    const ort_node_config *c = config;
    ort_err err = ort_config__tls_pair("http", c->http.tls_cert, c->http.tls_key, diag);

    if (err == ORT_OK) {
        err = ort_config__name("region", c->region, diag);
    }
    if (err == ORT_OK) {
        err = ort_config__name("zone", c->zone, diag);
    }
    for (uint64_t i = 0; err == ORT_OK && i < c->hub.urls.count; i++) {
        err = ort_config__nng_url("hub.urls", c->hub.urls.items[i], diag);
    }
    for (uint64_t i = 0; err == ORT_OK && i < c->hub.publish.count; i++) {
        err = ort_config__nng_url("hub.publish", c->hub.publish.items[i], diag);
    }
    if (err == ORT_OK) {
        err = ort_config__nng_url("hub.control", c->hub.control, diag);
    }
    if (err == ORT_OK) {
        err = ort_config__nng_url("forward.listen", c->forward.listen, diag);
    }
    if (err == ORT_OK) {
        err = ort_config__nng_url("forward.url", c->forward.url, diag);
    }
    return err;
}

static_assert(ORT_BODY_BYTES_MAX == 33554432, "the default of http.body_bytes_max");

const ort_config_schema ort_node_config_schema = {
    .program = "orthant-node",
    .about = "A data node of an Orthant hub.",
    .keys = keys,
    .key_count = sizeof keys / sizeof keys[0],
    .struct_bytes = sizeof(ort_node_config),
    .check = check,
};
