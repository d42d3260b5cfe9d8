"""Errors and frame streams: how the services talk to one another."""
