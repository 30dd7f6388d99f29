-- Leave to take a tenant's data away, or to put other data in its place, is what an audit asks for first. The op
-- log is read off the rows that a change touches, so the last grant of each kind is a row; the log keeps all.

CREATE TABLE grants (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    op TEXT NOT NULL CHECK (op IN ('backup', 'restore', 'clone')),
    source TEXT REFERENCES tenants (id),               -- clone: whose data
    node TEXT NOT NULL REFERENCES nodes (id),
    issued_to TEXT NOT NULL,
    issued_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    CHECK ((op = 'clone') = (source IS NOT NULL)),
    PRIMARY KEY (tenant, op)
) STRICT;
