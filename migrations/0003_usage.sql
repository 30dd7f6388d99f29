-- What tenants used: counters of nodes, what is there now, and sums by the hour.

-- Totals since an incarnation of a node began. Incarnation 0 is the sum of past ones.
CREATE TABLE usage_totals (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    node TEXT NOT NULL REFERENCES nodes (id),
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 16),
    requests INTEGER NOT NULL,
    searches INTEGER NOT NULL,
    writes INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    PRIMARY KEY (tenant, node, incarnation)
) STRICT;
CREATE INDEX usage_totals_node ON usage_totals (node, incarnation);

CREATE TABLE usage_now (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    node TEXT NOT NULL REFERENCES nodes (id),
    collections INTEGER NOT NULL,
    vectors INTEGER NOT NULL,
    storage_bytes INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, node)
) STRICT;

CREATE TABLE usage_hours (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    hour_ms INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    searches INTEGER NOT NULL,
    writes INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    collections_max INTEGER NOT NULL,
    vectors_max INTEGER NOT NULL,
    storage_bytes_max INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour_ms)
) STRICT;
CREATE INDEX usage_hours_hour ON usage_hours (hour_ms);
