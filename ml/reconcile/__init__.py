"""Reconciliation of a source's table with the warehouse's: row hashes, segments, classes. Pure; the stores compute."""
