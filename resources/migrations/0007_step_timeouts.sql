-- What the advice service knows of the durations of steps, one row each time it was learned.
CREATE TABLE IF NOT EXISTS ml.step_timeouts
(
    `learned_at` DateTime64(3, 'UTC') COMMENT 'When it was learned',
    `attempts` UInt32 COMMENT 'Attempts that it was learned from',
    `places` UInt32 COMMENT 'Steps and participants that it knows',
    `target` Float64 COMMENT 'Share of false time-outs that is aimed at',
    `held_out` Float64 COMMENT 'Share of false time-outs on the last part of the past, by what the part before taught',
    `learned` String COMMENT 'JSON: trees, figures of steps, first prices' CODEC(ZSTD(3)),
    `run_id` String COMMENT 'Dagster run'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(learned_at)
ORDER BY learned_at
TTL toDateTime(learned_at) + INTERVAL 90 DAY
COMMENT 'Time-outs of saga steps, as learned';
