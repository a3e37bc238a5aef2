-- Decisions: never changed once written. Payload columns hold JSON text, one schema per kind (events/schemas).
CREATE TABLE IF NOT EXISTS ops.decisions
(
    `decision_id` UUID COMMENT 'UUIDv7',
    `kind` LowCardinality(String) COMMENT 'saga_policy, scaling_plan, model_promotion, …',
    `subject` String COMMENT 'What it acts on',
    `made_at` DateTime64(3, 'UTC') COMMENT 'When it was made',
    `valid_from` DateTime64(3, 'UTC') COMMENT 'Start of its validity',
    `valid_to` DateTime64(3, 'UTC') COMMENT 'End of its validity; an expired decision is never applied',
    `inputs` String COMMENT 'JSON: asset key, data version and landing time of each input that was read' CODEC(ZSTD(1)),
    `model` String COMMENT 'JSON: registered name, version, run id; null for a rule',
    `checks` String COMMENT 'JSON: the asset checks that it rests on, with their result at decision time' CODEC(ZSTD(1)),
    `action` String COMMENT 'JSON: typed payload of the kind' CODEC(ZSTD(1)),
    `expected` String COMMENT 'JSON: metric, value with and without the action, interval',
    `guardrails` String COMMENT 'JSON: limits that were applied and which of them bit',
    `undo` String COMMENT 'JSON: the payload that restores the state before' CODEC(ZSTD(1)),
    `trace_id` String COMMENT 'W3C trace id from event to actuation',
    `run_id` String COMMENT 'Dagster run that made it'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(made_at)
ORDER BY (kind, subject, made_at, decision_id)
COMMENT 'Every decision that the platform proposed';

CREATE TABLE IF NOT EXISTS ops.decision_events
(
    `decision_id` UUID COMMENT 'The decision',
    `at` DateTime64(6, 'UTC') COMMENT 'When',
    `event` LowCardinality(String) COMMENT 'proposed, approved, refused, published, applied, confirmed, rolled_back, expired, rung',
    `actor` String COMMENT 'Who: a person or a component',
    `reason` String COMMENT 'Why, in words',
    `details` String COMMENT 'JSON: what more is known' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (decision_id, at, event)
COMMENT 'The life of each decision';

CREATE TABLE IF NOT EXISTS ops.outcomes
(
    `decision_id` UUID COMMENT 'The decision',
    `measured_at` DateTime64(3, 'UTC') COMMENT 'When the outcome was measured',
    `metric` LowCardinality(String) COMMENT 'What was measured',
    `actual` Float64 COMMENT 'What happened',
    `counterfactual` Float64 COMMENT 'Estimate of what would have happened without it',
    `low` Float64 COMMENT 'Lower end of the interval of the difference',
    `high` Float64 COMMENT 'Upper end of the interval of the difference',
    `method` LowCardinality(String) COMMENT 'How the counterfactual was estimated'
)
ENGINE = ReplacingMergeTree
ORDER BY (decision_id, metric, measured_at)
COMMENT 'What came of each decision';

CREATE TABLE IF NOT EXISTS ops.audit
(
    `at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When',
    `actor` String COMMENT 'Who',
    `action` LowCardinality(String) COMMENT 'What was done',
    `subject` String COMMENT 'To what',
    `details` String COMMENT 'JSON: what more is known' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, actor)
TTL toDateTime(at) + INTERVAL 1100 DAY
COMMENT 'One row for each action that a person or a component took';

-- Landings that a complete dbt build has taken in; what is missing here is pending.
CREATE TABLE IF NOT EXISTS ops.built_landings
(
    `landing_id` String COMMENT 'The landing',
    `landed_at` DateTime64(6, 'UTC') COMMENT 'Its landing time: a range landed anew is pending again',
    `invocation_id` String COMMENT 'The dbt invocation that built it',
    `built_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When'
)
ENGINE = ReplacingMergeTree(landed_at)
ORDER BY landing_id
COMMENT 'Landings that the marts hold';
