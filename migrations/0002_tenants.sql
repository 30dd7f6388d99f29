-- Plans, tenants, their limits, keys and homes. In limits -1 means "no limit".

CREATE TABLE plans (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63),
    display TEXT NOT NULL,
    max_collections INTEGER NOT NULL CHECK (max_collections >= -1),
    max_vectors_per_collection INTEGER NOT NULL CHECK (max_vectors_per_collection >= -1),
    max_vectors INTEGER NOT NULL CHECK (max_vectors >= -1),
    max_storage_bytes INTEGER NOT NULL CHECK (max_storage_bytes >= -1),
    max_requests_per_minute INTEGER NOT NULL CHECK (max_requests_per_minute >= -1),
    max_requests_per_minute_per_key INTEGER NOT NULL CHECK (max_requests_per_minute_per_key >= -1),
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE tenants (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    display TEXT NOT NULL,
    plan TEXT NOT NULL REFERENCES plans (name),
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'deleting', 'deleted')),
    max_stale_s INTEGER NOT NULL CHECK (max_stale_s >= 0),
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
-- A deleted tenant keeps its row for the audit, and gives its name free.
CREATE UNIQUE INDEX tenants_name ON tenants (name) WHERE state <> 'deleted';
CREATE INDEX tenants_plan ON tenants (plan, id);
CREATE INDEX tenants_state ON tenants (state, id) WHERE state <> 'active';

-- The pin: none = anywhere.
CREATE TABLE tenant_regions (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    region TEXT NOT NULL REFERENCES regions (name),
    PRIMARY KEY (tenant, region)
) STRICT;
CREATE INDEX tenant_regions_region ON tenant_regions (region);

-- What a tenant has instead of its plan's limits: NULL = as the plan says. A row of its own, because
-- it has an ETag of its own.
CREATE TABLE quotas (
    tenant TEXT PRIMARY KEY REFERENCES tenants (id),
    max_collections INTEGER CHECK (max_collections >= -1),
    max_vectors_per_collection INTEGER CHECK (max_vectors_per_collection >= -1),
    max_vectors INTEGER CHECK (max_vectors >= -1),
    max_storage_bytes INTEGER CHECK (max_storage_bytes >= -1),
    max_requests_per_minute INTEGER CHECK (max_requests_per_minute >= -1),
    max_requests_per_minute_per_key INTEGER CHECK (max_requests_per_minute_per_key >= -1),
    updated_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id TEXT PRIMARY KEY CHECK (length(id) = 24),
    tenant TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    test_env INTEGER NOT NULL CHECK (test_env IN (0, 1)),
    hash TEXT NOT NULL CHECK (length(hash) = 64),      -- keyed; the pepper is not in here
    scopes TEXT NOT NULL,                              -- words with spaces between
    collections TEXT NOT NULL,                         -- JSON array of globs
    max_requests_per_minute INTEGER NOT NULL CHECK (max_requests_per_minute >= -1),
    created_by TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER NOT NULL,
    rotated_to TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_tenant ON keys (tenant, id);

-- Apart from keys: changes all the time, and is no desired state.
CREATE TABLE key_use (
    id TEXT PRIMARY KEY REFERENCES keys (id),
    last_used_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE placements (
    tenant TEXT PRIMARY KEY REFERENCES tenants (id),
    home TEXT NOT NULL REFERENCES nodes (id),
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    placed_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX placements_home ON placements (home, tenant);

-- Every node that ever got the tenant: a tenant is deleted only when each has said "gone".
CREATE TABLE holders (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    node TEXT NOT NULL REFERENCES nodes (id),
    since_ms INTEGER NOT NULL,
    gone_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, node)
) STRICT;
CREATE INDEX holders_node ON holders (node);
