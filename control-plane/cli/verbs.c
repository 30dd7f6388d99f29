/* The table of nouns and verbs: what `orthant` knows of the admin API
 * (docs/reference/admin-api.yaml) stands here and nowhere else. */
#include <stddef.h>

#include "cli/admin.h"
#include "cli/commands.h"

const cli_flag cli_flags_global[] = {
    {"-o", "table|json", "how answers are printed (table)"},
    {"--yes", NULL, "do not ask before deleting"},
    {"--context", "NAME", "a context of the contexts file"},
    {"--ca-file", "FILE", "certificates to trust beside the system's"},
    {"--help", NULL, "this help, or that of one noun"},
    {"--version", NULL, "the program's version"},
    {NULL, NULL, NULL},
};

const cli_flag cli_flags_admin[] = {
    {"--admin-url", "URL", "where the admin API is"},
    {"--admin-token", "TOKEN", "an operator's, viewer's or tenant admin's token"},
    {"--wait", NULL, "until every node concerned has acted on it"},
    {"--name", "TEXT", "a name for people"},
    {"--plan", "PLAN", "the tenant's plan"},
    {"--region", "REGION", "an allowed region; several times for several; \"\" for any"},
    {"--scope", "SCOPE", "data:read, data:write or collections:manage; several times"},
    {"--collection", "GLOB", "collections that the key may touch; several times"},
    {"--env", "live|test", "the key's environment (live)"},
    {"--expires-in", "TIME", "30d, 12h ...: when the key ends"},
    {"--grace", "TIME", "how long a rotated key goes on"},
    {"--role", "ROLE", "operator, viewer or tenant-admin"},
    {"--tenant", "TENANT", "the tenant of a tenant admin's token"},
    {"--max-collections", "N", "limit; none: the plan's"},
    {"--max-vectors", "N", "limit"},
    {"--max-vectors-per-collection", "N", "limit"},
    {"--max-storage-bytes", "N", "limit; 100g, 2ti ..."},
    {"--max-requests-per-minute", "N", "limit"},
    {"--max-requests-per-minute-per-key", "N", "limit of a plan or tenant for each of its keys"},
    {"--replace", NULL, "restore and clone: over what the tenant has now, which is lost"},
    {"--interval", "S", "seconds between two looks of top (2)"},
    {"--rounds", "N", "looks of top (for ever on a terminal, else 1)"},
    {NULL, NULL, NULL},
};

const cli_flag cli_flags_data[] = {
    {"--url", "URL", "where the data API is"},
    {"--api-key", "KEY", "a tenant's key"},
    {"--dim", "N", "components of a vector"},
    {"--distance", "NAME", "Cosine, Dot, Euclid or Manhattan (Cosine)"},
    {"--datatype", "NAME", "float32, float16 or uint8"},
    {"--vector", "JSON|@FILE|-", "the query vector"},
    {"--id", "ID", "a point to search around"},
    {"--text", "WORDS", "words to search by (BM25); with --vector or --id both are fused"},
    {"--text-vector", "NAME", "the sparse vector that holds text (queries: text)"},
    {"--filter", "JSON", "only points that match"},
    {"--using", "NAME", "the named vector to search"},
    {"--limit", "N", "points wanted (10)"},
    {"--ef", "N", "hnsw_ef: more costs time and buys recall"},
    {"--exact", NULL, "search every point"},
    {"--create", NULL, "make the collection first if it is not there"},
    {"--batch", "N", "points of one request (200)"},
    {"--parallel", "N", "connections (4)"},
    {"--first-id", "N", "id of the first row of a file that has no ids (0)"},
    {"--restart", NULL, "from the first point, whatever an earlier run stored"},
    {"--no-vectors", NULL, "export ids and payloads alone"},
    {NULL, NULL, NULL},
};

#define LIMITS(prefix)                                                                     \
    {"--max-collections", prefix "max_collections", CLI_NUMBER},                           \
        {"--max-vectors", prefix "max_vectors", CLI_NUMBER},                               \
        {"--max-vectors-per-collection", prefix "max_vectors_per_collection", CLI_NUMBER}, \
        {"--max-storage-bytes", prefix "max_storage_bytes", CLI_NUMBER},                   \
    {                                                                                      \
        "--max-requests-per-minute", prefix "max_requests_per_minute", CLI_NUMBER          \
    }

static const cli_member region_members[] = {{"--name", "display_name", CLI_TEXT}, {NULL, NULL, 0}};
static const cli_member join_members[] = {
    {"--region", "region", CLI_TEXT}, {"--expires-in", "ttl_s", CLI_DURATION}, {NULL, NULL, 0}};
static const cli_member plan_members[] = {LIMITS("limits."), {NULL, NULL, 0}};
static const cli_member tenant_members[] = {{"--plan", "plan", CLI_TEXT},
                                            {"--name", "display_name", CLI_TEXT},
                                            {"--region", "regions", CLI_LIST},
                                            LIMITS("overrides."),
                                            {NULL, NULL, 0}};
static const cli_member tenant_update_members[] = {{"--plan", "plan", CLI_TEXT},
                                                   {"--name", "display_name", CLI_TEXT},
                                                   {"--region", "regions", CLI_LIST},
                                                   {NULL, NULL, 0}};
static const cli_member quota_members[] = {LIMITS("overrides."), {NULL, NULL, 0}};
static const cli_member key_members[] = {
    {"--name", "name", CLI_TEXT},
    {"--scope", "scopes", CLI_LIST},
    {"--collection", "collections", CLI_LIST},
    {"--env", "env", CLI_TEXT},
    {"--expires-in", "expires_at", CLI_EXPIRY},
    {"--max-requests-per-minute", "max_requests_per_minute", CLI_NUMBER},
    {NULL, NULL, 0}};
static const cli_member rotate_members[] = {{"--grace", "grace_s", CLI_DURATION}, {NULL, NULL, 0}};
static const cli_member token_members[] = {{"--role", "role", CLI_TEXT},
                                           {"--tenant", "tenant", CLI_TEXT},
                                           {"--expires-in", "expires_at", CLI_EXPIRY},
                                           {NULL, NULL, 0}};

static const cli_column region_columns[] = {
    {"name", "REGION"}, {"display_name", "NAME"}, {"created_at", "SINCE"}, {NULL, NULL}};
static const cli_column node_columns[] = {{"id", "ID"},
                                          {"name", "NAME"},
                                          {"region", "REGION"},
                                          {"state", "STATE"},
                                          {"health", "HEALTH"},
                                          {"applied_version", "TABLE"},
                                          {"lag_versions", "LAG"},
                                          {"used_bytes", "USED"},
                                          {"capacity_bytes", "CAPACITY"},
                                          {"endpoint", "ENDPOINT"},
                                          {NULL, NULL}};
static const cli_column plan_columns[] = {{"name", "PLAN"},
                                          {"limits.max_collections", "COLLECTIONS"},
                                          {"limits.max_vectors", "VECTORS"},
                                          {"limits.max_vectors_per_collection", "PER COLLECTION"},
                                          {"limits.max_storage_bytes", "BYTES"},
                                          {"limits.max_requests_per_minute", "REQUESTS/MIN"},
                                          {NULL, NULL}};
static const cli_column tenant_columns[] = {{"name", "TENANT"},
                                            {"id", "ID"},
                                            {"state", "STATE"},
                                            {"plan", "PLAN"},
                                            {"regions", "REGIONS"},
                                            {"usage.vectors", "VECTORS"},
                                            {"usage.storage_bytes", "BYTES"},
                                            {"usage.disk_bytes", "ON DISK"},
                                            {"placement.endpoint", "ENDPOINT"},
                                            {NULL, NULL}};
static const cli_column key_columns[] = {{"id", "KEY"},
                                         {"name", "NAME"},
                                         {"state", "STATE"},
                                         {"scopes", "SCOPES"},
                                         {"collections", "COLLECTIONS"},
                                         {"expires_at", "EXPIRES"},
                                         {"last_used_at", "LAST USED"},
                                         {NULL, NULL}};
static const cli_column usage_columns[] = {
    {"hour", "HOUR"},           {"requests", "REQUESTS"},         {"searches", "SEARCHES"},
    {"writes", "WRITES"},       {"bytes_in", "BYTES IN"},         {"bytes_out", "BYTES OUT"},
    {"vectors_max", "VECTORS"}, {"storage_bytes_max", "STORAGE"}, {NULL, NULL}};
static const cli_column audit_columns[] = {
    {"version", "VERSION"},    {"at", "AT"}, {"actor", "ACTOR"}, {"op", "OP"}, {"tenant", "TENANT"},
    {"request_id", "REQUEST"}, {NULL, NULL}};
static const cli_column token_columns[] = {
    {"id", "TOKEN"},    {"name", "NAME"},          {"role", "ROLE"}, {"tenant", "TENANT"},
    {"state", "STATE"}, {"expires_at", "EXPIRES"}, {NULL, NULL}};
const cli_verb cli_verbs[] = {
    {"region", "list", "GET", "/v1/regions", "", NULL, NULL, region_columns, CLI_SHOW_LIST, false,
     CLI_NO_WAIT, NULL, "legal places"},
    {"region", "get", "GET", "/v1/regions/%1", "REGION", NULL, NULL, NULL, CLI_SHOW_OBJECT, false,
     CLI_NO_WAIT, NULL, "one of them"},
    {"region", "create", "POST", "/v1/regions", "REGION", "name", region_members, NULL,
     CLI_SHOW_OBJECT, false, CLI_NO_WAIT, NULL, "a new one"},
    {"region", "delete", "DELETE", "/v1/regions/%1", "REGION", NULL, NULL, NULL, CLI_SHOW_DONE,
     false, CLI_NO_WAIT, "Delete region", "one without nodes and pins"},
    {"node", "list", "GET", "/v1/nodes", "", NULL, NULL, node_columns, CLI_SHOW_LIST, false,
     CLI_NO_WAIT, NULL, "nodes, their health and how far behind their tables are"},
    {"node", "get", "GET", "/v1/nodes/%1", "NODE", NULL, NULL, NULL, CLI_SHOW_OBJECT, false,
     CLI_NO_WAIT, NULL, "one of them"},
    {"node", "join-token", "POST", "/v1/join-tokens", "", NULL, join_members, NULL, CLI_SHOW_SECRET,
     false, CLI_NO_WAIT, NULL, "a token with which one node may join --region"},
    {"node", "cordon", "POST", "/v1/nodes/%1/cordon", "NODE", NULL, NULL, NULL, CLI_SHOW_OBJECT,
     false, CLI_NO_WAIT, NULL, "no new tenants for this node"},
    {"node", "uncordon", "POST", "/v1/nodes/%1/uncordon", "NODE", NULL, NULL, NULL, CLI_SHOW_OBJECT,
     false, CLI_NO_WAIT, NULL, "new tenants again"},
    {"node", "delete", "DELETE", "/v1/nodes/%1", "NODE", NULL, NULL, NULL, CLI_SHOW_DONE, false,
     CLI_NO_WAIT, "Remove node", "takes a node out of the hub"},
    {"plan", "list", "GET", "/v1/plans", "", NULL, NULL, plan_columns, CLI_SHOW_LIST, false,
     CLI_NO_WAIT, NULL, "named limits"},
    {"plan", "get", "GET", "/v1/plans/%1", "PLAN", NULL, NULL, NULL, CLI_SHOW_OBJECT, false,
     CLI_NO_WAIT, NULL, "one of them"},
    {"plan", "create", "POST", "/v1/plans", "PLAN", "name", plan_members, NULL, CLI_SHOW_OBJECT,
     false, CLI_NO_WAIT, NULL, "a new one, with --max-..."},
    {"plan", "update", "PATCH", "/v1/plans/%1", "PLAN", NULL, plan_members, NULL, CLI_SHOW_OBJECT,
     true, CLI_NO_WAIT, NULL, "other limits for all its tenants"},
    {"plan", "delete", "DELETE", "/v1/plans/%1", "PLAN", NULL, NULL, NULL, CLI_SHOW_DONE, true,
     CLI_NO_WAIT, "Delete plan", "one that no tenant is on"},
    {"tenant", "list", "GET", "/v1/tenants", "", NULL, NULL, tenant_columns, CLI_SHOW_LIST, false,
     CLI_NO_WAIT, NULL, "customers"},
    {"tenant", "get", "GET", "/v1/tenants/%1", "TENANT", NULL, NULL, NULL, CLI_SHOW_OBJECT, false,
     CLI_NO_WAIT, NULL, "one of them: limits, and usage beside each"},
    {"tenant", "create", "POST", "/v1/tenants", "TENANT", "name", tenant_members, NULL,
     CLI_SHOW_OBJECT, false, CLI_NO_WAIT, NULL, "a new one on --plan, maybe pinned to --region"},
    {"tenant", "update", "PATCH", "/v1/tenants/%1", "TENANT", NULL, tenant_update_members, NULL,
     CLI_SHOW_OBJECT, true, CLI_NO_WAIT, NULL, "another plan or pin"},
    {"tenant", "suspend", "POST", "/v1/tenants/%1/suspend", "TENANT", NULL, NULL, NULL,
     CLI_SHOW_OBJECT, false, CLI_NO_WAIT, "Refuse all requests of tenant", "its requests get 403"},
    {"tenant", "resume", "POST", "/v1/tenants/%1/resume", "TENANT", NULL, NULL, NULL,
     CLI_SHOW_OBJECT, false, CLI_NO_WAIT, NULL, "they are answered again"},
    {"tenant", "delete", "DELETE", "/v1/tenants/%1", "TENANT", NULL, NULL, NULL, CLI_SHOW_OBJECT,
     true, CLI_WAIT_GONE, "Delete with all its data tenant",
     "the tenant and all its data; --wait until every node has"},
    {"quota", "get", "GET", "/v1/tenants/%1/quota", "TENANT", NULL, NULL, NULL, CLI_SHOW_OBJECT,
     false, CLI_NO_WAIT, NULL, "a tenant's limits, and usage beside each"},
    {"quota", "set", "PUT", "/v1/tenants/%1/quota", "TENANT", NULL, quota_members, NULL,
     CLI_SHOW_OBJECT, true, CLI_NO_WAIT, NULL,
     "own limits over the plan's; those not named follow it"},
    {"key", "list", "GET", "/v1/tenants/%1/keys", "TENANT", NULL, NULL, key_columns, CLI_SHOW_LIST,
     false, CLI_NO_WAIT, NULL, "a tenant's API keys"},
    {"key", "get", "GET", "/v1/tenants/%1/keys/%2", "TENANT KEY", NULL, NULL, NULL, CLI_SHOW_OBJECT,
     false, CLI_NO_WAIT, NULL, "one of them"},
    {"key", "create", "POST", "/v1/tenants/%1/keys", "TENANT", NULL, key_members, NULL,
     CLI_SHOW_SECRET, false, CLI_NO_WAIT, NULL, "a new one with --scope"},
    {"key", "rotate", "POST", "/v1/tenants/%1/keys/%2/rotate", "TENANT KEY", NULL, rotate_members,
     NULL, CLI_SHOW_SECRET, false, CLI_NO_WAIT, NULL, "a new key; the old one ends after --grace"},
    {"key", "delete", "DELETE", "/v1/tenants/%1/keys/%2", "TENANT KEY", NULL, NULL, NULL,
     CLI_SHOW_OBJECT, false, CLI_WAIT_ACKED, "Revoke key",
     "revokes it; --wait until every node refuses it"},
    {"usage", "list", "GET", "/v1/tenants/%1/usage", "TENANT", NULL, NULL, usage_columns,
     CLI_SHOW_LIST, false, CLI_NO_WAIT, NULL, "what a tenant used, hour by hour"},
    {"audit", "list", "GET", "/v1/audit", "", NULL, NULL, audit_columns, CLI_SHOW_LIST, false,
     CLI_NO_WAIT, NULL, "every change: who, what, when"},
    {"audit", "verify", "GET", "/v1/audit/verify", "", NULL, NULL, NULL, CLI_SHOW_OBJECT, false,
     CLI_NO_WAIT, NULL, "whether the chain of changes is whole; names the first bad row"},
    {"token", "list", "GET", "/v1/admin-tokens", "", NULL, NULL, token_columns, CLI_SHOW_LIST,
     false, CLI_NO_WAIT, NULL, "tokens of the admin API"},
    {"token", "create", "POST", "/v1/admin-tokens", "NAME", "name", token_members, NULL,
     CLI_SHOW_SECRET, false, CLI_NO_WAIT, NULL, "a new one with --role"},
    {"token", "delete", "DELETE", "/v1/admin-tokens/%1", "TOKEN", NULL, NULL, NULL, CLI_SHOW_DONE,
     false, CLI_NO_WAIT, "Revoke token", "revokes it"},
    {"placement", "get", "GET", "/v1/tenants/%1/placement", "TENANT", NULL, NULL, NULL,
     CLI_SHOW_OBJECT, false, CLI_NO_WAIT, NULL, "where a tenant's data is"},
    {"hub", "get", "GET", "/v1/hub", "", NULL, NULL, NULL, CLI_SHOW_OBJECT, false, CLI_NO_WAIT,
     NULL, "the hub's identity and newest version"},
    {"whoami", "get", "GET", "/v1/whoami", "", NULL, NULL, NULL, CLI_SHOW_OBJECT, false,
     CLI_NO_WAIT, NULL, "whose token this is"},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, CLI_SHOW_DONE, false, CLI_NO_WAIT, NULL, NULL},
};
