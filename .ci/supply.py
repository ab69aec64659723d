"""The dependency and secrets check: every installed package is pinned and fits the others, and no secret is in the tree.

    python .ci/supply.py VENV

Advisories are not looked up: that needs a service that is not always there; `pip-audit -r constraints.txt` does it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = {"wld", "pip", "setuptools", "wheel"}
SECRETS = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an AWS key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(rb"\bgh[pousr]_[0-9A-Za-z]{36,}\b|\bgithub_pat_[0-9A-Za-z_]{40,}\b"),
    "a Slack token": re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{10,}\b"),
    "a JSON web token": re.compile(rb"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"),
    "a password in a URL": re.compile(rb"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>{}]+:[^\s/:@\"'<>{}]{3,}@"),
    "a credential in an assignment": re.compile(
        rb"""(?i)\b(?:api_?key|api_?secret|secret_?key|access_?token|passwd|password)\s*[:=]\s*["'][^"'\s{}<$]{8,}["']"""
    ),
}


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def unpinned(venv: Path) -> list[str]:
    """Installed packages that constraints.txt does not pin to what is installed."""
    pins: dict[str, str] = {}
    wrong: list[str] = []
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)(\s*;.*)?", line)
        if match:
            pins[normal(match[1])] = match[2]
        else:
            wrong.append(f"constraints.txt: expected NAME==VERSION, got {line!r}")
    listed = subprocess.run(
        [venv / "bin/pip", "--disable-pip-version-check", "list", "--format=json"], capture_output=True, check=True
    )
    for package in json.loads(listed.stdout):
        name = normal(package["name"])
        if name not in OWN and pins.get(name) != package["version"]:
            wrong.append(f"{name} {package['version']} is installed, constraints.txt says {pins.get(name)}")
    return wrong


def misfits(venv: Path) -> list[str]:
    """What `pip check` says of packages that do not fit each other."""
    checked = subprocess.run(
        [venv / "bin/pip", "--disable-pip-version-check", "check"], capture_output=True, text=True, check=False
    )
    return [] if checked.returncode == 0 else checked.stdout.splitlines()


def secrets(paths: list[Path]) -> list[str]:
    """Places that look like a secret; a line that says `not a secret` is left alone."""
    found: list[str] = []
    for path in paths:
        if not path.is_file() or path.stat().st_size > 4 << 20:
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if b"not a secret" in line:
                continue
            found += [
                f"{path}:{number}: looks like {what}" for what, pattern in SECRETS.items() if pattern.search(line)
            ]
    return found


def main() -> int:
    """All three checks; the status."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name.decode() for name in tracked.split(b"\0") if name]
    venv = Path(sys.argv[1])
    wrong = [*unpinned(venv), *misfits(venv), *secrets(paths)]
    print("\n".join(wrong) or f"every package pinned and fitting; no secret in {len(paths)} files")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
