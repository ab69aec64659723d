"""Owns the search for sinks: finds enabled names among installed entry points; refuses unknown, duplicate, broken."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import pluggy

from wld import hookspecs
from wld.errors import PluginError
from wld.hookspecs import GROUP, SinkSpec


def installed() -> list[EntryPoint]:
    """Every entry point of the group, loaded or not, by name."""
    unique = {(e.name, e.value, e.dist.name if e.dist else ""): e for e in entry_points(group=GROUP)}
    return sorted(unique.values(), key=lambda e: e.name)


def load_sinks(enabled: Iterable[str]) -> dict[str, SinkSpec]:
    """The specs of the enabled names, importing only those.

    Raises:
        PluginError: a name nobody or more than one distribution offers, an import that fails, a module that does
            not return exactly one SinkSpec of that name.
    """
    offered = installed()
    return {name: _load(name, offered) for name in enabled}


def _load(name: str, offered: list[EntryPoint]) -> SinkSpec:
    matches = [e for e in offered if e.name == name]
    if not matches:
        names = sorted({e.name for e in offered})
        close = difflib.get_close_matches(name, names, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise PluginError(f"sink {name}: not installed; installed: {', '.join(names) or 'none'}{hint}")
    if len(matches) > 1:
        owners = ", ".join(sorted(e.dist.name if e.dist else e.value for e in matches))
        raise PluginError(f"sink {name}: offered by more than one distribution ({owners}); uninstall all but one")
    manager = pluggy.PluginManager("wld")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(matches[0].load(), name=name)
        manager.check_pending()
        specs = manager.hook.wld_sink()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PluginError(f"sink {name}: cannot be loaded from {matches[0].value}: {reason}") from error
    if len(specs) != 1 or not isinstance(specs[0], SinkSpec):
        raise PluginError(f"sink {name}: {matches[0].value}: wld_sink must return one SinkSpec, got {specs!r:.80}")
    spec: SinkSpec = specs[0]
    if spec.name != name:
        raise PluginError(f"sink {name}: {matches[0].value} returned a SinkSpec named {spec.name!r}")
    return spec
