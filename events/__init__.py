"""The contract: what an event looks like, which topic and key it has, and how it is read and written.

What belongs here: schemas, the catalogue, the codec, validation, field rules, and the check that a schema only grows.
What does not: connections, settings, clocks of a service. This room imports none of the others.
"""
