"""The shop's saga in a world with faults: one code for virtual time (experiments) and real time.

``clock`` and ``durability`` are the two protocols behind which time and persistence differ. ``participants`` serve
calls, ``faults`` hurt them, ``saga`` orchestrates under a ``policy``, ``run`` puts it all under seeded arrivals.
"""
