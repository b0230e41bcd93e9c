"""OpenTelemetry for consumers and providers; needs ``townhall[otel]``.

::

    consumer = townhall.Consumer("http://127.0.0.1:7500", tracing=townhall.otel.Tracing())
    townhall.otel.instrument(consumer)
"""

from townhall.client.extras import needs

with needs("opentelemetry", extra="otel"):
    from townhall.client.telemetry import Measured, Tracing, instrument

__all__ = ["Measured", "Tracing", "instrument"]
