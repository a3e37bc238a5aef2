-- What a decision expected of a figure, beside what came of it.
ALTER TABLE ops.outcomes
    ADD COLUMN IF NOT EXISTS `expected` Float64 DEFAULT nan COMMENT 'Difference that the decision expected; NaN: none',
    ADD COLUMN IF NOT EXISTS `details` String DEFAULT '{}' COMMENT 'JSON: when it was in force, assumptions, hours before';

-- A champion's drift, one row a look.
CREATE TABLE IF NOT EXISTS ml.drift_reports
(
    `reported_at` DateTime64(3, 'UTC') COMMENT 'When it was looked at',
    `saga_type` LowCardinality(String) COMMENT 'Saga type',
    `model_name` LowCardinality(String) COMMENT 'Registered model',
    `model_version` UInt32 COMMENT 'Its version',
    `episode` String COMMENT 'Identity of the alarm, the same in every later look; empty without one',
    `alarm_at` Nullable(DateTime64(3, 'UTC')) COMMENT 'End of the block of events that raised it',
    `evidence` Float64 COMMENT 'Highest evidence against "nothing changed" so far; the alarm is at 1 / rate',
    `rate` Float64 COMMENT 'Chance of any false alarm over the whole watch',
    `blamed` String COMMENT 'Column with the most evidence',
    `block_seconds` UInt32 COMMENT 'Length of a block',
    `blocks` UInt32 COMMENT 'Blocks watched so far',
    `columns` String COMMENT 'JSON: each column''s evidence, distance, p and q' CODEC(ZSTD(1)),
    `run_id` String COMMENT 'Dagster run'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(reported_at)
ORDER BY (model_name, model_version, reported_at)
TTL toDateTime(reported_at) + INTERVAL 400 DAY
COMMENT 'Drift of the champions since they were judged';
