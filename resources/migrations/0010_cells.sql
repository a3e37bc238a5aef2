-- Cells that the learned validation holds to be wrong, without their values: a row is named by a hash of its key.
CREATE TABLE IF NOT EXISTS quality.cell_findings
(
    `found_at` DateTime64(3, 'UTC') COMMENT 'When the table was looked at',
    `run_id` String COMMENT 'The look',
    `table_name` LowCardinality(String) COMMENT 'Database and table',
    `row_key` String COMMENT 'hex(sipHash128(...)) of the row''s sorting key',
    `column_name` LowCardinality(String) COMMENT 'Column',
    `probability` Float64 COMMENT 'That the cell is wrong, 0 to 1',
    `labelled_rows` UInt32 COMMENT 'Rows whose labels the look knew'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(found_at)
ORDER BY (table_name, found_at, row_key, column_name)
TTL toDateTime(found_at) + INTERVAL 400 DAY
COMMENT 'Cells of warehouse tables that are probably wrong';

CREATE TABLE IF NOT EXISTS quality.cell_labels
(
    `table_name` LowCardinality(String) COMMENT 'Database and table',
    `row_key` String COMMENT 'hex(sipHash128(...)) of the row''s sorting key',
    `wrong_columns` Array(String) COMMENT 'Columns of the row whose cell is wrong; empty: all are right',
    `labelled_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When',
    `actor` String COMMENT 'Who said so'
)
ENGINE = ReplacingMergeTree(labelled_at)
ORDER BY (table_name, row_key)
COMMENT 'What stewards said of rows; the newest word counts';
