"""Real services for tests: Apache Kafka, PostgreSQL, Redis, a MongoDB server, a schema registry, Temporal.

``python -m tests.services COMMAND…`` runs a command with them. What belongs here: finding, installing, starting,
killing and stopping them. What does not: any test.
"""
