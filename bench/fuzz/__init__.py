"""Random requests to a running edge, after its OpenAPI document: `python -m bench.fuzz`."""
