"""Ratios measured side by side on this machine: `python -m tests.bench`."""
