"""Metrics, curves, pictures and the report."""
