"""Owns what the radar knows from before it started: tapes (`history`), a state file (`state`). Blocking calls.

Writes nothing but the state file that the user named.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from wld import Event, TapeError, WldError, open_tape
from wld_heatmap.evaluation import Scorer
from wld_heatmap.history import HeatMap
from wld_heatmap.ledger import Grid, Ledger
from wld_heatmap.model import HeatModel
from wld_heatmap.radar import Radar

KINDS = ("trade", "ticker", "liquidation", "gap", "instrument")
"""What the model takes of a tape; the books are not decoded."""
CHUNK = 20_000
STATE_VERSION = 1
_MAGIC = b"WLDHEAT"

Progress = Callable[[int], None]
"""Told after every chunk how many events were read so far."""


def chunks(tape: Iterable[Event]) -> Iterator[list[Event]]:
    """A tape's events in lists of `CHUNK`; where the tape raises, what came before it comes first."""
    chunk: list[Event] = []
    try:
        for event in tape:
            chunk.append(event)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
    except TapeError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def load_history(
    radar: Radar, paths: str | Iterable[str], symbols: Iterable[str] | None = None, progress: Progress | None = None
) -> int:
    """Let the radar watch tapes, columns marked as seed; returns how many events it took.

    What a damaged file still holds is used. Raises: TapeError when there is no tape at `paths`.
    """
    chosen = [paths] if isinstance(paths, str) else list(paths)
    count = 0
    for heatmap in radar.maps.values():
        heatmap.is_seeding = True
    radar.is_seeding = True
    try:
        for chunk in chunks(open_tape(list(chosen), symbols=symbols).only(KINDS)):
            radar.apply(chunk)
            count += len(chunk)
            if progress is not None:
                progress(count)
    except TapeError:
        if not count:
            raise
    finally:
        radar.is_seeding = False
        for heatmap in radar.maps.values():
            heatmap.is_seeding = False
    return count


# The state file.

_MODEL_FIELDS = (
    "now", "mark", "mark_time", "open_interest", "first_time", "w", "forced_count", "snapped_count", "swept",
)  # fmt: skip
_MODEL_ARRAYS = ("weights", "leverages", "evidence", "exposure", "counts")
_BASELINE_FIELDS = ("_base", "_count", "_volume", "_value", "_size")
_BASELINE_ARRAYS = ("_predecessor", "_crossed_at")
_SCORER_COLUMNS = ("times", "sides", "bins", "notional", "events")
_SCORER_FIELDS = ("unmatched_events", "unmatched_notional", "snapped_events", "_start")


def _array(array: Any) -> dict[str, Any]:
    return {"type": str(array.dtype), "shape": list(array.shape), "bytes": array.tobytes()}


def _read_array(value: Any) -> Any:
    return np.frombuffer(value["bytes"], value["type"]).reshape(value["shape"]).copy()


def _pack_map(heatmap: HeatMap) -> dict[str, Any] | None:
    model, scorer = heatmap.model, heatmap.scorer
    if model.ledger is None or model.grid is None:
        return None
    baselines = scorer.baselines
    lead = scorer.leads[0]
    return {
        "width": model.grid.width,
        "base": model.ledger.base,
        "mass": _array(model.ledger.mass),
        "model": {name: getattr(model, name) for name in _MODEL_FIELDS},
        "arrays": {name: _array(getattr(model, name)) for name in _MODEL_ARRAYS},
        "sizes": list(model.sizes),
        "notionals": list(model.notionals),
        "baselines": {name: getattr(baselines, name) for name in _BASELINE_FIELDS},
        "baseline_arrays": {name: _array(getattr(baselines, name)) for name in _BASELINE_ARRAYS},
        "minutes": list(baselines._minutes),
        "events": list(baselines._events),
        "score": {name: getattr(scorer, name).tobytes() for name in _SCORER_COLUMNS},
        "heat": {name: np.asarray(row, np.float32).tobytes() for (at, name), row in scorer.heat.items() if at == lead},
        "scorer": {name: getattr(scorer, name) for name in _SCORER_FIELDS},
    }


def pack_state(radar: Radar) -> bytes:
    """Everything worth keeping over a restart: ledgers, learned weights, score. Quick; the caller may not yet mutate."""
    maps = {symbol: packed for symbol, heatmap in radar.maps.items() if (packed := _pack_map(heatmap))}
    return msgspec.msgpack.encode(maps)


def write_state(path: str | Path, packed: bytes) -> None:
    """Write it beside the old one and take its place at once: a kill leaves the old or the new, never half.

    Raises:
        WldError: the file cannot be written.
    """
    path = Path(path)
    body = zlib.compress(packed, 1)
    head = _MAGIC + bytes([STATE_VERSION]) + zlib.crc32(body).to_bytes(4, "little")
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            file.write(head + body)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise WldError(f"sinks.heatmap.state: {path} cannot be written: {error.strerror}") from error


def save_state(radar: Radar, path: str | Path) -> None:
    """`pack_state` and `write_state` in one, for a radar that nobody feeds meanwhile."""
    write_state(path, pack_state(radar))


def load_state(radar: Radar, path: str | Path) -> list[str]:
    """Restore what `save_state` wrote; returns notes for the log. No file yet: nothing to restore, no note.

    A file that is damaged, of another version, or made with other bins or leverages is left alone, with a note, and
    the radar starts cold. Raises: WldError when the file is there and cannot be read.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WldError(f"sinks.heatmap.state: {path} cannot be read: {error.strerror}") from error
    start = len(_MAGIC)
    if data[:start] != _MAGIC:
        raise WldError(f"sinks.heatmap.state: {path} is not a state file of the heatmap; name another file")
    if data[start] != STATE_VERSION:
        return [f"{path}: state of version {data[start]}, this wld reads {STATE_VERSION}: starting cold"]
    body = data[start + 5 :]
    if zlib.crc32(body).to_bytes(4, "little") != data[start + 1 : start + 5]:
        return [f"{path}: damaged: starting cold"]
    notes = []
    try:
        maps = msgspec.msgpack.decode(zlib.decompress(body))
        for symbol, packed in maps.items():
            heatmap = radar.map_of(symbol)
            if heatmap is not None:
                notes.append(f"{symbol}: {_restore(heatmap, packed)}")
    except (KeyError, ValueError, TypeError, zlib.error, msgspec.DecodeError) as error:
        return [f"{path}: cannot be used ({error!r:.80}): starting cold"]
    return notes


def _restore(heatmap: HeatMap, packed: dict[str, Any]) -> str:
    width = packed["width"]
    if heatmap.config.bin_width > width * 1.0001:
        return "state has other bins: starting cold"
    leverages = _read_array(packed["arrays"]["leverages"])
    mass = _read_array(packed["mass"])
    if mass.shape[:2] != (2, len(leverages)):
        return "state does not agree with itself: starting cold"
    model = heatmap.model
    known = HeatModel(heatmap.config)
    if not set(leverages.tolist()) <= {*known.config.tier_leverages, float(leverages[-1])}:
        return "state has other leverages: starting cold"
    model.grid = Grid(width)
    ledger = model.ledger = Ledger(len(leverages), mass.shape[2], 0)
    ledger.base, ledger.mass = packed["base"], mass
    for name, value in packed["model"].items():
        setattr(model, name, tuple(value) if isinstance(value, list) else value)
    for name in _MODEL_ARRAYS:
        setattr(model, name, _read_array(packed["arrays"][name]))
    model.restore(packed["sizes"], packed["notionals"])
    scorer: Scorer = heatmap.scorer
    baselines = scorer.baselines
    for name, value in packed["baselines"].items():
        setattr(baselines, name, value)
    for name in _BASELINE_ARRAYS:
        setattr(baselines, name, _read_array(packed["baseline_arrays"][name]))
    baselines._uniform = np.ones((2, baselines._count))
    baselines._minutes = deque(tuple(item) for item in packed["minutes"])
    baselines._events = deque(tuple(item) for item in packed["events"])
    baselines._strike_anew()
    for name, raw in packed["score"].items():
        column = getattr(scorer, name)
        del column[:]
        column.frombytes(raw)
    for name, raw in packed["heat"].items():
        row = scorer.heat[scorer.leads[0], name]
        del row[:]
        row.extend(np.frombuffer(raw, np.float32).tolist())
    for name, value in packed["scorer"].items():
        setattr(scorer, name, value)
    heatmap.restored_at = model.now
    return f"restored, {len(scorer)} buckets scored"
