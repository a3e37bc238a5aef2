-- Requests of persons: access and erasure. What a person is found by stands sealed in an open request and nowhere else;
-- a completed one keeps keyed hashes alone.
CREATE TABLE IF NOT EXISTS ops.privacy_requests
(
    `request_id` String COMMENT 'UUIDv7',
    `kind` LowCardinality(String) COMMENT 'access or erasure',
    `state` LowCardinality(String) COMMENT 'open, waiting (for a store: see detail), completed or withdrawn',
    `subject_hashes` Array(String) COMMENT 'Keyed hash of each identifier, under every key of the ring',
    `sealed` String COMMENT 'The identifiers under AES-GCM, hexadecimal; empty once completed or withdrawn' CODEC(ZSTD(1)),
    `nonce` String COMMENT 'Nonce of AES-GCM, hexadecimal; empty likewise',
    `key_id` LowCardinality(String) COMMENT 'Which key sealed them',
    `actor` String COMMENT 'Who filed it',
    `reference` String COMMENT 'Number of the letter or ticket; no personal data',
    `filed_at` DateTime64(3, 'UTC') COMMENT 'When it was filed',
    `due_at` DateTime64(3, 'UTC') COMMENT 'One month later: Article 12(3) GDPR',
    `detail` String COMMENT 'Which stores are awaited, and why; no personal data',
    `run_id` String COMMENT 'Dagster run, or the command, that set the state',
    `updated_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC') COMMENT 'When the state was set'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY request_id
COMMENT 'Requests for access and erasure; the newest row of each counts';

CREATE TABLE IF NOT EXISTS ops.erasure_proofs
(
    `request_id` String COMMENT 'The request',
    `store` LowCardinality(String) COMMENT 'Name of the store, by the registry of assets/compliance',
    `state` LowCardinality(String) COMMENT 'erased, nothing (found), kept (by law), not_ours (asked of its owner), absent (not configured) or waiting',
    `found` UInt64 COMMENT 'Items found by all attempts: rows, documents, keys, records, files',
    `erased` UInt64 COMMENT 'Items erased by all attempts',
    `kept` UInt64 COMMENT 'Items kept by law: see details',
    `near` UInt64 COMMENT 'Items that hold an identifier as part of a longer word: not the person''s, left alone',
    `remaining` UInt64 COMMENT 'Items that a byte-level search found afterwards, kept ones not counted',
    `how` String COMMENT 'What was done, in words',
    `details` String COMMENT 'JSON: by table or topic, what was kept on which legal basis; no personal data' CODEC(ZSTD(1)),
    `code_version` LowCardinality(String) COMMENT 'Version of the erasing code',
    `started_at` DateTime64(3, 'UTC') COMMENT 'When the store was first looked at',
    `finished_at` DateTime64(6, 'UTC') COMMENT 'When it was searched last',
    `run_id` String COMMENT 'Dagster run',
    `key_id` LowCardinality(String) COMMENT 'Which key signed it',
    `signature` String COMMENT 'HMAC-SHA-256 over the row, hexadecimal'
)
ENGINE = ReplacingMergeTree(finished_at)
ORDER BY (request_id, store)
COMMENT 'Proof of erasure, one row a store';

-- Who was erased, so that nothing brings them back.
CREATE TABLE IF NOT EXISTS ops.erased_subjects
(
    `hash` String COMMENT 'Keyed hash of an identifier, or of its hash on the bus',
    `key_id` LowCardinality(String) COMMENT 'Under which key',
    `words` UInt8 COMMENT 'Words that the identifier has: how long a run of words is compared',
    `request_id` String COMMENT 'The request',
    `erased_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was listed'
)
ENGINE = ReplacingMergeTree(erased_at)
ORDER BY (hash, request_id)
COMMENT 'Erased identifiers as keyed hashes';

-- Rows that a mutation is to delete, by a hash of the row: its command stays on the disk, so no value may stand in it.
CREATE TABLE IF NOT EXISTS ops.erasure_rows
(
    `request_id` String COMMENT 'The request',
    `table_name` LowCardinality(String) COMMENT 'Database and table',
    `row_hash` UInt128 COMMENT 'sipHash128 of the row''s columns'
)
ENGINE = MergeTree
ORDER BY (request_id, table_name, row_hash)
COMMENT 'Rows that are being erased; empty when no erasure is under way';
