"""Verdicts on rows, learned from good ones: served, repaired with certainty, held back."""
