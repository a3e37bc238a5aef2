-- What each column was found to hold, one row an entity and scan. No value of a column stands here.
CREATE TABLE IF NOT EXISTS quality.pii_inventory
(
    `scanned_at` DateTime64(3, 'UTC') COMMENT 'When the column was read',
    `run_id` String COMMENT 'Dagster run',
    `column` String COMMENT 'database.table.column, and the JSON path where it holds JSON',
    `entity` LowCardinality(String) COMMENT 'Presidio''s name of what was found; empty for nothing',
    `route` LowCardinality(String) COMMENT 'skip, fast or prose: how it was read',
    `sampled` UInt64 COMMENT 'Values that were read',
    `found` UInt64 COMMENT 'Of them with the entity',
    `confidence` Float32 COMMENT 'How sure it is that the column holds it, 0 to 1',
    `declared` Bool COMMENT 'Whether a person has declared it',
    `undeclared` Bool COMMENT 'Whether it is personal data for certain, and nobody has',
    `owner` String COMMENT 'Who answers for the column',
    `lawful_basis` LowCardinality(String) COMMENT 'Article 6 GDPR: why it may be kept',
    `retention` String COMMENT 'How long',
    `action` LowCardinality(String) COMMENT 'drop, mask, hash or token; empty for none',
    `note` String COMMENT 'What the scan could not do'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(scanned_at)
ORDER BY (column, entity, scanned_at)
TTL toDateTime(scanned_at) + INTERVAL 400 DAY
COMMENT 'Inventory of personal data, every scan';

-- What a format-preserving token stands for, encrypted. A row that is deleted makes its token nobody's.
CREATE TABLE IF NOT EXISTS ops.pii_vault
(
    `entity` LowCardinality(String) COMMENT 'What the value is',
    `lookup` String COMMENT 'Keyed hash of the value: the same value gets the same token',
    `token` String COMMENT 'What stands in its place',
    `key_id` LowCardinality(String) COMMENT 'Which key sealed it',
    `nonce` String COMMENT 'Nonce of AES-GCM, hexadecimal',
    `ciphertext` String COMMENT 'The value, sealed, hexadecimal',
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the token was made'
)
ENGINE = ReplacingMergeTree(created_at)
ORDER BY (entity, lookup)
COMMENT 'Vault of tokens; readers of the warehouse need no right to it';
