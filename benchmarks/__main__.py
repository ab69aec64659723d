"""`python -m benchmarks`: everything side by side on the same messages in one run; prints tables, fills the docs' page.

CPU is process time of the program under test, divided by messages; runs of what is compared take turns, and a figure is
the median with the least and the most beside it. The server is another process. Each part is a function in
`benchmarks.parts`.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import click

from benchmarks.bench import ROOT, Bench, machine, markdown, streams_folder
from benchmarks.page import fill
from benchmarks.parts import PARTS

PAGE = ROOT / "docs" / "explanation-performance.md"


def _named(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"expected NAME=COMMAND, got {value!r}")
    return {value.partition("=")[0]: value.partition("=")[2] for value in values}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--quick", is_flag=True, help="A fifth of the messages, one repeat: to see that it runs.")
@click.option("--long", "minutes", type=float, default=0.0, help="Minutes of 20,000 messages a second in `breadth`.")
@click.option(
    "--beside", multiple=True, callback=_named, metavar="NAME=COMMAND",
    help="Another program, in `predecessor`: {url}, {host} and {port} are put in.",
)  # fmt: skip
@click.option(
    "--streams", type=Path, default=streams_folder, show_default="~/.cache/wld-benchmarks", help="Prepared streams."
)
@click.option("--write", is_flag=True, help="Fill the tables of docs/explanation-performance.md.")
def main(
    parts: tuple[str, ...], quick: bool, minutes: float, beside: dict[str, str], streams: Path, write: bool
) -> None:
    """Measure PARTS, or all of them."""
    where, load = machine(), os.getloadavg()[0]
    click.echo(f"{where}; load when it began {load:.1f}\n")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), streams, 0.2 if quick else 1.0, 1 if quick else 5)
        bench.minutes, bench.beside = minutes, beside
        for name in parts or PARTS:
            begun = time.monotonic()
            try:
                table = markdown(PARTS[name](bench))
            except Exception as error:  # one part that fails leaves the others their tables
                failed.append(name)
                click.echo(f"## {name}: failed: {type(error).__name__}: {error}\n", err=True)
                continue
            title = (PARTS[name].__doc__ or "").splitlines()[0]
            click.echo(f"## {name}: {title}\n\n{table}\n\n({time.monotonic() - begun:.0f} s)\n")
            alone = f"\n\nMeasured apart from the rest: {where}; load {load:.1f} when it began." if parts else ""
            if write and not fill(PAGE, name, table + alone):
                click.echo(f"{PAGE} has no place for {name}", err=True)
        if write and not parts:
            fill(PAGE, "machine", f"{where}; load {load:.1f} when it began, {os.getloadavg()[0]:.1f} at the end")
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
