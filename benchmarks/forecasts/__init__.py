"""Parts of ``benchmarks/forecast.py``: reading series, peers and baselines, figures."""
