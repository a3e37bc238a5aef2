CREATE TABLE IF NOT EXISTS ops.incidents
(
    `at` DateTime64(3, 'UTC') COMMENT 'When it was noticed',
    `incident_id` String COMMENT 'What it is about, so that noticing it twice is one row: the run id for a failed run',
    `kind` LowCardinality(String) COMMENT 'run_failure, …',
    `subject` String COMMENT 'Job, service or component',
    `summary` String COMMENT 'One sentence',
    `details` String COMMENT 'JSON: failed steps, attempts, tags' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(at)
PARTITION BY toYYYYMM(at)
ORDER BY (kind, incident_id)
TTL toDateTime(at) + INTERVAL 1100 DAY
COMMENT 'What went wrong: the past that explanations draw on';
