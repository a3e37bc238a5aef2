"""What exists: one module a capability, each thin: read, one pure call, write, metadata. May import ``events``, ``ml``
and ``resources``."""
