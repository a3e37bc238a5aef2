"""Examples: the shop (the one source of shop traffic), adapters of public data sets, and their replay to the bus.

What belongs here: producers of events that stand for a user's own services. What does not: anything that the platform
needs to run; these modules see `events` and the outside of the platform only.
"""
