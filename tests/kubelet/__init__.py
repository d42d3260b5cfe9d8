"""A small kubelet: what the chart renders, run as local processes. See cluster.py."""
