"""Measurements of what the README and docs claim."""
