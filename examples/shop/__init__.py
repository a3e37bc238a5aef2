"""The shop: the one source of shop traffic, an order saga over inventory, payment and notification.

What belongs here: a small shop that behaves like one under load, in virtual time, and what it tells the bus. What does
not: sending (``examples.replay``).
"""

from examples.shop.broken import malformed
from examples.shop.traffic import traffic

__all__ = ["malformed", "traffic"]
