"""What a machine must have to serve with TensorRT-LLM: probes gather facts, judges judge them.

Judges are pure. Every probe has a deadline, and whatever may hang or crash runs in a child process.
"""
