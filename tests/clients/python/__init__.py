"""Python programs that each use one client; they run in that client's environment."""
