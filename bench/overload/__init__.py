"""Ten times more requests than can be served: what is served, and how the rest is refused."""
