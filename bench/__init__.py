"""Benchmarks: what a timing test would judge, as tables, JSON and pictures."""
