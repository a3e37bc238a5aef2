"""The router under kills, restarts, rebalances and bad input: nothing lost, nothing doubled, order kept."""
