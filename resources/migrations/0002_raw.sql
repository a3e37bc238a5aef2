-- Landed events. One row is one record of a topic; (topic, partition, generation, offset) is its identity, so a range
-- that is landed again collapses. The generation is 0 until a topic was deleted and made anew, which a person confirms:
-- its offsets begin again, and would replace the rows of the topic before. Read it through dbt's staging, or with FINAL: before a merge a row may be there twice.
-- Partition and TTL use the broker's append time: fixed for an offset, so that a second landing of a range goes to the
-- same partition, and safe for a replay of old traffic.
CREATE TABLE IF NOT EXISTS raw.events
(
    `topic` LowCardinality(String) COMMENT 'Topic that the record was read from',
    `partition` Int32 COMMENT 'Partition of the topic',
    `generation` UInt16 DEFAULT 0 COMMENT 'How often the topic was made anew before, see raw.topics',
    `offset` Int64 COMMENT 'Offset in the partition',
    `appended_at` DateTime64(3, 'UTC') COMMENT 'Broker''s append time; landing time where a topic keeps its producers'' times' CODEC(Delta, ZSTD(1)),
    `key` String COMMENT 'Record key; empty for none' CODEC(ZSTD(1)),
    `value` String COMMENT 'Payload, the bytes as they came' CODEC(ZSTD(1)),
    `headers` Map(String, String) COMMENT 'Record headers; the last one wins where a name repeats' CODEC(ZSTD(1)),
    -- One parse for all attributes: each JSON function call would parse the payload again.
    `envelope` Tuple(
        id String,
        source LowCardinality(String),
        type LowCardinality(String),
        subject String,
        time String,
        dataschema LowCardinality(String),
        traceparent String)
        MATERIALIZED JSONExtract(value, 'Tuple(id String, source LowCardinality(String), type LowCardinality(String), subject String, time String, dataschema LowCardinality(String), traceparent String)')
        COMMENT 'CloudEvents attributes; empty where the payload is not JSON or lacks them' CODEC(ZSTD(1)),
    `event_time` Nullable(DateTime64(6, 'UTC'))
        MATERIALIZED parseDateTime64BestEffortOrNull(tupleElement(envelope, 'time'), 6, 'UTC')
        COMMENT 'When it happened, by the producer''s clock' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(appended_at)
ORDER BY (topic, partition, generation, offset)
TTL toDateTime(appended_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every record of the domain topics, as landed';

-- Why a landed record does not become an event in staging. The router keeps such records off the domain topics; this
-- shows what a producer wrote there by itself.
CREATE VIEW IF NOT EXISTS raw.quarantine AS
SELECT
    topic,
    partition,
    generation,
    offset,
    appended_at,
    multiIf(
        NOT isValidJSON(value), 'payload is not JSON',
        tupleElement(envelope, 'id') = '' OR tupleElement(envelope, 'source') = '' OR tupleElement(envelope, 'type') = '',
        'a required CloudEvents attribute (id, source, type) is missing',
        tupleElement(envelope, 'subject') = '', 'subject is missing',
        event_time IS NULL, 'time is missing or unreadable',
        event_time < toDateTime64('1990-01-01 00:00:00', 6, 'UTC'), 'time is before 1990: a clock that was never set',
        'time lies more than an hour after the broker received it') AS reason,
    tupleElement(envelope, 'type') AS event_type,
    left(value, 2000) AS payload_head,
    length(value) AS payload_bytes
FROM raw.events FINAL
WHERE tupleElement(envelope, 'id') = '' OR tupleElement(envelope, 'source') = '' OR tupleElement(envelope, 'type') = ''
    OR tupleElement(envelope, 'subject') = '' OR event_time IS NULL
    OR event_time < toDateTime64('1990-01-01 00:00:00', 6, 'UTC') OR event_time > appended_at + INTERVAL 1 HOUR
COMMENT 'Landed records that cannot become an event, with the reason';

-- The ledger of landed ranges: a row is written after its range's rows, so a range that stands here is whole.
CREATE TABLE IF NOT EXISTS raw.landings
(
    `landing_id` String COMMENT 'topic/partition/from-to (topic@generation from the second on): the identity of the work',
    `topic` LowCardinality(String) COMMENT 'Topic',
    `partition` Int32 COMMENT 'Partition',
    `generation` UInt16 DEFAULT 0 COMMENT 'How often the topic was made anew before',
    `from_offset` Int64 COMMENT 'First offset, inclusive',
    `to_offset` Int64 COMMENT 'Last offset, exclusive',
    `rows` UInt64 COMMENT 'Records read; less than the width where offsets were compacted or are transaction markers',
    `bytes` UInt64 COMMENT 'Payload bytes',
    `run_id` String COMMENT 'Dagster run that landed it',
    `landed_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When the range was whole'
)
ENGINE = ReplacingMergeTree(landed_at)
ORDER BY (topic, partition, generation, from_offset, to_offset)
COMMENT 'Landed ranges';

-- What a landing touched: just these sagas and hours are built again.
CREATE TABLE IF NOT EXISTS raw.touched
(
    `landing_id` String COMMENT 'The landing',
    `topic` LowCardinality(String) COMMENT 'Topic',
    `subject` String COMMENT 'Saga, service or component',
    `hour` DateTime('UTC') COMMENT 'Hour of the event time'
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, landing_id, subject, hour)
COMMENT 'Subjects and hours that a landing touched';

-- Where landing began: a row for each partition of each generation of a topic.
CREATE TABLE IF NOT EXISTS raw.topics
(
    `topic` LowCardinality(String) COMMENT 'Topic',
    `partition` Int32 COMMENT 'Partition',
    `generation` UInt16 COMMENT 'How often the topic was made anew before',
    `topic_id` String COMMENT 'The broker''s id of this generation; empty where it tells none',
    `start_offset` Int64 COMMENT 'First offset on the broker when landing first saw the partition',
    `seen_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When that was'
)
ENGINE = ReplacingMergeTree(seen_at)
ORDER BY (topic, partition, generation)
COMMENT 'Topics and partitions that are landed';

-- What landing could not land. A row stays open until a person resolves it (resources.ledger.acknowledge).
CREATE TABLE IF NOT EXISTS raw.gaps
(
    `gap_id` String COMMENT 'kind:topic/partition/from-to',
    `kind` LowCardinality(String) COMMENT 'aged_out, truncated, recreated, deleted, compacted, unlandable',
    `topic` LowCardinality(String) COMMENT 'Topic',
    `partition` Int32 COMMENT 'Partition; -1 for the whole topic',
    `generation` UInt16 COMMENT 'Generation of the topic',
    `from_offset` Int64 COMMENT 'First offset that is missing',
    `to_offset` Int64 COMMENT 'End of what is missing, exclusive',
    `detail` String COMMENT 'What was seen, in words',
    `state` LowCardinality(String) COMMENT 'open or acknowledged',
    `actor` String COMMENT 'Who set the state',
    `reason` String COMMENT 'Why, in words',
    `detected_at` DateTime64(3, 'UTC') COMMENT 'When it was first seen',
    `updated_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When the state was set'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (topic, partition, generation, gap_id)
COMMENT 'Ranges and topics that could not be landed, until a person resolves them';
