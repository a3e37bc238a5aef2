"""Verdicts on rows: which are served, which are repaired with certainty, which are held back, learned from good rows."""
