"""innerloop against its peers: seconds and peak memory, each contender in its own process, strictly one at a time.

python -m benchmarks.compare --cases a --algorithms maml anil --threads 1 2 --rounds 5 --out results/speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.cases import CASES
from benchmarks.contenders import NAMES, PEERS
from innerloop.device import cpu_name

OURS = "innerloop"
WHAT = ("train", "adapt", "memory")
ALLOCATOR = re.compile(r"MALLOC_|GLIBC_TUNABLES|LD_PRELOAD|G?OMP_|KMP_|MKL_")  # everyone starts with the defaults


@dataclass(frozen=True)
class Record:
    """What one contender did: seconds a run (train, adapt) or MiB (memory), one number a round."""

    case: str
    algorithm: str
    what: str
    threads: int
    contender: str
    numbers: tuple[float, ...]


def start(name: str, case: str, algorithm: str, what: str, threads: int) -> subprocess.Popen[bytes]:
    """A worker that waits for its turn."""
    env = {key: value for key, value in os.environ.items() if not ALLOCATOR.match(key)}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker", name, case, algorithm, what, str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd=Path(__file__).parents[1],
        env=env | {"OMP_NUM_THREADS": str(threads)},
    )


def turn(worker: subprocess.Popen[bytes], name: str) -> float:
    """Let one worker run once while all others wait."""
    assert worker.stdin
    assert worker.stdout
    try:
        worker.stdin.write(b"go\n")
        return float(worker.stdout.readline())
    except (BrokenPipeError, ValueError):
        raise SystemExit(f"{name} did not run: see its message above, or leave it out with --contenders") from None


def race(names: list[str], case: str, algorithm: str, what: str, threads: int, rounds: int) -> list[Record]:
    """Round after round, each contender in turn; the first round warms up and is not counted."""
    numbers: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(start(name, case, algorithm, what, threads)) for name in names}
        for number in range(rounds + 1):
            say(f"case {case}, {algorithm}, {what}, {threads} threads: round {number} of {rounds}")
            first = number % len(names)  # nobody always runs after the same neighbour
            for name in names[first:] + names[:first]:
                numbers[name].append(turn(workers[name], name))
    say("")
    return [Record(case, algorithm, what, threads, name, tuple(n[1:])) for name, n in numbers.items()]


def weigh(names: list[str], case: str, algorithm: str, threads: int) -> list[Record]:
    """Peak memory of training, each contender alone in a fresh process."""
    records = []
    for name in names:
        say(f"case {case}, {algorithm}, memory, {threads} threads: {name}")
        with start(name, case, algorithm, "memory", threads) as worker:
            records.append(Record(case, algorithm, "memory", threads, name, (turn(worker, name),)))
    say("")
    return records


def table(records: list[Record]) -> str:
    """One line a contender, for one case, algorithm and number of threads."""
    one = records[0]
    title = f"({one.case}) {CASES[one.case].about}, {one.algorithm.upper()}, {one.threads} thread(s)"
    got = {(r.what, r.contender): r for r in records}
    names = list(dict.fromkeys(r.contender for r in records))
    timed = [what for what in ("train", "adapt") if (what, names[0]) in got]
    header = f"{'':12}" + "".join(f"{what + ' s':>11}{'min s':>10}{'x ours':>8}" for what in timed)
    lines = [title, header + ("   peak MiB" if ("memory", names[0]) in got else "")]
    for name in names:
        line = f"{name:12}"
        for what in timed:
            seconds, ours = got[what, name].numbers, got.get((what, OURS))
            ratio = f"{median(seconds) / median(ours.numbers):.2f}" if ours else "-"
            line += f"{median(seconds):11.4f}{min(seconds):10.4f}{ratio:>8}"
        lines.append(line + (f"{got['memory', name].numbers[0]:11.0f}" if ("memory", name) in got else ""))
    return "\n".join([*lines, *filter(None, (verdict(got, names, what) for what in timed))])


def verdict(got: dict[tuple[str, str], Record], names: list[str], what: str) -> str:
    """How many times faster we are than the fastest peer."""
    peers = [name for name in names if name in PEERS]
    if OURS not in names or not peers:
        return ""
    medians = {name: median(got[what, name].numbers) for name in names}
    best = min(peers, key=medians.__getitem__)
    return f"{what}: {medians[best] / medians[OURS]:.2f}x the fastest peer ({best})"


def machine() -> dict[str, object]:
    """What the numbers depend on besides the code."""
    packages = {}
    for name in ("torch", "higher", "torchopt", "innerloop"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        **packages,
    }


def say(text: str) -> None:
    """Progress on one line of stderr."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--algorithms", nargs="+", choices=["maml", "anil"], default=["maml", "anil"])
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=[OURS, *PEERS])
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    parser.add_argument("--check", action="store_true", help="compare values in float64 instead of times")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    return args


def main() -> None:
    args = arguments()
    if args.check:
        from benchmarks.check import check

        raise SystemExit(not check(args.cases, args.algorithms, args.contenders))
    about, everything = machine(), []
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    for case, algorithm, threads in product(args.cases, args.algorithms, args.threads):
        records = []
        for what in dict.fromkeys(args.what):
            if what == "memory":
                records += weigh(args.contenders, case, algorithm, threads)
            else:
                records += race(args.contenders, case, algorithm, what, threads, args.rounds)
        everything += records
        print(f"\n{table(records)}\nload {os.getloadavg()[0]:.2f}", flush=True)
        if args.out:  # after each table: a run cut short loses nothing
            rows = [asdict(record) for record in everything]
            args.out.write_text(json.dumps({"machine": about, "records": rows}, indent=1))


if __name__ == "__main__":
    main()
