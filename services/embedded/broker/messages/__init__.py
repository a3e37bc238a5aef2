"""The messages that this broker understands, as tables: one schema pair per request type.

What belongs here: schemas and version ranges. What does not: what a request does (``handlers``). Where a request type
has newer versions than ours, clients agree with us on ours through ApiVersions.
"""
