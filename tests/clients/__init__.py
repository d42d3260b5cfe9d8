"""Clients from their registries against the running stack with the real model."""
