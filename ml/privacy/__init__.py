"""Persons in data: who is meant, how a person is found whatever the encoding, sealed requests, and signed proofs."""
