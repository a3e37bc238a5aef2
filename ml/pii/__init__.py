"""Personal data: finding it in columns, payloads and free text, and taking it out.

What belongs here: patterns with checksums (``patterns``, ``checksums``, ``fast``), the rules and the model for free
text
(``prose``, ``engine``), the choice between them (``router``), redaction (``redaction``) and the comparison of what was
found with what is declared (``inventory``). What does not: reading a table, or keeping a vault (``assets.quality``).
"""
