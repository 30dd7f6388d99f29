-- What a tenant's files take on disk, beside the logical bytes that its quota counts.
ALTER TABLE usage_now ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0;
