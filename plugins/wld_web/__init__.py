"""The radar in a browser: the terminal's model and numbers, drawn on a page that this sink serves on loopback."""

from wld import SinkSpec, hookimpl
from wld_web.sink import Web, WebConfig

__all__ = ["Web", "WebConfig", "wld_sink"]

CAPACITY = 65_536
"""Events: a minute of one busy symbol, as the terminal's radar."""


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `web`; its failure never ends a run."""
    return SinkSpec(
        name="web", config_type=WebConfig, create=Web, capacity=CAPACITY, requires=("hypercorn", "starlette")
    )
