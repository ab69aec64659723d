"""The pages are true: every command and code block in them runs, every configuration is accepted, every link leads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, blocks_of, pages
from wld import config as configuration

PAGES = [page for page in pages() if page.exists()]
RUN = [page for page in PAGES if any(block.is_run for block in blocks_of(page))]
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)|!\[[^\]]*\]\(([^)\s]+)\)")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_that_are_not_run_say_why(page: Path) -> None:
    for block in blocks_of(page):
        where = f"{block.page}:{block.line}"
        if block.directive.startswith("not run"):
            assert len(block.directive.partition(":")[2].strip()) > 5, f"{where}: say why it is not run"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for match in _LINK.finditer(page.read_text()):
        target = match[1] or match[2]
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{_name(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_configuration_is_accepted(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "toml" and "[project" not in block.text and not block.directive:
            configuration.build(tomllib.loads(block.text), {"": f"{block.page}:{block.line}"})


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=_name)
def test_every_command_and_code_block_runs(page: Path, tmp_path: Path) -> None:
    """In order, in one folder a page, as a reader would; `sim` answers where the page does not say otherwise."""
    place = tmp_path / "reader"
    place.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "COLUMNS": "100",
        "WLD_REPOSITORY": str(ROOT),
    }
    python = ""
    for block in blocks_of(page):
        if block.directive.startswith("file:"):
            target = place / block.directive.removeprefix("file:").strip()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text + "\n")
        if not block.is_run:
            continue
        if block.language == "python":
            python += block.text + "\n"
            _run([sys.executable, "-c", python], block, place, environment)
        else:
            _run(["bash", "-euo", "pipefail", "-c", block.text], block, place, environment)


def _run(command: list[str], block: Block, place: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (
        f"{block.page}:{block.line}: status {done.returncode}\n{block.text}\n--- output\n"
        f"{done.stdout[-3000:]}\n--- errors\n{done.stderr[-3000:]}"
    )
