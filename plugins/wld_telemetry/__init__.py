"""Live figures of the market and of the feed beside the picture; pure state, and rows that any view can draw."""

from wld import SinkSpec, hookimpl
from wld_telemetry.columns import apply_tables
from wld_telemetry.sink import TelemetryConfig, TelemetrySink
from wld_telemetry.state import Group, Row, Telemetry

__all__ = ["Group", "Row", "Telemetry", "TelemetryConfig", "TelemetrySink", "apply_tables", "wld_sink"]


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `telemetry`."""
    return SinkSpec(name="telemetry", config_type=TelemetryConfig, create=TelemetrySink, needs_screen=True)
