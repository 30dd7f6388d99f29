/* orthant-control's keys: the one place with their names, defaults, ranges and units. */
#include "config/control_config.h"

#include "rules.h"

#define STRING(path_, field, otherwise_, min_, max_, help_)                                      \
    {                                                                                            \
        .path = path_, .type = ORT_CONFIG_STRING, .offset = offsetof(ort_control_config, field), \
        .otherwise = otherwise_, .min = min_, .max = max_, .unit = "", .help = help_             \
    }
#define LIST(path_, field, otherwise_, min_, max_, help_)                                         \
    {                                                                                             \
        .path = path_, .type = ORT_CONFIG_STRINGS, .offset = offsetof(ort_control_config, field), \
        .otherwise = otherwise_, .min = min_, .max = max_, .unit = "", .help = help_              \
    }
#define NUMBER(path_, field, otherwise_, min_, max_, unit_, help_)                            \
    {                                                                                         \
        .path = path_, .type = ORT_CONFIG_U32, .offset = offsetof(ort_control_config, field), \
        .otherwise = otherwise_, .min = min_, .max = max_, .unit = unit_, .help = help_       \
    }
#define BOOL(path_, field, otherwise_, help_)                                                  \
    {                                                                                          \
        .path = path_, .type = ORT_CONFIG_BOOL, .offset = offsetof(ort_control_config, field), \
        .otherwise = otherwise_, .unit = "", .help = help_                                     \
    }
#define PATH_MAX_ ORT_CONFIG_PATH_BYTES_MAX
#define URL_MAX_ ORT_CONFIG_URL_BYTES_MAX

static const ort_config_key keys[] = {
    STRING("data_dir", data_dir, NULL, 1, PATH_MAX_,
           "Directory of the database, the hub's authority and its secrets; made when missing."),
    {.path = "log.level",
     .type = ORT_CONFIG_CHOICE,
     .offset = offsetof(ort_control_config, log_level),
     .otherwise = "info",
     .unit = "",
     .choices = ort_config__log_levels,
     .help = "Lines below this level are not written."},

    STRING("admin.listen", admin.listen, "127.0.0.1:7333", 9, 64,
           "IPv4 address and port of the admin REST interface."),
    STRING("admin.url", admin.url, "", 0, URL_MAX_,
           "URL by which others reach it; empty: made from `admin.listen`."),
    STRING("admin.tls_cert", admin.tls_cert, "", 0, PATH_MAX_,
           "PEM file with certificate and chain; empty: plain HTTP. Read again on SIGHUP."),
    STRING("admin.tls_key", admin.tls_key, "", 0, PATH_MAX_,
           "PEM file with the certificate's private key."),
    BOOL("admin.allow_plain", admin.allow_plain, "false",
         "Serve plain HTTP also on an address that is not loopback."),
    NUMBER("admin.threads", admin.threads, "128", 4, 16384, "threads",
           "Connections served at once; each holds a thread while it is open."),
    NUMBER("admin.inflight_max", admin.inflight_max, "64", 1, 16384, "requests",
           "Requests in work at once; more get 503."),
    NUMBER("admin.request_ms", admin.request_ms, "60000", 100, 3600000, "ms",
           "Deadline of a request."),
    NUMBER("admin.drain_grace_ms", admin.drain_grace_ms, "500", 0, 600000, "ms",
           "At stop: how long requests are still taken while `/readyz` says 503."),
    NUMBER("admin.drain_wait_ms", admin.drain_wait_ms, "10000", 0, 600000, "ms",
           "At stop: how long requests in work may take to end."),
    LIST("admin.cors_origins", admin.cors_origins, "", 0, 64,
         "Origins whose pages may call the interface; empty: none."),
    STRING("admin.console_dir", admin.console_dir, "", 0, PATH_MAX_,
           "Directory of the built console; empty: none is served."),
    STRING(
        "admin.bootstrap_token_file", admin.bootstrap_token_file, "", 0, PATH_MAX_,
        "File (0600) that the first start writes the first operator's token to, besides standard "
        "output; empty: none."),

    STRING("hub.listen", hub.listen, "tls+tcp://127.0.0.1:7400", 1, URL_MAX_,
           "NNG URL where nodes join."),
    STRING("hub.publish", hub.publish, "tls+tcp://127.0.0.1:7401", 1, URL_MAX_,
           "NNG URL where table hints are published."),
    STRING("hub.control", hub.control, "", 0, URL_MAX_,
           "NNG URL where joined nodes send heartbeats and fetch tables; empty: `hub.listen`, two "
           "ports on."),
    LIST("hub.names", hub.names, "localhost,127.0.0.1", 1, 64,
         "Where the hub listens on every address: nodes are told to dial the first of these."),
    BOOL("hub.allow_plain", hub.allow_plain, "false",
         "Take plain tcp:// and ipc:// for the hub's URLs, tcp:// on loopback only."),
    NUMBER("hub.suspect_ms", hub.suspect_ms, "3000", 500, 3600000, "ms",
           "A node that is silent for this long is shown as suspect."),
    NUMBER("hub.dead_ms", hub.dead_ms, "10000", 1000, 86400000, "ms",
           "A node that is silent for this long is shown as dead."),

    NUMBER("usage.rollup_days", usage.rollup_days, "400", 1, 3650, "days",
           "How long hourly usage is kept."),
};

static ort_err
check(const void *config, ort_diag *diag)
{
    const ort_control_config *c = config;
    ort_err err = ort_config__tls_pair("admin", c->admin.tls_cert, c->admin.tls_key, diag);

    if (err == ORT_OK) {
        err = ort_config__nng_url("hub.listen", c->hub.listen, diag);
    }
    if (err == ORT_OK) {
        err = ort_config__nng_url("hub.publish", c->hub.publish, diag);
    }
    if (err == ORT_OK && c->hub.control[0] != '\0') {
        err = ort_config__nng_url("hub.control", c->hub.control, diag);
    }
    if (err == ORT_OK && c->hub.dead_ms <= c->hub.suspect_ms) {
        err = ort_fail(diag, ORT_EINVAL, "hub.dead_ms: %u is not more than hub.suspect_ms (%u)",
                       c->hub.dead_ms, c->hub.suspect_ms);
    }
    return err;
}

const ort_config_schema ort_control_config_schema = {
    .program = "orthant-control",
    .about = "The control plane of an Orthant hub.",
    .keys = keys,
    .key_count = sizeof keys / sizeof keys[0],
    .struct_bytes = sizeof(ort_control_config),
    .check = check,
};
