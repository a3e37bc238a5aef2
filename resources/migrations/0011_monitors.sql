CREATE TABLE IF NOT EXISTS quality.monitor_hours
(
    `table_name` LowCardinality(String) COMMENT 'Table that was measured',
    `hour` DateTime('UTC') COMMENT 'Start of the hour',
    `measures` String COMMENT 'JSON: rows, silence (seconds), nulls and counts by bin of each column' CODEC(ZSTD(1)),
    `state` LowCardinality(String) COMMENT 'learning (too little history to judge), quiet or alarm',
    `p` String COMMENT 'JSON: p-value of each monitor, none while learning' CODEC(ZSTD(1)),
    `alarms` Array(String) COMMENT 'Monitors that alarmed: such an hour is not learned from',
    `run_id` String COMMENT 'Dagster run',
    `evaluated_at` DateTime64(3, 'UTC') COMMENT 'When it was judged'
)
ENGINE = ReplacingMergeTree(evaluated_at)
PARTITION BY toYYYYMM(hour)
ORDER BY (table_name, hour)
TTL hour + INTERVAL 400 DAY
COMMENT 'Hourly measures of tables and what the monitors said of them';

CREATE TABLE IF NOT EXISTS quality.monitor_references
(
    `table_name` LowCardinality(String) COMMENT 'Table',
    `content` String COMMENT 'JSON: bins of each column that its hours are counted in' CODEC(ZSTD(1)),
    `learned_at` DateTime64(3, 'UTC') COMMENT 'When the bins were taken'
)
ENGINE = ReplacingMergeTree(learned_at)
ORDER BY table_name
COMMENT 'Bins that the monitors count columns in; they stay, so that hours can be compared';
