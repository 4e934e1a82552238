"""Training that survives: kills, signals, full disks and diverging losses, and what is left after them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from tiny import call, complaint, options, same_run

from innerloop.outer import meta_train
from innerloop.runs import images, trainer
from innerloop.runs.checkpoint import load_checkpoint
from innerloop.runs.folder import claimed


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return tiny.pictures(tmp_path_factory.mktemp("pictures") / "shapes")


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(out.parent / "cache"))
        assert train(pictures, out).code == 0
    return out


def train(pictures: Path, out: Path, **changes: object):
    return call("train", pictures, "--out", out, *options(device="cpu", **changes))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# A real process, really killed


LONG = {"iterations": 30, "log_every": 1, "val_every": 10, "width": 16, "size": 24, "device": "cpu"}


def start(pictures: Path, out: Path, cache: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-m", "innerloop", "train", str(pictures), "--out", str(out)]
    command += options(**LONG, checkpoint_seconds=seconds)
    threads = {"OMP_NUM_THREADS": "1", "INNERLOOP_CACHE": str(cache)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | threads
    )


def reached(out: Path, iteration: int, process: subprocess.Popen) -> None:
    """Wait until the run has written this iteration."""
    wanted = f'{{"iteration": {iteration}, '.encode()
    patience = time.monotonic() + 100
    while not (out / "metrics.jsonl").exists() or wanted not in (out / "metrics.jsonl").read_bytes():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience, "no progress"
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_in_the_same_bits(pictures, tmp_path):
    out, cache = tmp_path / "run", tmp_path / "cache"
    undisturbed = start(pictures, tmp_path / "undisturbed", cache, 1e9)

    # At once after a checkpoint; then long after one, so that metrics must be cut off; then asked politely.
    plan = [(4, signal.SIGKILL, 0), (14, signal.SIGKILL, 1e9), (19, signal.SIGINT, 1e9)]
    for iteration, number, seconds in plan:
        process = start(pictures, out, cache, seconds)
        reached(out, iteration, process)
        process.send_signal(number)
        shown, said = process.communicate(timeout=100)
        assert shown == ""
        assert not (out / "result.json").exists()
        metadata = load_checkpoint(out / "last.safetensors").metadata
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
            assert metadata["iteration"] >= (3 if seconds == 0 else 10)
        else:
            assert process.returncode == 130
            assert iteration <= metadata["iteration"] < 30
            assert "stopping after this step; Ctrl-C again stops at once" in said.splitlines()
            assert f"stopped after iteration {metadata['iteration']} of 30, saved in {out}" in said.splitlines()[-1]
            assert f"To go on: innerloop train {pictures} --out {out} --way 3" in said.splitlines()[-1]
    (out / ".best.safetensors.1.part").write_bytes(b"what a killed process leaves")

    process = start(pictures, out, cache, 1e9)
    shown, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "anil" in shown
    assert "nil" in shown
    assert undisturbed.communicate(timeout=200)[0] == shown
    same_run(out, tmp_path / "undisturbed")


# Stopped at any write


class Killed(BaseException):
    """As good as a kill: nothing in innerloop catches it."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the run begins anew")  # killed after its first best, before its first last
@pytest.mark.parametrize("kind", ["killed", "full disk"])
def test_stopped_at_any_write_it_goes_on_to_the_same_bits(kind, pictures, whole, tmp_path, monkeypatch):
    """Every start may write a few times, and then fails."""
    out, writes, allowed = tmp_path / "run", 0, 0
    real = {"fsync": os.fsync, "replace": os.replace}

    def limited(name):
        def write(*arguments):
            nonlocal writes
            writes += 1
            if writes > allowed:
                raise Killed if kind == "killed" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real[name](*arguments)

        return write

    train(pictures, tmp_path / "fills the cache", iterations=1)
    for name in real:
        monkeypatch.setattr(os, name, limited(name))
    failures = 0
    for number in range(100):
        writes, allowed = 0, number % 7
        try:
            outcome = train(pictures, out, checkpoint_seconds=0)
        except Killed:
            failures += 1
            continue
        if outcome.code == 0:
            break
        failures += 1
        said = complaint(outcome)
        assert said.startswith("No space left on device")
        assert said.endswith("Make room and give the same command again: what was saved is whole.")
        assert not list(out.glob(".*.part"))
        if (out / "last.safetensors").exists():
            load_checkpoint(out / "last.safetensors")
    assert failures > 10
    same_run(out, whole)


def test_a_file_that_cannot_grow(pictures, whole, tmp_path):
    """A real failing write, by the limit that the system sets on a file's size."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "run"
    train(pictures, tmp_path / "fills the cache", iterations=1)
    with stopped_at(3, signal.SIGINT):
        assert train(pictures, out).code == 130
    before = {path.name: path.read_bytes() for path in out.glob("*.safetensors")}
    assert before.keys() == {"best.safetensors", "last.safetensors"}

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        outcome = train(pictures, out, checkpoint_seconds=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert complaint(outcome).startswith(f"File too large: {out}/")
    assert {path.name: path.read_bytes() for path in out.glob("*.safetensors")} == before
    assert train(pictures, out).code == 0
    same_run(out, whole)


def test_a_folder_that_cannot_be_written(pictures, tmp_path, monkeypatch):
    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert complaint(train(pictures, tmp_path / "run")) == f"Permission denied: {tmp_path / 'run'}"


def test_a_file_where_the_folder_should_be(pictures, tmp_path):
    (tmp_path / "run").write_text("")
    assert complaint(train(pictures, tmp_path / "run")).startswith(f"{tmp_path / 'run'} is a file")
    assert complaint(train(pictures, tmp_path / "run" / "below")).startswith("Not a directory")


# Signals


class stopped_at:  # noqa: N801  reads as a word
    """Inside, the process gets these signals while it trains, after the step with this number."""

    def __init__(self, step: int, *signals: int) -> None:
        self.step, self.signals, self.patch = step, signals, pytest.MonkeyPatch()

    def __enter__(self) -> None:
        def steps(*arguments, **settings):
            for step in meta_train(*arguments, **settings):
                if step.number == self.step:
                    for number in self.signals:
                        os.kill(os.getpid(), number)
                yield step

        self.patch.setattr(images, "meta_train", steps)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 3, 5, 7])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(number, step, pictures, whole, tmp_path):
    out, handlers = tmp_path / "a run", [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with stopped_at(step, number):
        outcome = train(pictures, out)
    assert outcome.code == 130
    assert outcome.out == ""
    said = outcome.err.splitlines()[-1]
    assert said.startswith(
        f"innerloop: stopped after iteration {step} of 7, saved in {out}. To go on: innerloop train "
    )
    assert f"--out '{out}'" in said, "to be pasted into a shell"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert train(pictures, out).code == 0
    same_run(out, whole)


def test_a_second_ctrl_c_interrupts_at_once(pictures, whole, tmp_path):
    with stopped_at(5, signal.SIGINT, signal.SIGINT):
        outcome = train(pictures, tmp_path / "run")
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1].startswith("innerloop: interrupted. To go on: innerloop train ")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").metadata["iteration"] == 3
    assert train(pictures, tmp_path / "run").code == 0
    same_run(tmp_path / "run", whole)


@pytest.mark.parametrize(("where", "moment"), [(images, "open_data"), (trainer, "_tested")])
def test_ctrl_c_while_loading_or_testing_ends_in_one_line(where, moment, pictures, whole, tmp_path, monkeypatch):
    real = getattr(where, moment)

    def interrupted(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **settings)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
    try:
        with monkeypatch.context() as patch:
            patch.setattr(where, moment, interrupted)
            outcome = train(pictures, tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.code == 130
    *_, last = said = outcome.err.splitlines()
    assert last.startswith("innerloop: interrupted. To go on: innerloop train ")
    assert [line for line in said if line.startswith("innerloop: ")] == [last]
    assert "Traceback" not in outcome.err
    assert train(pictures, tmp_path / "run").code == 0
    same_run(tmp_path / "run", whole)


# Losses that are no numbers


def test_a_diverging_run_stops_with_the_last_good_checkpoint(pictures, tmp_path):
    out = tmp_path / "run"
    said = complaint(train(pictures, out, meta_lr=1e37, checkpoint_seconds=0))
    good = f"The last good checkpoint is {out / 'last.safetensors'}; try a lower --lr, --meta-lr or --clip."
    assert said == f"the loss of iteration 2 is not finite. {good}"
    tensors, metadata = load_checkpoint(out / "last.safetensors")
    assert metadata["iteration"] == 1
    assert all(x.isfinite().all() for name, x in tensors.items() if name.startswith("network."))
    assert complaint(train(pictures, out, meta_lr=1e37, checkpoint_seconds=0)) == said, "as often as it is tried"


def test_a_run_that_diverges_at_once(pictures, tmp_path):
    out = tmp_path / "run"
    said = complaint(train(pictures, out, lr=3e38, checkpoint_seconds=0))
    assert "iteration 1 " in said
    assert said.endswith("not finite. There is no checkpoint yet; try a lower --lr, --meta-lr or --clip.")
    assert not list(out.glob("*.safetensors")), "nothing that is not finite is saved"


@pytest.mark.parametrize("part", ["loss", "weight"])
@pytest.mark.parametrize("bad", [4, 5, 6, 7])  # logged, and checkpointed, at some of them
def test_what_is_not_finite_is_never_saved(part, bad, pictures, tmp_path, monkeypatch):
    def steps(model, *arguments, **settings):
        for step in meta_train(model, *arguments, **settings):
            if step.number == bad and part == "weight":
                model.head.bias.data[0] = torch.nan
            yield step._replace(loss=step.loss * torch.nan) if step.number == bad and part == "loss" else step

    monkeypatch.setattr(images, "meta_train", steps)
    out = tmp_path / "run"
    said = complaint(train(pictures, out))
    if part == "loss":
        assert said.startswith(f"the loss of iteration {bad} is not finite")
    assert f"The last good checkpoint is {out / 'last.safetensors'}" in said
    assert load_checkpoint(out / "last.safetensors").metadata["iteration"] in (3, 6)
    for name in ("last.safetensors", "best.safetensors"):
        assert all(x.isfinite().all() for x in tiny.tensors(out / name).values())


# Whose folder it is


def test_a_finished_run_is_not_trained_again(pictures, whole, monkeypatch):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    monkeypatch.setattr(images, "open_data", lambda *_: pytest.fail("it reads the data"))
    outcome = train(pictures, whole, checkpoint_seconds=1)
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["anil", "nil"]
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_other_settings_in_the_same_folder_are_refused(pictures, whole):
    said = complaint(train(pictures, whole, lr=0.3, width=5))
    assert said == (
        f"{whole} holds a run with other settings (lr: 0.4 there, 0.3 now; width: 4 there, 5 now). "
        "Choose another --out."
    )


def test_a_run_can_be_made_longer_but_not_shorter(pictures, tmp_path):
    out = tmp_path / "run"
    assert train(pictures, out, iterations=6).code == 0
    assert train(pictures, out, iterations=12).code == 0
    assert train(pictures, tmp_path / "at once", iterations=12).code == 0
    same_run(out, tmp_path / "at once")
    said = complaint(train(pictures, out, iterations=6))
    assert said == f"{out} is past iteration 6, at 12; ask for more, or choose another --out"
    assert train(pictures, out, iterations=12).code == 0


def test_after_a_mistake_the_corrected_command_takes_the_same_folder(pictures, whole, tmp_path):
    out = tmp_path / "run"
    assert "4-way needs 4 in each" in complaint(train(pictures, out, way=4))
    assert train(pictures, out).code == 0
    same_run(out, whole)


def test_two_processes_in_one_folder_are_refused(pictures, whole):
    with claimed(whole, json.loads((whole / "spec.json").read_text())):
        said = complaint(train(pictures, whole))
    assert said == f"another process is at work in {whole}; wait for it, or choose another --out"


def test_a_truncated_checkpoint_is_named_and_can_go(pictures, whole, tmp_path):
    out = tmp_path / "run"
    with stopped_at(3, signal.SIGINT):
        train(pictures, out)
    path = out / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    metrics, best = (out / "metrics.jsonl").read_bytes(), (out / "best.safetensors").read_bytes()
    said = complaint(train(pictures, out))
    assert said.startswith(f"{path} is cut off or not a checkpoint of innerloop")
    assert said.endswith(
        "Delete it, and the same train command begins anew; what the run had found is kept beside it, in earlier-1. "
        "Or use best.safetensors, which is another file."
    )
    path.unlink()
    with pytest.warns(UserWarning, match=f"no {path}: the run begins anew; what was found before is in .*earlier-1"):
        assert train(pictures, out).code == 0
    same_run(out, whole)
    assert (out / "earlier-1" / "metrics.jsonl").read_bytes() == metrics
    assert (out / "earlier-1" / "best.safetensors").read_bytes() == best


@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors"])
def test_one_flipped_bit_is_noticed(name, whole, tmp_path):
    path = tmp_path / name
    data = bytearray((whole / name).read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")  # of the tensors
    for place in (begin, (begin + len(data)) // 2, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(ValueError, match=f"{path} is damaged: its checksum is another one. Delete it, and"):
            load_checkpoint(path)
    path.write_bytes(bytes(data).replace(b"0.4", b"0.5", 1))
    with pytest.raises(ValueError, match="its checksum is another one"):
        load_checkpoint(path)


def test_a_finished_run_that_loses_its_best_checkpoint_goes_on_from_its_last(pictures, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "best.safetensors").unlink()
    with pytest.warns(UserWarning, match="is lost; the best of the validations from here on takes its place"):
        assert train(pictures, out).code == 0
    assert load_checkpoint(out / "best.safetensors").metadata["iteration"] == 7
    assert (out / "earlier-1" / "result.json").read_bytes() == (whole / "result.json").read_bytes()


def test_without_its_spec_other_settings_are_refused_all_the_same(pictures, tmp_path):
    out = tmp_path / "run"
    with stopped_at(3, signal.SIGINT):
        train(pictures, out)
    (out / "spec.json").unlink()
    said = complaint(train(pictures, out, lr=0.3))
    assert "holds a run with other settings (lr: 0.4 there, 0.3 now)" in said
    assert train(pictures, out).code == 0


def test_a_finished_run_on_a_disk_that_is_only_read_shows_its_result(pictures, whole, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(trainer, "claimed", lambda *_: pytest.fail("it writes"))
    assert [line.split()[0] for line in train(pictures, whole).out.splitlines()] == ["anil", "nil"]


def test_a_start_that_failed_leaves_no_folder(pictures, tmp_path):
    complaint(train(pictures, tmp_path / "a" / "run", way=4))
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("")
    complaint(train(pictures, tmp_path / "mine", way=4))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


@pytest.mark.parametrize("at", [4, 7])  # with validations to come, and at the end
def test_a_run_whose_best_checkpoint_is_lost_goes_on(at, pictures, tmp_path):
    out = tmp_path / "run"
    with stopped_at(at, signal.SIGINT):
        train(pictures, out)
    best = out / "best.safetensors"
    best.write_bytes(best.read_bytes()[:-7])
    assert complaint(train(pictures, out)).endswith(
        "Delete it, and give the run's train command again: it goes on, and the next validation writes another."
    )
    best.unlink()
    with pytest.warns(UserWarning, match=f"{best} is lost; the best of the validations from here on takes its place"):
        assert train(pictures, out).code == 0
    assert load_checkpoint(best).metadata["iteration"] > 4


def test_a_finished_run_without_a_checkpoint_says_so(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "best.safetensors").unlink()
    assert complaint(call("evaluate", out)) == (
        f"{out} is a finished run without its best.safetensors: give its train command again, with another --out to "
        "begin anew, or with this one to go on from its last weights"
    )


def test_a_wrong_pattern_is_told_before_the_data_is_read(tmp_path):
    said = complaint(train(tmp_path, tmp_path / "run", adapt="nonsense.*"))
    assert said.startswith("adapt pattern 'nonsense.*' matches no parameter")


# Files beside the weights


@pytest.mark.parametrize("name", ["spec.json", "result.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", bytes(9), b"\xff\xfe"])
def test_a_damaged_side_file_is_named_and_can_go(name, damage, pictures, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / name).write_bytes(damage)
    said = complaint(train(pictures, out))
    assert said.startswith(f"{out / name} is damaged (")
    assert said.endswith(
        "Delete it and give the same command again: the weights, and the settings, lie in files of their own."
    )
    (out / name).unlink()
    assert train(pictures, out).code == 0
    same_run(out, whole)


def test_garbage_among_the_metrics_is_said_and_set_aside(pictures, tmp_path):
    out = tmp_path / "run"
    with stopped_at(5, signal.SIGINT):
        train(pictures, out)
    metrics = out / "metrics.jsonl"
    garbage = metrics.read_bytes()[:-20].replace(b'"loss"', b"\xff loss") + b"x" * 20
    metrics.write_bytes(garbage)
    with pytest.warns(UserWarning, match=f"lines of {metrics} are lost .what stood there is in .*earlier-1"):
        assert train(pictures, out).code == 0
    assert (out / "earlier-1" / "metrics.jsonl").read_bytes() == garbage
    assert [set(line) for line in lines(metrics)[-2:]] == [
        {"iteration", "loss", "accuracy"},
        *[set(lines(metrics)[-1])],
    ]


@pytest.mark.parametrize(("left", "kept"), [(None, []), (0, []), (1, []), (-1, [2, 3])])  # bytes, whole lines
def test_a_run_goes_on_without_the_metrics_that_are_lost(left, kept, pictures, tmp_path):
    out = tmp_path / "run"
    with stopped_at(5, signal.SIGINT):
        train(pictures, out)
    metrics = out / "metrics.jsonl"
    before = metrics.read_bytes()
    metrics.write_bytes(before[:left])
    if left is None:
        metrics.unlink()
    with pytest.warns(UserWarning, match=rf"lines of {metrics} are lost; the run goes on from its weights without"):
        assert train(pictures, out).code == 0
    assert [line["iteration"] for line in lines(metrics)] == [*kept, 6, 6, 7, 7]


# What a run says and writes


def test_the_metrics(whole):
    written = lines(whole / "metrics.jsonl")
    assert [line["iteration"] for line in written if "loss" in line] == [2, 4, 6, 7]
    assert [line["iteration"] for line in written if "val_accuracy" in line] == [3, 6, 7]
    assert all(0 <= line.get("accuracy", 0) <= 1 and line.get("loss", 0) >= 0 for line in written)


def test_the_best_checkpoint_is_the_first_of_the_best_validations(whole):
    validations = [line for line in lines(whole / "metrics.jsonl") if "val_accuracy" in line]
    best = max(validations, key=lambda line: line["val_accuracy"])
    metadata = load_checkpoint(whole / "best.safetensors").metadata
    result = json.loads((whole / "result.json").read_text())
    assert metadata["iteration"] == result["best_at"] == best["iteration"]
    assert metadata["val_accuracy"] == result["validation"]["val_accuracy"] == best["val_accuracy"]
    assert result["selection"] == "best of 3 validations"
    assert metadata["statistics"] == result["test"]["nil"]["statistics"] == "query"
    assert [len(result["test"][name]["per_step"]) for name in ("anil", "nil")] == [4, 1]


def test_how_it_is_computed_changes_no_result(pictures, whole, tmp_path):
    assert train(pictures, tmp_path / "run", chunk_size=1).code == 0
    metrics = [lines(out / "metrics.jsonl") for out in (tmp_path / "run", whole)]
    for ours, theirs in zip(*metrics, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[key] - theirs[key]) < 1e-3 for key in ours)


def test_cudnn_is_held_to_repeatable_kernels_while_a_run_trains(pictures, tmp_path, monkeypatch):
    cudnn, seen = torch.backends.cudnn, []

    def steps(*arguments, **settings):
        seen.append((cudnn.deterministic, cudnn.benchmark))
        return meta_train(*arguments, **settings)

    monkeypatch.setattr(images, "meta_train", steps)
    monkeypatch.setattr(cudnn, "benchmark", True)
    assert train(pictures, tmp_path / "run", iterations=1).code == 0
    assert seen == [(True, False)]
    assert (cudnn.deterministic, cudnn.benchmark) == (False, True)


@pytest.mark.parametrize("episodes", [1, 4])
def test_what_is_written_is_json(episodes, pictures, tmp_path):
    """An interval of one episode is not known, and JSON has no NaN."""
    out = tmp_path / "run"
    outcome = train(pictures, out, iterations=1, val_episodes=episodes, test_episodes=episodes)
    assert outcome.code == 0
    assert outcome.out.count("±") == (0 if episodes == 1 else 2)
    known = [line["val_interval"] for line in lines(out / "metrics.jsonl") if "val_interval" in line]
    known += [score["interval"] for score in json.loads((out / "result.json").read_text())["test"].values()]
    assert all((value is None) == (episodes == 1) for value in known)
    assert "NaN" not in (out / "metrics.jsonl").read_text() + (out / "result.json").read_text()


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "boil"])
def test_every_algorithm_trains(algorithm, pictures, tmp_path):
    out = tmp_path / "run"
    outcome = train(pictures, out, algorithm=algorithm, iterations=2)
    assert outcome.code == 0
    assert outcome.out.startswith(algorithm)
    seen = lines(out / "metrics.jsonl")
    assert seen[0]["loss"] > 0


def test_tensorboard(pictures, tmp_path):
    pytest.importorskip("tensorboard")
    assert train(pictures, tmp_path / "run", tensorboard=True, iterations=2).code == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
