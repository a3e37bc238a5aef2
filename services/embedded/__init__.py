"""The laptop's warehouse and broker: one machine, development and CI. Production has ClickHouse and Apache Kafka."""
