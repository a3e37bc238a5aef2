"""Real services for tests: Apache Kafka, PostgreSQL, Redis, a MongoDB server; see ``python -m tests.services``.

What belongs here: finding, installing, starting, killing and stopping them. What does not: any test.
"""
