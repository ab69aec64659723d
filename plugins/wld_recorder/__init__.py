"""The black box: writes every event to tapes. Owns when to flush, sync and seal; the bytes are `wld.TapeWriter`'s."""

from wld import SinkSpec, hookimpl
from wld_recorder.recorder import Recorder, RecorderConfig

__all__ = ["Recorder", "RecorderConfig", "wld_sink"]

CAPACITY = 500_000
"""Events: some minutes of one busy symbol, so that a slow disk costs memory before it costs data."""


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `recorder`; a run whose recorder fails ends with status 1."""
    return SinkSpec(
        name="recorder",
        config_type=RecorderConfig,
        create=Recorder,
        capacity=CAPACITY,
        critical=True,
        stores=True,
    )
