from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors: threads only cost


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real data beside the checkout; a user does not have it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs Omniglot and mini-ImageNet in ../shared/data")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test touches the user's cache."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
