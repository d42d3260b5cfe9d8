"""Guides: what a whole output must be for its content and calls to be what was asked."""
