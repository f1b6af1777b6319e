"""Backward passes that recompute the activation instead of keeping it.

Plain autograd keeps, for each layer, its input, what the activation sees and what it gives: at 85 x 85 points and 48 channels 1.4 MB
each and for each sample. The functions here keep one of the three. They serve first-order reverse mode, which is what training
is, and evaluation without gradients; compilation, export, mixed precision, forward mode and ``torch.func`` see the plain operations
(:func:`recomputing`), and a second derivative differentiates those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = ["activated_linear", "gelu", "gelu_backward", "linear", "linear_backward", "perceptron", "plain_backward", "recomputing"]

_CHUNK = 1 << 13  # points of a wide hidden layer that pass at once: 4 MB of 128 channels, which the last cache holds
_LARGE = 1 << 28  # bytes of a hidden layer from which on memory is worth more than the time to compute it again
_TALL = 1 << 14  # rows from which on oneDNN's product, 1.1 to 1.4 times as fast as MKL's, repays its longer call
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

Gradients = tuple[Tensor | None, ...]


def recomputing(x: Tensor) -> bool:
    """Whether nothing but plain execution, with or without ordinary reverse mode, looks at the operations."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def plain_backward(plain: Callable[..., Tensor], inputs: tuple[Tensor | None, ...], g: Tensor) -> Gradients:
    """Gradients that can be differentiated again: those of the plain operations."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(plain(*inputs), wanted, g, create_graph=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in inputs)


def gelu(x: Tensor, times: int = 1) -> list[Tensor]:
    """``x`` and what the exact GELU makes of it, applied once, twice, ...: ``times`` of them."""
    found = [x]
    for _ in range(times):
        found.append(nn.functional.gelu(found[-1]))
    return found


def gelu_backward(g: Tensor, before: Sequence[Tensor]) -> Tensor:
    """Gradient of GELUs that saw ``before``, written over ``g``; factors at each point, so in any order."""
    for x in before:
        torch.ops.aten.gelu_backward.grad_input(g, x, grad_input=g)
    return g


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias`` where no gradient is recorded: on a processor, in float32 and for tall ``x``, by oneDNN."""
    tall = x.numel() >= _TALL * x.shape[-1] > 0
    if _ONEDNN and tall and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return nn.functional.linear(x, weight, bias)


def linear_backward(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x @ weight.T + bias`` with respect to ``x``, ``weight`` and ``bias``."""
    rows = g.flatten(0, -2)
    return linear(g, weight.T, None), rows.T @ x.flatten(0, -2), rows.sum(0)


def activated_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    r"""``W gelu(x) + b`` over the last dimension; the backward pass keeps ``x`` only."""
    run = _ActivatedLinear.apply if recomputing(x) else _activated_linear
    return run(x, layer.weight, layer.bias)


def _activated_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return nn.functional.linear(nn.functional.gelu(x), weight, bias)


class _ActivatedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return linear(nn.functional.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Gradients:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return plain_backward(_activated_linear, (x, weight, bias), g)
        ds, dweight, dbias = linear_backward(g, nn.functional.gelu(x), weight)
        return gelu_backward(ds, [x]), dweight, None if bias is None else dbias


def perceptron(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """``second(gelu(first(x)))`` over the last dimension; points pass in chunks, so that the activation is never held for a whole field.

    The backward pass keeps ``x`` and the hidden layer, and only ``x`` where that layer is large; without gradients nothing wide is kept.
    """
    weights = (first.weight, first.bias, second.weight, second.bias)
    if not recomputing(x):
        return _perceptron(x, *weights)
    wide = x.numel() // x.shape[-1] * first.out_features * x.element_size()
    return _Perceptron.apply(x, *weights, torch.is_grad_enabled() and wide <= _LARGE)


def _perceptron(x: Tensor, a: Tensor, a0: Tensor, b: Tensor, b0: Tensor) -> Tensor:
    return _activated_linear(nn.functional.linear(x, a, a0), b, b0)


class _Perceptron(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, a0: Tensor, b: Tensor, b0: Tensor, keep: bool) -> Tensor:
        rows = x.flatten(0, -2)
        hidden = linear(rows, a, a0) if keep else None
        ctx.save_for_backward(x, hidden, a, a0, b, b0)
        out, chunk = rows.new_empty(len(rows), len(b)), _chunk(x)
        for part, wide, u in zip(rows.split(chunk), _parts(hidden, chunk), out.split(chunk), strict=False):
            s = torch.ops.aten.gelu_(linear(part, a, a0)) if wide is None else nn.functional.gelu(wide)
            torch.addmm(b0, s, b.T, out=u)
        return out.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Gradients:
        x, hidden, a, a0, b, b0 = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *plain_backward(_perceptron, (x, a, a0, b, b0), g), None
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        da, da0, db, db0 = (torch.zeros_like(t) for t in (a, a0, b, b0))
        chunk = _chunk(x)
        chunks = (t.flatten(0, -2).split(chunk) for t in (x, g, dx))
        for part, dpart, out, wide in zip(*chunks, _parts(hidden, chunk), strict=False):
            wide = linear(part, a, a0) if wide is None else wide
            s = nn.functional.gelu(wide)
            db.addmm_(dpart.T, s)
            db0 += dpart.sum(0)
            dwide = gelu_backward(torch.mm(dpart, b, out=s), [wide])
            da.addmm_(dwide.T, part)
            da0 += dwide.sum(0)
            torch.mm(dwide, a, out=out)
        return dx, da, da0, db, db0, None


def _chunk(x: Tensor) -> int:
    """Points that pass at once: on a processor so many that its last cache holds them, elsewhere so many that the device is filled."""
    return _CHUNK if x.device.type == "cpu" else 32 * _CHUNK


def _parts(hidden: Tensor | None, chunk: int) -> Iterable[Tensor | None]:
    """The chunks of a hidden layer, or for each chunk nothing where it was not kept."""
    return repeat(None) if hidden is None else hidden.split(chunk)
