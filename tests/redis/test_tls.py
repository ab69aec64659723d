"""Redis behind TLS and a password: real programs, and a real server that accepts nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

import wld
from tests.redis.server import Server, needs_redis

pytestmark = [needs_redis, pytest.mark.slow]
SECRET = "correct-horse-battery"


class Site:
    """A server whose certificate is for `localhost` alone, and programs that know the password from their environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.server = Server(
            folder, "--tls-port", str(self.port), "--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file",
            str(folder / "key.pem"), "--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-auth-clients", "no",
        )  # fmt: skip
        self.command("CONFIG", "SET", "requirepass", SECRET)
        self.programs: list[subprocess.Popen[bytes]] = []

    def command(self, *words: str) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as client:
            client.sendall(" ".join(words).encode() + b"\r\n")
            assert client.recv(64).startswith(b"+OK")

    def url(self, options: str = "", *, host: str = "localhost", password: str = SECRET) -> str:
        return f"rediss://:{password}@{host}:{self.port}/0?ca_file={self.folder / 'ca.pem'}{options}"

    def start(self, name: str, variables: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            program = subprocess.Popen(
                [sys.executable, "-m", "wld", "--log-level", "debug", *arguments],
                cwd=self.folder, env={**os.environ, **variables}, stdout=log, stderr=log,
            )  # fmt: skip
        self.programs.append(program)
        return program

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + 40
        while not condition():
            logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
            assert time.monotonic() < end, f"no {what}\n{logs}"
            time.sleep(0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for program in site.programs:
        if program.poll() is None:
            program.kill()
            program.wait()
    site.server.stop()


def recorded(folder: Path) -> list[wld.Event]:
    try:
        return list(wld.open_tape(folder))
    except wld.TapeError:
        return []


def test_capture_and_recorder_meet_behind_tls_and_the_password_is_nowhere_to_be_read(site: Site) -> None:
    publisher = site.start(
        "publisher", {"WLD_SET": f"sinks.redis.url={site.url()}"}, "--source", "sim", "--sinks", "redis"
    )
    reader = site.start(
        "reader", {"WLD_SOURCE": site.url("&from=oldest")}, "--sinks", "recorder", "--data-dir", "all"
    )  # fmt: skip
    site.until(lambda: len(recorded(site.folder / "all")) > 100, "events behind TLS")
    for program in (publisher, reader):
        assert SECRET.encode() not in Path(f"/proc/{program.pid}/cmdline").read_bytes()
    publisher.send_signal(signal.SIGTERM)
    assert publisher.wait(30) == 0
    reader.send_signal(signal.SIGTERM)
    assert reader.wait(30) == 0
    assert not [event for event in recorded(site.folder / "all") if isinstance(event, wld.Gap)]
    written = [path for path in site.folder.rglob("*") if path.is_file() and "appendonlydir" not in path.parts]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("host", "password", "said"),
    [("127.0.0.1", SECRET, "certificate verify failed"), ("localhost", "wrong", "invalid username-password pair")],
    ids=["a certificate for another name", "a wrong password"],
)
def test_who_cannot_be_trusted_or_let_in_is_told_in_one_line_without_the_password(
    host: str, password: str, said: str, site: Site
) -> None:
    url = site.url("&from=oldest", host=host, password=password)
    site.start("reader", {"WLD_SOURCE": url, "WLD_LOG_LEVEL": "info"}, "--sinks", "recorder", "--data-dir", "all")
    site.until(lambda: f"localhost:{site.port}" in site.said("reader") or host in site.said("reader"), "word of it")
    [line] = [line for line in site.said("reader").splitlines() if str(site.port) in line][:1]
    assert said.lower() in line.lower()
    assert password not in site.said("reader")


def test_an_authority_that_cannot_be_read_is_status_2(site: Site) -> None:
    url = site.url().replace("ca.pem", "none.pem")
    reader = site.start("reader", {"WLD_SOURCE": url}, "--sinks", "recorder", "--data-dir", "all")
    assert reader.wait(40) == 2
    assert "none.pem: cannot be read as PEM certificates: No such file or directory" in site.said("reader")
