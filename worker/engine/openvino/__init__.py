"""The embedded CPU engine: paged attention over OpenVINO's kernels."""
