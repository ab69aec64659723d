"""Owns where long work runs: here, or on a Dask cluster that is already there. Does not own what the work is.

A piece of work is a pure, picklable function of a picklable unit, so that it may run anywhere and, where a worker dies,
again; it reads tapes and writes into a shared folder by the paths it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from wld.config import expect_one_of
from wld.errors import ConfigError, WldError

U = TypeVar("U")
R = TypeVar("R")

ENGINES = ("local", "dask")
CONNECT_TIMEOUT_S = 10.0

MapUnits = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""As `map`: a function and its units, to their results in the order of the units."""


@contextmanager
def open_engine(engine: str, scheduler: str | None = None) -> Iterator[MapUnits | None]:
    """A way to run units; None for `local`: the caller runs them itself, one after the other.

    `scheduler` is the address of a running Dask scheduler, such as `tcp://10.0.0.5:8786`. Every worker needs wld of the
    same version and sees the tapes and the target under the same paths. A worker that dies costs a second run of its
    units elsewhere.

    Raises:
        ConfigError: an unknown engine, no scheduler for `dask`, or the extra `dask` is not installed.
        WldError: the scheduler cannot be reached, or units failed.
    """
    expect_one_of("--engine", engine, ENGINES)
    if engine == "local":
        if scheduler is not None:
            raise ConfigError("--scheduler: is for --engine dask")
        yield None
        return
    if scheduler is None:
        raise ConfigError("--engine dask: needs --scheduler, such as tcp://127.0.0.1:8786")
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("--engine dask: needs the extra dask: pip install 'wld[dask]'") from None
    try:
        client: Any = cast(Any, Client)(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise WldError(f"--scheduler {scheduler}: no Dask scheduler answers there: {why[:200]}") from None
    for name in list(logging.root.manager.loggerDict):  # what fails is said once, in one line
        if name.partition(".")[0] in ("distributed", "asyncio", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with client:
        yield _Dask(client, scheduler).map


class _Dask:
    def __init__(self, client: Any, scheduler: str) -> None:
        self._client = client
        self._scheduler = scheduler

    def map(self, work: Callable[[U], R], units: Sequence[U]) -> Iterable[R]:
        """Results in the order of the units. Cancels what is left when one fails or the caller gives up."""
        from distributed import CancelledError, KilledWorker

        # Not pure: the same unit may be asked for again after its files are gone.
        futures = self._client.map(work, list(units), pure=False, retries=2)
        try:
            results: list[R] = self._client.gather(futures)
        except KilledWorker as error:
            raise WldError(f"{self._scheduler}: workers died again and again over one unit: {error}") from None
        except (CancelledError, OSError) as error:
            raise WldError(f"{self._scheduler}: the cluster went away: {' '.join(str(error).split())}") from None
        finally:
            self._client.cancel(futures, force=True)
        return results
