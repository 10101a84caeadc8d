"""Spans by OpenTelemetry, sent over OTLP: needs the extra `otel`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from server.settings import SettingsError
from server.trail import Fact, Span, record_with


class _Recorded:
    def __init__(self, span: Any) -> None:
        self._span = span

    def tell(self, **facts: Fact) -> None:
        for name, value in facts.items():
            if value != "":
                self._span.set_attribute(f"tokenwire.{name}", value)


def export(url: str) -> Callable[[], None]:
    """Record every span and send it to the collector at `url`; return what ends that.

    Raises `SettingsError` where OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SettingsError("traces: needs the extra: pip install 'tokenwire[otel]'") from None
    return record(BatchSpanProcessor(OTLPSpanExporter(url)))


def record(processor: Any) -> Callable[[], None]:
    """Record every span with an OpenTelemetry span processor; return what ends that."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    provider = TracerProvider(resource=Resource.create({"service.name": "tokenwire"}))
    provider.add_span_processor(processor)
    tracer, propagator = provider.get_tracer("tokenwire"), TraceContextTextMapPropagator()

    @contextmanager
    def open_span(name: str, facts: dict[str, Fact]) -> Iterator[Span]:
        # Only a request has one: what begins within it finds its parent by itself.
        parent = facts.pop("traceparent", None)
        context = propagator.extract({"traceparent": str(parent)}) if parent else None
        kind = trace.SpanKind.INTERNAL if parent is None else trace.SpanKind.SERVER
        with tracer.start_as_current_span(name, context, kind) as span:
            recorded = _Recorded(span)
            recorded.tell(**facts)
            yield recorded

    forget = record_with(open_span)

    def end() -> None:
        forget()
        provider.shutdown()

    return end
