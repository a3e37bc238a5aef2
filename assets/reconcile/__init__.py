"""Reconciliation: tables of the sources beside the warehouse's, differences, and repairs as decisions."""
