"""Measurements: what the core promises, in figures."""
