CREATE TABLE IF NOT EXISTS ml.saga_predictions
(
    `saga_type` LowCardinality(String) COMMENT 'Saga type',
    `saga_id` String COMMENT 'Saga',
    `position` UInt32 COMMENT 'Length of the prefix in step events',
    `as_of` DateTime64(6, 'UTC') COMMENT 'Time of the prefix''s last event',
    `outcome` LowCardinality(String) COMMENT 'Outcome that is predicted',
    `probability` Float64 COMMENT 'Calibrated probability, 0 to 1',
    `model_name` LowCardinality(String) COMMENT 'Registered model',
    `model_version` UInt32 COMMENT 'Its version',
    `predicted_at` DateTime64(3, 'UTC') COMMENT 'When it was computed'
)
ENGINE = ReplacingMergeTree(predicted_at)
PARTITION BY toYYYYMM(as_of)
ORDER BY (saga_type, outcome, saga_id, position)
COMMENT 'Probability of an outcome for running sagas';

CREATE TABLE IF NOT EXISTS quality.results
(
    `evaluated_at` DateTime64(3, 'UTC') COMMENT 'When the check ran',
    `run_id` String COMMENT 'Dagster run',
    `asset_key` LowCardinality(String) COMMENT 'Asset, parts joined by a slash',
    `check_name` LowCardinality(String) COMMENT 'Check',
    `expectation` LowCardinality(String) COMMENT 'Great Expectations type, or dbt test',
    `success` Bool COMMENT 'Whether it held',
    `severity` LowCardinality(String) COMMENT 'ERROR blocks decisions, WARN does not',
    `observed` String COMMENT 'JSON: what was seen' CODEC(ZSTD(1)),
    `message` String COMMENT 'In words'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(evaluated_at)
ORDER BY (asset_key, check_name, evaluated_at)
TTL toDateTime(evaluated_at) + INTERVAL 400 DAY
COMMENT 'Every evaluation of a quality check';
