"""Live figures of the market and of the feed beside the picture; pure state, and rows that any view can draw."""

from wld import SinkSpec, hookimpl
from wld_telemetry.feed import Feed
from wld_telemetry.running import Running
from wld_telemetry.sink import TelemetryConfig, TelemetrySink, draw_row
from wld_telemetry.state import Group, Row, Telemetry

__all__ = [
    "Feed",
    "Group",
    "Row",
    "Running",
    "Telemetry",
    "TelemetryConfig",
    "TelemetrySink",
    "draw_row",
    "wld_sink",
]


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `telemetry`."""
    return SinkSpec(name="telemetry", config_type=TelemetryConfig, create=TelemetrySink, needs_screen=True)
