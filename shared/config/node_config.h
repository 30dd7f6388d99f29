/* shared/config/node_config.h: what orthant-node can be told. The table in node_config.c has every
 * key's default, range and unit; docs/reference/config.md shows them. */
#ifndef ORT_NODE_CONFIG_H
#define ORT_NODE_CONFIG_H
#include "base/log.h"
#include "config/config.h"

typedef struct {
    char *data_dir;     /* data_dir: tenants, credential, last table */
    char *name;         /* name: of this node, for people; "" = the host's */
    char *region;       /* region: a region the hub knows */
    char *zone;         /* zone: failure domain in it */
    uint32_t log_level; /* log.level: ort_log_level */

    struct {                      /* http.*: the data API */
        char *listen;             /* "127.0.0.1:6333"; TLS when tls_cert is given */
        char *listen_plain;       /* a second, plain listener (health, proxy); "" = none */
        char *endpoint;           /* URL that clients use; "" = made from listen */
        char *tls_cert, *tls_key; /* PEM files; "" = plain HTTP */
        bool allow_plain;         /* plain HTTP also off loopback */
        uint32_t threads;         /* connections at once */
        uint32_t inflight_max;    /* requests in work at once */
        uint32_t keep_alive_ms;   /* idle connections are closed after this */
        uint32_t head_ms;         /* time for a request's head */
        uint32_t request_ms;      /* a request's deadline */
        uint32_t body_chunk_ms;   /* time for each 64 KiB of a body */
        uint32_t body_total_ms;   /* time for a whole body */
        uint64_t body_bytes_max;  /* one request body */
        uint32_t drain_grace_ms, drain_wait_ms; /* at stop */
        ort_config_strings cors_origins;        /* empty = no CORS */
        bool metrics_public;                    /* /metrics without a key also off loopback */
    } http;

    struct {                        /* hub.*: the control plane */
        ort_config_strings urls;    /* NNG URLs where nodes join */
        ort_config_strings publish; /* NNG URLs of hints, same order; none: as the hub says */
        char *control;              /* NNG URL for hello, heartbeat, fetch; "": as the hub says */
        char *join_token_file;      /* file with the one-time token; "" once joined */
        bool allow_plain;           /* plain tcp:// off loopback */
        uint32_t heartbeat_ms;      /* between heartbeats */
    } hub;

    struct {          /* forward.*: requests between nodes */
        char *listen; /* NNG URL: "tls+tcp://127.0.0.1:7402"; "" = none */
        char *url;    /* how other nodes reach it; "" = listen */
        uint32_t timeout_ms;
    } forward;

    struct {                         /* limits.* of this node */
        uint64_t memory_bytes;       /* 0 = 80 % of what the control group or machine allows */
        uint64_t disk_bytes;         /* capacity it offers; 0 = that of its file system */
        uint64_t disk_reserve_bytes; /* writes are refused when less is free */
        uint32_t cpu_slots;          /* requests on CPU at once; 0 = CPUs it may use */
        uint32_t queue_per_tenant;   /* requests of one tenant that may wait for a slot */
        uint32_t collections_open;   /* at once; idle ones are closed first */
        uint32_t tenant_idle_s;      /* an unused tenant's files are closed after this */
    } limits;

    struct {                  /* scrub.* */
        uint64_t bytes_per_s; /* of closed collections, read and checked; 0 = never */
        uint32_t round_hours; /* how often all of them */
    } scrub;

    struct {                    /* index.* */
        uint32_t build_threads; /* 0 = all the CPUs */
    } index;
} ort_node_config;

extern const ort_config_schema ort_node_config_schema;
#endif /* ORT_NODE_CONFIG_H */
