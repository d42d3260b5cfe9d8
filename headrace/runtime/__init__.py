"""Settings, logs, lifecycle: how a service process runs."""
