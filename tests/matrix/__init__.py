"""Tests of the Matrix adapter: pure parts by property, the rest against a real Synapse."""
