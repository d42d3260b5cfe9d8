"""The collector itself: what the services' exporter sends to it reaches the recorder."""

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.support.otlp_recorder import OtlpRecorder
from tests.telemetry.collector import Collector


def test_hands_on(recorder: OtlpRecorder, collector: Collector) -> None:
    """A span comes out as it went in: ids, times, kinds, attributes and events."""
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=collector.endpoint, insecure=True, timeout=5)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("made by hand") as span:
        span.set_attribute("gen_ai.response.finish_reasons", ["stop", "length"])
        span.set_attribute("gen_ai.request.stream", value=True)
        span.add_event("first_token")
    provider.shutdown()

    trace_id = f"{span.get_span_context().trace_id:032x}"
    seen = recorder.await_trace(trace_id, lambda spans: len(spans) == 1, 10)

    assert [each.name for each in seen] == ["made by hand"]
    assert seen[0].attributes == {
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.request.stream": True,
    }
    assert (seen[0].start_ns, seen[0].end_ns) == (span.start_time, span.end_time)
    assert [name for name, _ in seen[0].events] == ["first_token"]
