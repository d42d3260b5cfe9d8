"""Bounds of the services' histograms, in seconds."""

from typing import Final

# As the GenAI conventions advise, gen-ai-metrics.md; +Inf is added by the library.
REQUEST_DURATION: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
"""gen_ai.server.request.duration."""
TIME_TO_FIRST_TOKEN: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
)  # fmt: skip
"""gen_ai.server.time_to_first_token."""
TIME_PER_OUTPUT_TOKEN: Final = (
    0.001, 0.002, 0.004, 0.006, 0.008,
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
)  # fmt: skip
"""gen_ai.server.time_per_output_token; finer below 10 ms, where a fast GPU's tokens all are."""

HTTP_DURATION: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
    30, 60, 120, 300,
)  # fmt: skip
"""http.server.request.duration; longer than advised, for streams."""
PHASE_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
)  # fmt: skip
"""Waits, and phases of a request."""
LOOP_LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""headrace_loop_lag_seconds."""
