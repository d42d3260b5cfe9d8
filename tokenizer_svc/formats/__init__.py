"""Output formats: the markup in which models write thoughts and tool calls, one parser each."""
