-- Who may use the admin API, and answers kept for requests that are sent twice.

CREATE TABLE admin_tokens (
    id TEXT PRIMARY KEY CHECK (length(id) = 24),
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('operator', 'viewer', 'tenant-admin')),
    tenant TEXT REFERENCES tenants (id),
    hash TEXT NOT NULL CHECK (length(hash) = 64),
    created_by TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    CHECK ((role = 'tenant-admin') = (tenant IS NOT NULL))
) STRICT;
CREATE INDEX admin_tokens_tenant ON admin_tokens (tenant, id) WHERE tenant IS NOT NULL;

CREATE TABLE idempotency (
    actor TEXT NOT NULL,
    client_key TEXT NOT NULL,
    request BLOB NOT NULL CHECK (length(request) = 32),
    status INTEGER NOT NULL,
    body BLOB NOT NULL,                                -- sealed: may hold a token
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (actor, client_key)
) STRICT;
CREATE INDEX idempotency_expires ON idempotency (expires_at_ms);
