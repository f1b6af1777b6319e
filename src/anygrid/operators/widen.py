"""A trained operator with more input channels, which at first it hardly hears."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from anygrid.errors import UsageError

__all__ = ["widened"]

_AT_FIRST = 0.3  # of the weights that an untrained operator would have there


def widened(operator: nn.Module, more: int, seed: int = 0) -> nn.Module:
    """A copy of ``operator`` with ``more`` input channels behind its own, all other weights as they are.

    Its first layer has the channels of the input in front, ``k`` columns each, and those of position behind them, as all operators of this
    package have it. The new columns are random and small: with zeros, draws of a random surrogate would all be the same, and nothing would
    say in which direction they should part.

    Raises
    ------
    UsageError
        For an operator in which more than its first layer depends on the number of inputs.
    """
    arguments: dict[str, Any] = dict(operator.arguments)  # type: ignore[arg-type]
    inputs = int(arguments["inputs"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        other = type(operator)(**{**arguments, "inputs": inputs + more})
    fresh, weights = other.state_dict(), dict(operator.state_dict())
    grown = [name for name, value in fresh.items() if value.shape != weights[name].shape]
    if more and (len(grown) != 1 or fresh[grown[0]].ndim < 2):
        raise UsageError("widened", "an operator whose first layer alone depends on its inputs", type(operator).__name__, "use another")
    for name in grown:
        had, new = weights[name], fresh[name]
        each, rest = divmod(new.shape[1] - had.shape[1], more)
        if rest or had.shape[1] < inputs * each:
            raise UsageError("widened", "a first layer with the same columns for every channel", type(operator).__name__, "use another")
        own = inputs * each
        weights[name] = torch.cat([had[:, :own], _AT_FIRST * new[:, own : own + more * each], had[:, own:]], 1)
    other.load_state_dict(weights)
    return other.train(operator.training)
