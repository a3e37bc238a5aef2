-- The databases of the warehouse; `staging`, `intermediate` and `marts` are filled by dbt, the others by the platform.
CREATE DATABASE IF NOT EXISTS raw COMMENT 'As landed from the bus: every offset once, payload as text';
CREATE DATABASE IF NOT EXISTS staging COMMENT 'dbt: typed and deduplicated, where an event becomes one';
CREATE DATABASE IF NOT EXISTS intermediate COMMENT 'dbt: steps on the way to a mart';
CREATE DATABASE IF NOT EXISTS marts COMMENT 'dbt: the tables that people and decisions read';
CREATE DATABASE IF NOT EXISTS ml COMMENT 'Features, predictions and forecasts';
CREATE DATABASE IF NOT EXISTS quality COMMENT 'Results of checks, findings, reconciliation';
CREATE DATABASE IF NOT EXISTS ops COMMENT 'Decisions, outcomes, audit and the platform''s own bookkeeping';
