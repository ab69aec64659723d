"""Owns the search for plugins: finds enabled names among installed entry points; refuses unknown, duplicate, broken.

Does not run them, and does not own what the contract is (`wld.hookspecs`).
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec
import pluggy
from msgspec import Struct

from wld import hookspecs
from wld.config import nearest
from wld.errors import PluginError
from wld.hookspecs import COMMAND_GROUP, GROUP, SOURCE_GROUP, Sink, SinkContext, SinkSpec, SourceSpec

RESERVED = ("screen", "status")
"""Names under which the engine's own parts take events beside the sinks."""


def installed(group: str = GROUP) -> list[EntryPoint]:
    """Every entry point of the group, loaded or not, by name."""
    unique = {(e.name, e.value, e.dist.name if e.dist else ""): e for e in entry_points(group=group)}
    return sorted(unique.values(), key=lambda e: (e.name, e.dist.name if e.dist else ""))


def load_sinks(enabled: Iterable[str]) -> dict[str, SinkSpec]:
    """The specs of the enabled names, importing only those.

    Raises:
        PluginError: a name nobody or more than one distribution offers, an import that fails, something to import
            that is not installed, a module that does not return exactly one sound SinkSpec of that name.
    """
    offered = installed()
    specs = {}
    for name in enabled:
        entry = _only(name, offered, "sink")
        spec = load_entry(entry)
        absent = missing(entry, spec.requires)
        if absent:
            raise PluginError(f"{who(entry)}: {absent}")
        specs[name] = spec
    return specs


def load_source(scheme: str) -> SourceSpec:
    """The source that an installed package offers for URLs of this scheme. Raises: PluginError, as `load_sinks`."""
    entry = _only(scheme, installed(SOURCE_GROUP), "source")
    spec: SourceSpec = _call_hook(entry, "wld_source", SourceSpec)
    if spec.name != scheme:
        raise PluginError(f"{who(entry)}: its SourceSpec is named {spec.name!r}, the entry point {scheme!r}")
    absent = missing(entry, spec.requires)
    if absent:
        raise PluginError(f"{who(entry)}: {absent}")
    return spec


def load_command(name: str) -> Any:
    """The click command that an installed package offers under this name.

    Raises:
        PluginError: offered twice, an import that fails, something that is no command.
    """
    entry = _only(name, installed(COMMAND_GROUP), "command")
    try:
        command = entry.load()
    except ModuleNotFoundError as error:
        absent = missing(entry, (str(error.name),))
        raise PluginError(f"{who(entry)}: {absent or _cause(error)}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{who(entry)}: cannot be imported: {_cause(error)}") from error
    if not callable(getattr(command, "main", None)):
        raise PluginError(f"{who(entry)}: {entry.value} must be a click command, not {command!r:.60}")
    return command


def create_sink(spec: SinkSpec, config: Any, context: SinkContext) -> Sink:
    """Make the sink and look at it before it runs.

    Raises:
        PluginError: what was made has no `async def run(self, batches, *, task_status)`.
    """
    sink = spec.create(config, context)
    problem = _run_problem(getattr(sink, "run", None))
    if problem:
        raise PluginError(f"sink {spec.name}: {type(sink).__module__}.{type(sink).__qualname__}.run {problem}")
    return sink


def _only(name: str, offered: list[EntryPoint], kind: str) -> EntryPoint:
    matches = [e for e in offered if e.name == name]
    if not matches:
        names = sorted({e.name for e in offered})
        raise PluginError(
            f"{kind} {name}: not installed; installed: {', '.join(names) or 'none'}{nearest(name, names)}"
        )
    if len(matches) > 1:
        raise PluginError(f"{kind} {name}: {doubled(matches[0], matches)}")
    return matches[0]


def doubled(entry: EntryPoint, offered: list[EntryPoint]) -> str | None:
    """Who else offers the entry point's name, as a problem; None where nobody does."""
    owners = [_distribution(e) for e in offered if e.name == entry.name]
    if len(owners) < 2:
        return None
    return f"offered by more than one distribution ({', '.join(owners)}); uninstall all but one"


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def who(entry: EntryPoint) -> str:
    """The plugin and its distribution, as every error begins."""
    kind = {SOURCE_GROUP: "source", COMMAND_GROUP: "command"}.get(entry.group, "sink")
    return f"{kind} {entry.name} ({_distribution(entry)})"


def load_entry(entry: EntryPoint) -> SinkSpec:
    """The sound SinkSpec of an entry point, without a look at what it `requires`. Raises: PluginError."""
    spec: SinkSpec = _call_hook(entry, "wld_sink", SinkSpec)
    if spec.name != entry.name:
        raise PluginError(f"{who(entry)}: its SinkSpec is named {spec.name!r}, the entry point {entry.name!r}")
    problem = _spec_problem(spec)
    if problem:
        raise PluginError(f"{who(entry)}: {problem}")
    return spec


def _call_hook(entry: EntryPoint, hook: str, expected: type[Any]) -> Any:
    """Import the module and ask it; every way this can go wrong is one line that names the distribution."""
    whose = who(entry)
    try:
        module = entry.load()
    except ModuleNotFoundError as error:
        extra = _extra_for(entry, [error.name]) if error.name else None
        cause = missing(entry, (str(error.name),)) if extra else f"cannot be imported: {_cause(error)}"
        raise PluginError(f"{whose}: {cause}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{whose}: cannot be imported: {_cause(error)}") from error
    manager = pluggy.PluginManager("wld")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name=entry.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{whose}: {_validation_cause(error, entry)}") from error
    implementations = getattr(manager.hook, hook).get_hookimpls()
    if not implementations:
        raise PluginError(f"{whose}: {entry.value} has no function {hook} marked @wld.hookimpl")
    try:
        returned = implementations[0].function()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{whose}: {hook}() failed: {_cause(error)}") from error
    if inspect.iscoroutine(returned):
        returned.close()
        raise PluginError(f"{whose}: {hook} is an async function; it must be a plain one")
    if not isinstance(returned, expected):
        shown = "None" if returned is None else f"{type(returned).__name__} {returned!r:.60}"
        raise PluginError(f"{whose}: {hook}() must return one wld.{expected.__name__}, it returned {shown}")
    return returned


def _cause(error: BaseException) -> str:
    """One line: what went wrong, and the innermost place of the plugin where it did."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, ImportError):
        text = f"{type(error).__name__}: {text}"
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and "importlib" not in file and not file.startswith("<"):
            place = f" ({file}:{trace.tb_lineno})"
        trace = trace.tb_next
    return text if isinstance(error, SyntaxError) else text + place


def _validation_cause(error: pluggy.PluginValidationError, entry: EntryPoint) -> str:
    text = str(error)
    unknown = re.match(r"unknown hook '(\w+)'", text)
    hooks = ("wld_sink", "wld_source")
    if unknown:
        hint = nearest(unknown[1], hooks) or f"; hooks: {', '.join(hooks)}"
        return f"{entry.value} implements an unknown hook {unknown[1]}{hint}"
    arguments = re.search(r"hookimpl definition: (\w+)(\(.*\))", text)
    if arguments:
        return f"{arguments[1]} has the wrong signature: it takes {arguments[2]}, it must take no arguments"
    return " ".join(text.split())


def _spec_problem(spec: SinkSpec) -> str | None:
    if spec.name in RESERVED:
        return f"the name is the engine's own ({', '.join(RESERVED)}); it must take another"
    kind = spec.config_type
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return f"config_type must be a msgspec Struct, not {kind!r:.60}"
    without = [f.name for f in msgspec.structs.fields(kind) if f.required]
    if without:
        return f"config_type {kind.__name__}: every key needs a default; {', '.join(without)} has none"
    if not callable(spec.create):
        return f"create must be callable as create(config, context), not {spec.create!r:.60}"
    try:
        inspect.signature(spec.create).bind(None, None)
    except TypeError:
        return f"create must be callable as create(config, context); it takes {inspect.signature(spec.create)}"
    except ValueError:
        pass  # a callable whose signature cannot be read
    if isinstance(spec.create, type):
        problem = _run_problem(getattr(spec.create, "run", None), is_bound=False)
        if problem:
            return f"{spec.create.__qualname__}.run {problem}"
    return None


def _run_problem(run: Callable[..., Any] | None, *, is_bound: bool = True) -> str | None:
    wanted = "async def run(self, batches, *, task_status)"
    if run is None:
        return f"is missing; a sink has {wanted}"
    if not callable(run) or inspect.isasyncgenfunction(run) or not inspect.iscoroutinefunction(run):
        return f"has the wrong signature: it must be {wanted}"
    signature = inspect.signature(run)
    try:
        signature.bind(*(() if is_bound else (None,)), None, task_status=None)
    except TypeError:
        return f"has the wrong signature {signature}: it must be {wanted}"
    return None


def missing(entry: EntryPoint, modules: Iterable[str]) -> str | None:
    """What to install for the modules that are not there; None where all are."""
    absent = [name for name in modules if not _is_importable(name)]
    if not absent:
        return None
    extra = _extra_for(entry, absent)
    if extra and entry.dist:
        return f"needs {', '.join(absent)}: pip install '{entry.dist.name}[{extra}]'"
    return f"needs {', '.join(absent)}, not installed"


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _extra_for(entry: EntryPoint, modules: list[str]) -> str | None:
    """The extra of the plugin's distribution that brings these modules, the sink's own name first."""
    found: dict[str, set[str]] = {}
    for requirement in (entry.dist.requires if entry.dist else None) or ():
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", requirement)
        if name and extra:
            found.setdefault(extra[1], set()).add(re.sub(r"[-_.]+", "_", name[0]).lower())
    wanted = {name.split(".")[0].lower() for name in modules}
    fitting = [extra for extra, names in found.items() if wanted <= names]
    if not fitting:
        return None
    return entry.name if entry.name in fitting else min(fitting, key=lambda extra: (len(found[extra]), extra))
