"""The tutorial is followed to the letter, in a fresh environment: every file saved, every command run, in order."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.plugins.test_third_party import ROOT, fresh

__all__ = ["fresh"]

PAGE = ROOT / "docs" / "tutorial-first-sink.md"


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, what the comment above says, text) of each fenced block."""
    found: list[tuple[str, str, str]] = []
    lines = iter(page.splitlines())
    above = ""
    for line in lines:
        if line.startswith("```") and line != "```":
            text = []
            for inner in lines:
                if inner == "```":
                    break
                text.append(inner)
            found.append((line[3:], above, "\n".join(text) + "\n"))
        above = line
    return found


@pytest.mark.slow
def test_a_reader_who_follows_it_has_a_working_sink(fresh: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WLD_", "PYTEST", "PIP_"))}
    environment |= {
        "PATH": f"{fresh / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Offline: what the page installs is built with what this environment has.
        "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip
    place = tmp_path
    output = []
    for language, above, text in blocks(PAGE.read_text()):
        if above.startswith("<!-- file: "):
            target = place / above.removeprefix("<!-- file: ").removesuffix(" -->")
            target.write_text(text)
            continue
        assert language == "sh", text
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=place, env=environment, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        output.append(done.stdout + done.stderr)
        if "\ncd wld-cascade" in text:
            place /= "wld-cascade"
    everything = "\n".join(output)
    assert "sink cascade" in output[1]
    assert "4 passed" in everything
    assert "liquidated within 10 s" in output[3]
    assert "wld_cascade-0.1.0-py3-none-any.whl" in output[-1]


def test_the_page_holds_what_it_says() -> None:
    names = [above for _, above, _ in blocks(PAGE.read_text()) if above.startswith("<!-- file: ")]
    assert names == ["<!-- file: wld_cascade.py -->", "<!-- file: tests/test_cascade.py -->", "<!-- file: wld.toml -->"]
