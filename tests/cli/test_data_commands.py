"""innerloop data, innerloop cache, --quiet."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import tiny
from tiny import call, complaint

from innerloop.data.cache import cache_folder


@pytest.fixture
def shapes(tmp_path) -> Path:
    return tiny.pictures(tmp_path / "shapes", each=12)


def checked(*arguments: object):
    return call("data", "check", *arguments, "--size", 16, "--way", 3)


def test_check_says_that_training_would_go(shapes):
    outcome = checked(shapes)
    assert outcome.code == 0
    assert "fits 3-way tasks of 5 shots and 5 queries a class" in outcome.err


def test_check_refuses_what_training_would_refuse(shapes):
    assert "fewer than the 13 images that 8 shots and 5 queries need" in complaint(checked(shapes, "--shot", 8))
    assert "4-way needs 4 in each: lower --way" in complaint(call("data", "check", shapes, "--size", 16, "--way", 4))
    assert "too small for 4 poolings" in complaint(call("data", "check", shapes, "--size", 9, "--way", 3))
    os.mkfifo(next(shapes.glob("train/*")) / "pipe.png")
    assert "a pipe, a socket or a device" in complaint(checked(shapes))
    with pytest.warns(UserWarning, match="left out"):
        assert checked(shapes, "--skip-bad").code == 0


def test_check_warns_of_films_and_keeps_them_apart(shapes):
    for file in shapes.rglob("*.png"):
        number = int("".join(filter(str.isdigit, file.stem)))
        file.rename(file.with_name(f"film{number // 4}_{number % 4}.png"))
    outcome = checked(shapes)
    assert "look like frames of one film" in outcome.err
    assert "--group-by '{group}_*'" in outcome.err
    outcome = checked(shapes, "--group-by", "^(.+)_", "--shot", 4, "--query", 4)
    assert (outcome.code, "frames of one film" in outcome.err) == (0, False)
    assert "groups of images" in outcome.out
    assert "too few groups" in complaint(checked(shapes, "--group-by", "^(.+)_", "--shot", 5, "--query", 5))
    assert "gives 132 of the 132 images no group" in complaint(checked(shapes, "--group-by", "(xyz)"))


def test_the_cache_is_listed_and_cleared(shapes):
    assert call("cache", "list").err.startswith("0 files, 0.0 MB in")
    checked(shapes)
    call("data", "check", shapes, "--size", 20, "--way", 3)
    (cache_folder() / "theirs.txt").write_text("not ours")
    (cache_folder() / "broken.safetensors").write_text("not whole")
    outcome = call("cache", "list")
    assert "11 classes" in outcome.out
    assert "damaged" in outcome.out
    assert "theirs" not in outcome.out
    assert outcome.err.startswith("3 files, ")
    assert call("cache", "clear", "--unused", 1).err.startswith("0 files")
    for path in cache_folder().glob("folder-*"):
        os.utime(path, (0, time.time() - 2 * 24 * 3600))
    assert call("cache", "clear", "broken").err.startswith("1 files")
    assert call("cache", "clear", "--unused", 1).err.startswith("2 files")
    assert [path.name for path in cache_folder().iterdir()] == ["theirs.txt"]
    assert call("cache", "clear", "folder-x").err.startswith("0 files")
    assert checked(shapes).code == 0, "made again"


def test_quiet_leaves_results_and_errors(shapes, monkeypatch):
    monkeypatch.setenv("INNERLOOP_QUIET", "")  # put back afterwards
    loud, quiet = checked(shapes), checked(shapes, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, loud.out, "")
    assert complaint(checked(shapes, "--shot", 8, "--quiet"))
