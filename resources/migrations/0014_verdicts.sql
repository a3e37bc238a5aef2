-- Verdicts on landed rows. A row that is served as it came has none here.
CREATE TABLE IF NOT EXISTS quality.row_verdicts
(
    `topic` LowCardinality(String) COMMENT 'Topic of the record',
    `partition` Int32 COMMENT 'Partition of the topic',
    `generation` UInt16 COMMENT 'How often the topic was made anew before',
    `offset` Int64 COMMENT 'Offset in the partition',
    `appended_at` DateTime64(3, 'UTC') COMMENT 'Broker''s append time of the record',
    `verdict` LowCardinality(String) COMMENT 'repaired, collapsed (a copy) or quarantined',
    `reasons` Array(String) COMMENT 'Checks that the row broke',
    `run_id` String COMMENT 'Dagster run that judged it',
    `judged_at` DateTime64(6, 'UTC') COMMENT 'When'
)
ENGINE = ReplacingMergeTree(judged_at)
PARTITION BY toYYYYMM(appended_at)
ORDER BY (topic, partition, generation, offset)
TTL toDateTime(appended_at) + INTERVAL 400 DAY
COMMENT 'Landed rows that were not served as they came';

-- What stewards said of rows that were held back; the newest word counts.
CREATE TABLE IF NOT EXISTS quality.row_decisions
(
    `topic` LowCardinality(String) COMMENT 'Topic of the record',
    `partition` Int32 COMMENT 'Partition of the topic',
    `generation` UInt16 COMMENT 'How often the topic was made anew before',
    `offset` Int64 COMMENT 'Offset in the partition',
    `decision` LowCardinality(String) COMMENT 'release: it is served as it came; keep: it stays where it is',
    `because` String COMMENT 'Why, in the steward''s words',
    `actor` String COMMENT 'Who said so',
    `decided_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When'
)
ENGINE = ReplacingMergeTree(decided_at)
ORDER BY (topic, partition, generation, offset)
COMMENT 'Stewards'' decisions on rows that were held back';

-- The payload after repair, in the place of the record that it came from.
CREATE TABLE IF NOT EXISTS quality.repaired_events
(
    `topic` LowCardinality(String) COMMENT 'Topic of the record',
    `partition` Int32 COMMENT 'Partition of the topic',
    `generation` UInt16 COMMENT 'How often the topic was made anew before',
    `offset` Int64 COMMENT 'Offset in the partition',
    `appended_at` DateTime64(3, 'UTC') COMMENT 'Broker''s append time of the record',
    `key` String COMMENT 'Record key; empty for none' CODEC(ZSTD(1)),
    `value` String COMMENT 'Payload after repair' CODEC(ZSTD(1)),
    `repaired_at` DateTime64(6, 'UTC') COMMENT 'When',
    `envelope` Tuple(
        id String,
        source LowCardinality(String),
        type LowCardinality(String),
        subject String,
        time String,
        dataschema LowCardinality(String),
        traceparent String)
        MATERIALIZED JSONExtract(value, 'Tuple(id String, source LowCardinality(String), type LowCardinality(String), subject String, time String, dataschema LowCardinality(String), traceparent String)')
        COMMENT 'CloudEvents attributes of the payload after repair' CODEC(ZSTD(1)),
    `event_time` Nullable(DateTime64(6, 'UTC'))
        MATERIALIZED parseDateTime64BestEffortOrNull(tupleElement(envelope, 'time'), 6, 'UTC')
        COMMENT 'When it happened, by the producer''s clock' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(repaired_at)
PARTITION BY toYYYYMM(appended_at)
ORDER BY (topic, partition, generation, offset)
TTL toDateTime(appended_at) + INTERVAL 400 DAY
COMMENT 'Repaired records: staging reads them instead of what came';

-- Hours that were judged, or only learned from.
CREATE TABLE IF NOT EXISTS quality.judged_hours
(
    `topic` LowCardinality(String) COMMENT 'Topic',
    `hour` DateTime('UTC') COMMENT 'Start of the hour of arrival',
    `state` LowCardinality(String) COMMENT 'learning (too little before it to judge by), quiet or alarm',
    `rows` UInt64 COMMENT 'Rows that came in the hour',
    `repaired` UInt64 COMMENT 'Of them put right',
    `collapsed` UInt64 COMMENT 'Of them copies',
    `quarantined` UInt64 COMMENT 'Of them held back',
    `alarms` Array(String) COMMENT 'Checks that alarmed',
    `run_id` String COMMENT 'Dagster run',
    `judged_at` DateTime64(6, 'UTC') COMMENT 'When'
)
ENGINE = ReplacingMergeTree(judged_at)
PARTITION BY toYYYYMM(hour)
ORDER BY (topic, hour)
TTL hour + INTERVAL 400 DAY
COMMENT 'Verdicts by the hour';

CREATE VIEW IF NOT EXISTS quality.held_rows AS
SELECT topic, partition, generation, offset, appended_at, verdict, reasons, judged_at
FROM quality.row_verdicts FINAL
WHERE verdict IN ('quarantined', 'collapsed') AND (topic, partition, generation, offset) NOT IN (
    SELECT topic, partition, generation, offset FROM quality.row_decisions FINAL WHERE decision = 'release')
COMMENT 'Rows that staging does not read, since nobody released them';

CREATE TABLE IF NOT EXISTS quality.redactions
(
    `table_name` LowCardinality(String) COMMENT 'Table that was redacted',
    `target` LowCardinality(String) COMMENT 'Table without personal data',
    `columns` Array(String) COMMENT 'Column and what was done: name=action',
    `rows` UInt64 COMMENT 'Rows that were written',
    `run_id` String COMMENT 'Dagster run',
    `made_at` DateTime64(6, 'UTC') COMMENT 'When'
)
ENGINE = ReplacingMergeTree(made_at)
ORDER BY (table_name, made_at)
TTL toDateTime(made_at) + INTERVAL 400 DAY
COMMENT 'Redactions that were made, by the policy of the inventory';
