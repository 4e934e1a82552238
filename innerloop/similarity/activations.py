"""What a network's layers put out, as a dict of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from innerloop.params import as_function, layers_of, lock_of


def activations(
    model: nn.Module, x: Tensor, layers: Sequence[str] | None = None, params: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Outputs of the named layers for the inputs x, (n, *x), without gradients; the model stays as it is.

    Args:
        model: any module, in train or eval mode as you set it.
        x: its inputs.
        layers: module names as in `model.named_modules()`; None takes the children of a Sequential that have
            parameters.
        params: parameters and buffers to use instead of the model's, all or some, such as an adapted state dict.

    Raises:
        ValueError: a name is unknown, a layer does not run exactly once or puts out no tensor, or `layers` is None and
            the model is no Sequential.
    """
    layers = layers_of(model) if layers is None else layers
    named = dict(model.named_modules(remove_duplicate=False))
    if unknown := [layer for layer in layers if layer not in named]:
        raise ValueError(f"no layer is called {', '.join(unknown)}. This model has {', '.join(filter(None, named))}.")
    with lock_of(model), torch.no_grad(), _recorded({layer: named[layer] for layer in layers}) as outputs:
        as_function(model)(_state(model, params or {}), x)
    if silent := [layer for layer in layers if layer not in outputs]:
        raise ValueError(f"{', '.join(silent)} did not run in the forward pass: name layers that do")
    return {layer: outputs[layer] for layer in layers}


def fold(outputs: Tensor, neurons: int | None = None) -> Tensor:
    """Neurons as channels, all else as data points: (n, c, h, w) to (n * h * w, c); (n, c) stays.

    Under torch.func.vmap for tensors with a task axis.

    Args:
        outputs: what a layer puts out.
        neurons: the axis of the neurons; None takes axis 1 of a conv map (n, c, h, w) and the last of (n, c).

    Raises:
        ValueError: `neurons` is not given and the shape does not say it, such as (n, tokens, features); or it is no
            axis, or the axis of the inputs.
    """
    shape = tuple(outputs.shape)
    if neurons is None and outputs.ndim not in (2, 4):
        raise ValueError(
            f"fold takes (n, c) or (n, c, h, w), got {shape}: say which axis holds the neurons, such as neurons=-1 for "
            "(n, tokens, features)"
        )
    axis = 1 if neurons is None else neurons
    if not -outputs.ndim < axis < outputs.ndim or not axis:
        raise ValueError(f"neurons must name an axis of {shape} after the first, which holds the inputs, got {axis}")
    return outputs.movedim(axis, -1).flatten(0, -2)


def _state(model: nn.Module, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's parameters and buffers, some replaced; buffers are copies, for batch norm writes into them."""
    own = {*dict(model.named_parameters(remove_duplicate=False)), *dict(model.named_buffers(remove_duplicate=False))}
    if unknown := sorted(params.keys() - own):
        raise ValueError(f"the model has no parameter {', '.join(unknown)}. It has {', '.join(sorted(own))}.")
    state = {**dict(model.named_parameters()), **dict(model.named_buffers()), **params}
    return state | {name: state[name].clone() for name, _ in model.named_buffers()}


@contextmanager
def _recorded(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Inside, forward passes leave the layers' outputs in this dict."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG001
            if not isinstance(output, Tensor):
                raise ValueError(f"{name} puts out a {type(output).__name__}, not a tensor: name a layer inside it")
            if name in outputs:
                raise ValueError(f"{name} runs more than once in a forward pass: name the layer around it")
            outputs[name] = output.clone()  # the next layer may write into it

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
