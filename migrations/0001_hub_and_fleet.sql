-- The hub itself, the record of every change, and the nodes.
--
-- Ids that clients see are text as they see it (16 hex digits), so that pages by key need no
-- translation and a person can read the tables. Times are milliseconds since 1970 UTC. A 0 in a
-- time means "not". SQL stays in the subset that PostgreSQL has too.

CREATE TABLE hub (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    hub_id TEXT NOT NULL CHECK (length(hub_id) = 16),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    version INTEGER NOT NULL CHECK (version >= 0),     -- of the newest record in op_log
    head BLOB NOT NULL CHECK (length(head) = 32),      -- its hash: a cut tail is seen
    created_at_ms INTEGER NOT NULL,
    bootstrapped INTEGER NOT NULL CHECK (bootstrapped IN (0, 1)),
    secrets_print TEXT NOT NULL                        -- '' until known; tells foreign secret files
) STRICT;

-- The hash chain is described in control-plane/store/oplog.h.
CREATE TABLE op_log (
    version INTEGER PRIMARY KEY CHECK (version >= 1),
    prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    op TEXT NOT NULL,
    tenant TEXT,                                       -- NULL: the hub's; no foreign key: outlives it
    denial INTEGER NOT NULL CHECK (denial IN (0, 1)),
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    request_id TEXT NOT NULL
) STRICT;
CREATE INDEX op_log_tenant ON op_log (tenant, version) WHERE tenant IS NOT NULL;
CREATE INDEX op_log_denial ON op_log (version) WHERE denial = 1;

-- Against our own mistakes; who can write the file can drop a trigger, the chain is against them.
CREATE TRIGGER op_log_keeps_rows BEFORE DELETE ON op_log
BEGIN
    SELECT RAISE(ABORT, 'op_log only grows');
END;
CREATE TRIGGER op_log_keeps_content BEFORE UPDATE ON op_log
BEGIN
    SELECT RAISE(ABORT, 'op_log only grows');
END;

CREATE TABLE regions (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63),
    display TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL,
    region TEXT NOT NULL REFERENCES regions (name),
    zone TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    forward TEXT NOT NULL,
    software TEXT NOT NULL,
    capacity_bytes INTEGER NOT NULL CHECK (capacity_bytes >= 0),
    weight INTEGER NOT NULL CHECK (weight BETWEEN 1 AND 10000),
    state TEXT NOT NULL CHECK (state IN ('joining', 'ready', 'cordoned', 'removed')),
    node_key TEXT NOT NULL UNIQUE CHECK (length(node_key) = 64),
    joined_at_ms INTEGER NOT NULL,
    removed_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
-- A removed node keeps its row, and gives its name free.
CREATE UNIQUE INDEX nodes_name ON nodes (name) WHERE state <> 'removed';
CREATE INDEX nodes_region ON nodes (region);

-- What nodes say of themselves each second; not desired state, so not in op_log.
CREATE TABLE node_seen (
    node TEXT PRIMARY KEY REFERENCES nodes (id),
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 16),
    seen_at_ms INTEGER NOT NULL,
    applied_generation INTEGER NOT NULL,
    applied_version INTEGER NOT NULL,
    applied_hash BLOB NOT NULL CHECK (length(applied_hash) = 32),
    used_bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY CHECK (length(id) = 24),
    hash TEXT NOT NULL CHECK (length(hash) = 64),
    region TEXT NOT NULL REFERENCES regions (name),
    created_by TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER NOT NULL,
    used_by TEXT REFERENCES nodes (id),
    node_key TEXT,
    revision INTEGER NOT NULL
) STRICT;
CREATE INDEX join_tokens_region ON join_tokens (region);
CREATE INDEX join_tokens_used_by ON join_tokens (used_by);
