"""Long-running processes that sit outside Dagster's run model. May import ``events``, ``ml`` and ``resources``."""
