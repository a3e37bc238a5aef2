"""What the fork server imports, and compiles, before the first fork; it makes no client."""

import services.router.__main__  # noqa: F401 - imported for those who are forked
from events.compiled import compiled_types, envelope_validator

compiled_types()
envelope_validator()
