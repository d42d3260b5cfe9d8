"""What tracing costs the services: CPU of a request with it and without, and the loops' lag."""
