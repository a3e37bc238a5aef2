"""The router: from ``isthmus.ingress`` to the topic of each event's domain, or to the dead letters.

What belongs here: the process that moves records (``python -m services.router``), what a dead letter looks like, its
health and its counters. What does not: what a valid event is (``events/``).
"""
