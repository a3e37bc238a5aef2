-- Retention as declared and as found, one row a store and look.
CREATE TABLE IF NOT EXISTS ops.retention
(
    `checked_at` DateTime64(3, 'UTC') COMMENT 'When it was looked at',
    `run_id` String COMMENT 'Dagster run',
    `store` String COMMENT 'table database.name, topic name, or files name',
    `kind` LowCardinality(String) COMMENT 'table, topic, files, runs or models',
    `personal` Bool COMMENT 'Whether it holds personal data, by the inventory and the declarations',
    `limit_days` Nullable(Float64) COMMENT 'Declared retention in days; none: no period is declared',
    `declared_by` String COMMENT 'Where the limit comes from; a criterion in words where no period is declared',
    `oldest` Nullable(DateTime64(3, 'UTC')) COMMENT 'Oldest thing held',
    `items` UInt64 COMMENT 'Rows, records, files or runs held',
    `past` UInt64 COMMENT 'Of them older than the limit',
    `state` LowCardinality(String) COMMENT 'kept, empty, overdue, undeclared, criterion, endless, unlike or unreachable',
    `action` String COMMENT 'What removes what is past the limit; empty: nothing to do',
    `done` Bool COMMENT 'Whether that was done; false in dry-run',
    `note` String COMMENT 'In words; no value of the store'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(checked_at)
ORDER BY (store, checked_at)
TTL toDateTime(checked_at) + INTERVAL 1100 DAY
COMMENT 'Retention: what is declared beside what is held';

-- Who read what personal data, a day at a time. No value, no query text.
CREATE TABLE IF NOT EXISTS ops.access_audit
(
    `day` Date COMMENT 'Day in UTC',
    `principal` String COMMENT 'User of the warehouse, or the person of an audit row',
    `store` LowCardinality(String) COMMENT 'warehouse, vault, dead letters, requests, decisions …',
    `table_name` String COMMENT 'Table, topic or entity that was read',
    `purpose` LowCardinality(String) COMMENT 'Program that asked, or the action of the audit row',
    `reads` UInt64 COMMENT 'Queries or actions',
    `rows` UInt64 COMMENT 'Rows that were read, or entries that were opened',
    `columns` Array(String) COMMENT 'Columns that hold personal data among those that were read',
    `unusual` Array(String) COMMENT 'Why it stands out; empty: as usual, or too little history',
    `run_id` String COMMENT 'Dagster run that wrote it',
    `updated_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When it was written; the newest counts'
)
ENGINE = ReplacingMergeTree(updated_at)
PARTITION BY toYYYYMM(day)
ORDER BY (day, principal, store, table_name, purpose)
TTL day + INTERVAL 1100 DAY
COMMENT 'Access to personal data by day';

-- The record of processing activities (Article 30 GDPR), as it was.
CREATE TABLE IF NOT EXISTS ops.processing_records
(
    `made_at` DateTime64(3, 'UTC') COMMENT 'When it was made',
    `run_id` String COMMENT 'Dagster run',
    `digest` String COMMENT 'SHA-256 of the document',
    `gaps` Array(String) COMMENT 'What it does not say, and what to set',
    `document` String COMMENT 'JSON: controller, activities, measures' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(made_at)
ORDER BY (made_at, run_id)
TTL toDateTime(made_at) + INTERVAL 1100 DAY
COMMENT 'Record of processing, every version';

-- Decisions and their lives name colleagues: as long as the audit, no longer.
ALTER TABLE ops.decisions MODIFY TTL toDateTime(made_at) + INTERVAL 1100 DAY;
ALTER TABLE ops.decision_events MODIFY TTL toDateTime(at) + INTERVAL 1100 DAY;
