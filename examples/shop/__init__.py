"""The shop: the one source of shop traffic, an order saga over inventory, payment and notification."""
