"""How much of each prompt of a multi-turn chat comes from the cache, and what that saves."""
