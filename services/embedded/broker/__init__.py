"""The embedded broker: one process that speaks the Kafka protocol, for one machine and for development only.

What belongs here: the wire format (``wire``, ``messages``), the log (``records``, ``segment``, ``log``, ``producers``),
what is kept beside it (``journal``, ``topics``, ``offsets``), the coordinators (``groups``, ``transactions``), the
request handlers (``handlers``) and the server. What does not: anything that knows what an event means; record batches
stay opaque. Start it with ``python -m services.embedded.broker --path DIR --port N``.
"""
