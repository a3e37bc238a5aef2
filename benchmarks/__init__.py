"""One command per capability, each beside its baselines in the same run; see docs/development/benchmarks.md."""
