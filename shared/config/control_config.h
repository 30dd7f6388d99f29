/* shared/config/control_config.h: what orthant-control can be told. The table in control_config.c
 * has every key's default, range and unit; docs/reference/config.md shows them. */
#ifndef ORT_CONTROL_CONFIG_H
#define ORT_CONTROL_CONFIG_H
#include "base/log.h"
#include "config/config.h"

typedef struct {
    char *data_dir;     /* data_dir: database, hub CA, secrets */
    uint32_t log_level; /* log.level: ort_log_level */

    struct {                                    /* admin.*: the admin REST interface */
        char *listen;                           /* "127.0.0.1:7333" */
        char *url;                              /* how others reach it; "" = made from listen */
        char *tls_cert, *tls_key;               /* PEM files; "" = plain HTTP */
        bool allow_plain;                       /* plain HTTP also off loopback */
        uint32_t threads;                       /* connections at once */
        uint32_t inflight_max;                  /* requests in work at once */
        uint32_t request_ms;                    /* a request's deadline */
        uint32_t drain_grace_ms, drain_wait_ms; /* at stop */
        ort_config_strings cors_origins;        /* empty = no CORS */
        char *console_dir;                      /* built console; "" = none */
        char *bootstrap_token_file;             /* first operator's token, 0600; "" = none */
    } admin;

    struct {           /* hub.*: the side that nodes talk to */
        char *listen;  /* NNG URL where nodes join: "tls+tcp://127.0.0.1:7400" */
        char *publish; /* NNG URL for table hints: "tls+tcp://127.0.0.1:7401" */
        char *control; /* NNG URL for joined nodes: heartbeat, fetch; "" = listen, two ports on */
        ort_config_strings names; /* to dial, where it listens on every address */
        bool allow_plain;         /* plain tcp:// (loopback only) and ipc:// */
        uint32_t suspect_ms;      /* a node silent for this long is shown as suspect */
        uint32_t dead_ms;         /* and for this long as dead */
    } hub;

    struct {                  /* usage.* */
        uint32_t rollup_days; /* how long hourly rollups are kept */
    } usage;
} ort_control_config;

extern const ort_config_schema ort_control_config_schema;
#endif /* ORT_CONTROL_CONFIG_H */
