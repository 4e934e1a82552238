"""All that a GPU is to do, in the minutes that there are: python tools/gpu_session.py --minutes 12 --out DIR

For a machine with a GPU, PyTorch and pytest, and no network. Beforehand, where there is one (--python-version and
--platform are the other machine's; `higher` is only measured beside, and needs no more than torch):

    python tools/pack_data.py MINI_IMAGENET packed           # pieces of at most 60 MiB; take them there in turn
    NEEDED="tyro docstring-parser typeguard pooch platformdirs msgspec filelock safetensors rich higher"
    pip download -d wheels --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_17_x86_64 $NEEDED

There, in the checkout, once data and wheels have arrived:

    python3 -m pip install -q --no-index --no-deps --target site wheels/*.whl
    export PYTHONPATH=$PWD:$PWD/site INNERLOOP_CACHE=/tmp/innerloop PYTHONUNBUFFERED=1
    python3 tools/gpu_session.py --minutes 12 --mini-imagenet packed --omniglot OMNIGLOT --work /tmp/session --out out

1. checks: the tests marked `cuda`; captured against eager against CPU; resume. The images are decoded meanwhile.
2. one table of speed, `benchmarks/on_device.py`.
3. trains at `paper` scale until the time is up, three seeds at once, in the order of their worth.

DIR holds session.json, table.md and session.tar (everything, runs included), written anew every few seconds, so that
being cut off costs seconds. The same command goes on where DIR/session.tar ends, here or on another machine or device.
--rehearse does all of it on a CPU in about a minute, at sizes that mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import check_device, on_device
from innerloop.device import device_name, tune_cpu
from innerloop.paper.scales import MINI1, MINI5, OMNI1, OMNI5, SCALES, Regime, training
from innerloop.runs.checkpoint import write_whole
from innerloop.runs.config import Spec
from innerloop.runs.images import result_of, train_images, train_images_together
from innerloop.runs.means import Compute, Source
from innerloop.runs.schedule import Interrupted, Logging

ROOT = Path(__file__).parents[1]
SEEDS, KEPT_EVERY = 3, 10.0  # runs at once; seconds between two session.tar
ORDER: tuple[tuple[str, Regime], ...] = (
    (MINI1, "maml"), (MINI1, "anil"), (MINI5, "maml"), (MINI5, "anil"),
    (MINI1, "multiclass"), (MINI1, "multitask"), (MINI1, "nil"), (MINI1, "random"),
    (MINI5, "multitask"), (MINI5, "nil"),
    (OMNI1, "maml"), (OMNI1, "anil"), (OMNI5, "maml"), (OMNI5, "anil"),
)  # fmt: skip
"""What is trained, in the order of its worth."""


class TimeUp(BaseException):
    """The minutes are over, whatever is being done."""


@dataclass
class Session:
    """What is known so far, and where it is kept."""

    out: Path
    work: Path
    device: str
    rehearse: bool
    ends: float  # of `time.monotonic`
    found: dict[str, Any] = field(default_factory=lambda: {"devices": {}, "runs": {}})
    begun: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    @property
    def here(self) -> dict[str, Any]:
        """What is known of this device: checks, ceilings, rows of the table."""
        return self.found["devices"].setdefault(device_name(torch.device(self.device)), {})

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        print(f"[{time.monotonic() - self.begun:6.1f} s] {text}", flush=True)

    def note(self, part: dict[str, Any], name: str, value: Any) -> None:
        """Keep a finding."""
        part[name] = value
        write_whole(self.work / "session.json", json.dumps(self.found, indent=1).encode())

    def keep(self) -> None:
        """Put everything that is needed to go on into `out`, each file whole or not there."""
        known = (self.work / "session.json").read_bytes()
        write_whole(self.out / "session.json", known)
        write_whole(self.out / "table.md", table(json.loads(known)).encode())
        partial = self.out / ".session.tar.part"
        with tarfile.open(partial, "w") as archive:
            for path in sorted(self.work.rglob("*")):
                with suppress(FileNotFoundError):  # another has just taken its place
                    if path.is_file() and not path.name.startswith("."):
                        archive.add(path, path.relative_to(self.work))
        os.replace(partial, self.out / "session.tar")


def table(found: dict[str, Any]) -> str:
    """Speed on each device, then what is trained, as Markdown."""
    lines: list[str] = []
    for device, here in found["devices"].items():
        rows = [on_device.Row(**row) for row in here.get("rows", ())]
        lines += [on_device.table(rows, on_device.Ceilings(*here["ceilings"]), device), ""] if rows else []
    lines += ["| run | iterations | test accuracy | 95 % interval | seconds of training |", "|" + " --- |" * 5]
    for name, result in found["runs"].items():
        score = next(iter(result["test"].values()))
        numbers = f"{score['accuracy']:.2%} | {score['interval'] or 0:.2%} | {result['train_seconds']}"
        lines.append(f"| {name} | {result['iterations']} | {numbers} |")
    return "\n".join(lines) + "\n"


def taken_up(arguments: argparse.Namespace) -> Session:
    """A session that begins, or goes on where one with the same `out` ended."""
    out, work = arguments.out, arguments.work or arguments.out / "work"
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    device = "cpu" if arguments.rehearse or not torch.cuda.is_available() else "cuda"
    session = Session(out, work, device, arguments.rehearse, time.monotonic() + arguments.minutes * 60)
    if (out / "session.tar").exists() and not (work / "session.json").exists():
        with tarfile.open(out / "session.tar") as archive:
            archive.extractall(work, filter="data")
    if (work / "session.json").exists():
        session.found = json.loads((work / "session.json").read_text())
        session.say(f"goes on: {len(session.found['runs'])} runs are finished")
    session.note(session.here, "torch", torch.__version__)
    return session


def checks(session: Session) -> None:
    """The tests marked `cuda` in a process of their own, and the comparisons here."""
    if "checks" in session.here:
        return
    where = ["tests/parallel/test_captured.py"] if session.rehearse else ["tests"]
    options = ["-m", "cuda", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    words = [sys.executable, "-m", "pytest", *options, *where]
    try:
        ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=max(session.left / 5, 30))
        told = [
            line for line in ran.stdout.splitlines() if re.search(r" (passed|skipped|failed|error)|^FAILED|^E ", line)
        ]
    except subprocess.TimeoutExpired:
        told = ["out of time"]
    found = check_device.check(session.device)
    session.note(session.here, "checks", {"pytest": told, **found})
    session.say(f"checks: {'well' if found['well'] else 'NOT WELL'}; pytest: {' '.join(told[-1:])}")


def speed(session: Session) -> None:
    """The table, row by row; no more than a third of the time."""
    tiny = session.rehearse
    done = {(row["case"], row["algorithm"], row["contender"]) for row in session.here.get("rows", ())}
    if "ceilings" not in session.here:
        session.note(session.here, "ceilings", on_device.ceilings(session.device, tiny=tiny))
    limits = on_device.Ceilings(*session.here["ceilings"])
    cases = on_device.TINY if tiny else on_device.CASES
    until = time.monotonic() + session.left / 3
    for row in on_device.rows(session.device, cases, 0.005 if tiny else 1.0, limits, done):
        session.note(session.here, "rows", [*session.here.get("rows", ()), asdict(row)])
        session.say(f"({row.case}) {row.algorithm}, {row.contender}: {row.failed or f'{row.step_ms:.3g} ms a step'}")
        if time.monotonic() > until:
            session.say("the rest of the table is left for another session")
            return


def groups(session: Session) -> Iterator[list[Spec]]:
    """Runs that train as one."""
    scale = SCALES["smoke" if session.rehearse else "paper"]
    for problem, regime in ORDER[:3] if session.rehearse else ORDER:
        yield [training(scale, problem, regime, seed) for seed in range(2 if session.rehearse else SEEDS)]


def train(session: Session, sources: dict[str, str | None]) -> None:
    """Train until the time is up; a group that cannot train as one, run by run."""
    logging = Logging(checkpoint_seconds=10.0)
    for specs in groups(session):
        how, source = Compute(device=session.device), Source(sources.get(specs[0].problem.data))
        folders = [session.work / "runs" / spec.name for spec in specs]
        try:
            outcomes = train_images_together(specs, folders, how, source, logging)
        except ValueError as error:  # they stand at different iterations
            outcomes = [error] * len(specs)
        for spec, folder, outcome in zip(specs, folders, outcomes, strict=True):
            if isinstance(outcome, Exception):
                session.say(f"{spec.name} alone: {str(outcome).splitlines()[0]}")
                try:
                    outcome = train_images(spec, folder, how, source, logging)
                except (ValueError, OSError, RuntimeError) as error:
                    session.say(f"{spec.name} is left out: {str(error).splitlines()[0]}")
                    continue
            result = result_of(spec, folder) or outcome
            session.note(session.found["runs"], spec.name, {"iterations": spec.schedule.iterations, **result})
            session.say(f"{spec.name}: {next(iter(result['test'].values()))['accuracy']:.2%}")


def decoding(sources: dict[str, str | None]) -> list[subprocess.Popen[bytes]]:
    """Fills the cache with the images of each source, in a process of its own."""
    program = "import sys; from innerloop.data import load; load(sys.argv[1], source=sys.argv[2])"
    return [subprocess.Popen([sys.executable, "-c", program, *pair]) for pair in sources.items() if pair[1]]  # pyright: ignore


def run(session: Session, sources: dict[str, str | None]) -> None:
    """All of it, until the time is up."""

    def up(*_: object) -> None:
        raise TimeUp

    def keep() -> None:
        while not over.wait(KEPT_EVERY):
            session.keep()

    over, keeper = threading.Event(), threading.Thread(target=keep, daemon=True)
    signal.signal(signal.SIGTERM, up)
    alarm = threading.Timer(max(session.left - 5, 1), os.kill, (os.getpid(), signal.SIGTERM))
    alarm.daemon = True
    alarm.start()
    keeper.start()
    helpers = decoding(sources)
    try:
        checks(session)
        for helper in helpers:
            helper.wait()
        speed(session)
        train(session, sources)
        session.say("all is trained")
    except (TimeUp, Interrupted) as stopped:
        session.say(f"time is up. {stopped}")
    finally:
        alarm.cancel()
        over.set()
        keeper.join()
        for helper in helpers:
            helper.terminate()
        session.keep()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, required=True, help="where all that is found is kept")
    parser.add_argument("--work", type=Path, help="where it works; DIR/work if not given")
    parser.add_argument("--mini-imagenet", help="a folder, as --source takes it")
    parser.add_argument("--omniglot", help="likewise")
    parser.add_argument("--rehearse", action="store_true", help="all of it on a CPU, at tiny sizes")
    arguments = parser.parse_args()
    tune_cpu()
    session = taken_up(arguments)
    run(session, {"mini-imagenet": arguments.mini_imagenet, "omniglot": arguments.omniglot})
    print(table(session.found))


if __name__ == "__main__":
    main()
