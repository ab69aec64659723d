"""Makes distributions for tests: a folder on sys.path with a module and real metadata, as pip would leave it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SOUND = """
import msgspec, trio, wld

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    width: int = 3

class Sink:
    def __init__(self, config, context):
        self.config, self.context = config, context
    async def run(self, batches, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        async for batch in batches:
            pass

@wld.hookimpl
def wld_sink():
    return wld.SinkSpec(name="{name}", config_type=Config, create=Sink)
"""


def make_distribution(
    folder: Path,
    name: str,
    source: str = SOUND,
    *,
    distribution: str | None = None,
    version: str = "1.0",
    requires: Sequence[str] = (),
    group: str = "wld.sinks",
) -> str:
    """Write module `fake_NAME` and the metadata of a distribution that offers it as NAME; returns the module's name."""
    distribution = distribution or f"wld-{name}"
    module = f"fake_{distribution.replace('-', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source.replace("{name}", name))
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    return module
