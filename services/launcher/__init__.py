"""A Dagster run launcher over a warm process: a run starts in a fork of an interpreter that has everything imported.

What belongs here: the launcher that an instance names in its dagster.yaml, the pool process behind it, and the few
messages between the two. What does not: anything about what a run does.

Most of the time between an event and its run's body goes into starting Python and importing Dagster. The pool imports
once and forks per run; the fork executes ``dagster api execute_run``, the same command that Dagster's Docker and
Kubernetes launchers run, so that a run keeps its ordinary life: events, logs, retries, termination, monitoring.
"""
