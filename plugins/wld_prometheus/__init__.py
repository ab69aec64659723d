"""Metrics of a run for Prometheus, on a loopback port: rates, lag, gaps, drops, ring depth, tape size."""

from wld import SinkSpec, hookimpl
from wld_prometheus.sink import PrometheusConfig, PrometheusSink

__all__ = ["PrometheusConfig", "PrometheusSink", "wld_sink"]

CAPACITY = 500_000
"""Events: counting takes a microsecond or less an event, so what waits here was waiting for the loop."""


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `prometheus`."""
    return SinkSpec(
        name="prometheus",
        config_type=PrometheusConfig,
        create=PrometheusSink,
        capacity=CAPACITY,
        requires=("prometheus_client",),
    )
