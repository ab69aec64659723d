"""Seeds of the virtual-time fuzz: run them, count what is wrong, show one.

python -m tests.virtual --seeds 1-1000 --connections 2
python -m tests.virtual --show 7017 --connections 2
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.virtual.verdict import gap_words, judge, seconds, topic_of
from tests.virtual.world import World, plan, play
from wld.events import Gap


def _happened(world: World, topic: str | None) -> Iterator[tuple[float, str]]:
    truth = world.venue.truth
    yield from ((told.at, told.text) for told in world.told)
    if topic is None:
        return
    for index, published in enumerate(truth.published):
        if published.topic == topic:
            link, at = truth.delivered.get(index, (None, 0.0))
            came = f"first by link {link} at {at:.3f}" if link else "reached nobody"
            mute = ", a link was mute" if index in truth.muted else ""
            yield seconds(published.at), f"  published {published.frame[:400]} ({came}{mute})"
    for event in (event for life in world.lives for event in life):
        if isinstance(event, Gap):
            if event.topic in (None, topic.rpartition(".")[0]) and event.symbol in (None, topic.rpartition(".")[2]):
                yield seconds(event.receive_time), f"    TAPE {gap_words(event)}"
        elif topic_of(event) == topic:
            yield seconds(event.receive_time), f"    tape {str(event)[:300]}"


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", help="A-B, or one")
    parser.add_argument("--show", type=int, help="one seed: what happened, and what differs")
    parser.add_argument("--topic", help="with --show: what of this topic was published, and what is on the tape")
    parser.add_argument("--between", default="0-9999", help="with --show: seconds, A-B")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--cpu", type=float, default=1e9, help="stop after so many seconds of CPU")
    parser.add_argument("--without", default="", help="faults to leave out, with commas between")
    options = parser.parse_args()
    without = tuple(options.without.split(","))
    if options.show is not None:
        world = play(plan(options.show, options.connections, without))
        verdict = judge(world)
        begin, end = map(float, options.between.split("-"))
        for at, text in sorted(_happened(world, options.topic), key=lambda line: line[0]):
            if begin <= at <= end:
                print(f"{at:8.2f}  {text}")
        print(world.plan, verdict.balance, dict(verdict.excused), *verdict.wrong, sep="\n")
        return bool(verdict.wrong)
    first, _, last = options.seeds.partition("-")
    failed, excused, sums = [], Counter[str](), Counter[str]()
    begun = time.process_time()
    ran = 0
    for seed in range(int(first), int(last or first) + 1):
        if time.process_time() - begun > options.cpu:
            break
        ran += 1
        world = play(plan(seed, options.connections, without))
        verdict = judge(world)
        excused += verdict.excused
        for name in ("sent", "recorded", "in_gap", "gaps"):
            sums[name] += getattr(verdict.balance, name)
        if verdict.wrong:
            failed.append(seed)
            print(f"seed {seed}: {len(verdict.wrong)} wrong: {'; '.join(verdict.wrong[:3])}", flush=True)
    cpu = time.process_time() - begun
    print(f"{ran} seeds, {dict(sums)}, excused {dict(excused)}, {cpu:.0f} s of CPU, {len(failed)} failed: {failed}")
    return bool(failed)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of texts are walked in the same order each time
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.virtual", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
