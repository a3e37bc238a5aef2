"""The client library: what an orchestrator needs to ask for advice, to obey it, and to report its steps.

What belongs here: asking, time-outs, retries within a budget, shedding by deadline, compensation, reporting, and
adapters for durable orchestrators. What does not: any participant, any store, anything that the services import.
"""
