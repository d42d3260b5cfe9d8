"""What an operator sees of the services: spans, metrics' common parts, health beside the loop."""
