"""Incidents as assets: what a burst of failures is made of, recorded once."""

from assets.incidents.bursts import saga_bursts

__all__ = ["saga_bursts"]
