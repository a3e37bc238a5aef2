-- Rows of operational sources. A snapshot is copied page by page; a page counts when its row stands in
-- raw.source_pages, and a snapshot when its row stands in raw.source_snapshots, so that what a killed run left behind is
-- never read. Read raw.source_current.
CREATE TABLE IF NOT EXISTS raw.source_rows
(
    `source` LowCardinality(String) COMMENT 'Name of the source in the settings',
    `table_name` LowCardinality(String) COMMENT 'Table or collection',
    `snapshot_id` LowCardinality(String) COMMENT 'The state of the source that was copied',
    `page` UInt32 COMMENT 'Page of the snapshot, from 0, by primary key',
    `digest` LowCardinality(String) COMMENT 'Digest of the page: a page that was read twice and differed is two',
    `key` String COMMENT 'JSON: the primary key''s values as texts; the _id of a document' CODEC(ZSTD(1)),
    `payload` String COMMENT 'JSON: the row, or the document in extended JSON' CODEC(ZSTD(1)),
    `landed_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was copied'
)
ENGINE = ReplacingMergeTree
PARTITION BY snapshot_id
ORDER BY (source, table_name, snapshot_id, page, digest, key)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Rows of operational sources, as copied';

CREATE TABLE IF NOT EXISTS raw.source_pages
(
    `snapshot_id` String COMMENT 'The snapshot',
    `page` UInt32 COMMENT 'Page, from 0',
    `digest` String COMMENT 'Digest of its rows',
    `rows` UInt64 COMMENT 'Rows',
    `last_key` String COMMENT 'JSON: where the next page begins',
    `noted_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When the page stood in raw.source_rows'
)
ENGINE = ReplacingMergeTree(noted_at)
ORDER BY (snapshot_id, page)
COMMENT 'Pages of snapshots that were copied whole';

CREATE TABLE IF NOT EXISTS raw.source_snapshots
(
    `source` LowCardinality(String) COMMENT 'Name of the source in the settings',
    `table_name` LowCardinality(String) COMMENT 'Table or collection',
    `snapshot_id` String COMMENT 'The snapshot',
    `position` String COMMENT 'What the source calls its state; empty where it has no such name',
    `consistent` Bool COMMENT 'Whether all rows are of one moment',
    `rows` UInt64 COMMENT 'Rows',
    `pages` UInt32 COMMENT 'Pages',
    `run_id` String COMMENT 'Dagster run that finished it',
    `completed_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When it was whole'
)
ENGINE = ReplacingMergeTree(completed_at)
ORDER BY (source, table_name, snapshot_id)
COMMENT 'Snapshots of operational sources that are whole';

CREATE VIEW IF NOT EXISTS raw.source_current AS
SELECT source, table_name, snapshot_id, key, payload, landed_at
FROM raw.source_rows FINAL
WHERE (snapshot_id, page, digest) IN (
    SELECT snapshot_id, page, digest FROM raw.source_pages FINAL
    WHERE snapshot_id IN (
        SELECT argMax(snapshot_id, completed_at) FROM raw.source_snapshots FINAL GROUP BY source, table_name))
COMMENT 'Each source''s rows by its newest whole snapshot';

-- What reconciling a table with its source came to.
CREATE TABLE IF NOT EXISTS quality.reconciliations
(
    `reconciled_at` DateTime64(3, 'UTC') COMMENT 'When',
    `source` LowCardinality(String) COMMENT 'Name of the source in the settings',
    `table_name` LowCardinality(String) COMMENT 'Table of the source',
    `warehouse_table` LowCardinality(String) COMMENT 'Table of the warehouse',
    `rows_source` UInt64 COMMENT 'Rows there',
    `rows_warehouse` UInt64 COMMENT 'Rows here',
    `in_flight` UInt64 COMMENT 'Rows that differed at first and were on their way',
    `differences` UInt64 COMMENT 'Rows that differ',
    `report` String COMMENT 'JSON: keys, classes and columns of the differences, drift of types; no values' CODEC(ZSTD(1)),
    `seconds` Float64 COMMENT 'How long it took',
    `run_id` String COMMENT 'Dagster run'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(reconciled_at)
ORDER BY (source, table_name, reconciled_at)
TTL toDateTime(reconciled_at) + INTERVAL 400 DAY
COMMENT 'Tables compared with their sources';
