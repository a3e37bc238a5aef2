"""What ``benchmarks/router.py`` runs: the load and its clock, the bare passthrough, and the peers' routers."""
