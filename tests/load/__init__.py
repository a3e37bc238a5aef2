"""Exactness under load and kills: what was sent, once in raw, once in staging, and right in every mart."""
