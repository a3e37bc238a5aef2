"""The broker: one suite for the embedded one and for Apache Kafka, and what only the embedded one has."""
