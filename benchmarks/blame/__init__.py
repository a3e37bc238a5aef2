"""What ``benchmarks/root_cause.py`` runs: folders of faults, and the peers' methods as their papers tell them."""
