"""Real services by ``make test-services``: that they serve, and that our settings accept them."""
