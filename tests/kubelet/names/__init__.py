"""The folder that goes on the PYTHONPATH of every container, for its sitecustomize alone."""
