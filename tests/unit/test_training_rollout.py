"""Long roll-outs in training: computed twice in the memory of one application, with the same gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anygrid.fields import Variable
from anygrid.grid import Box, Periodic
from anygrid.operators import default_operator
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Noise, Surrogate
from anygrid.training import objective
from anygrid.training.losses import RelativeNorm
from anygrid.training.settings import DEFAULTS

LEADS = 8
GRID = Box.uniform({"x": Periodic()}, 64)


def model(noise: bool) -> Surrogate:
    torch.manual_seed(0)
    one = Moments(100, (0.0,), (100.0,), (-3.0,), (3.0,))
    channels = Noise((0.1,)) if noise else Noise()
    operator = default_operator(1 + len(channels.lengths), 1, GRID, width=8, depth=3)
    u = (Variable("u"),)
    return Surrogate(operator, u, u, Statistics(one, one, one), GRID, increment=True, noise=channels)


def gradient(noise: bool, stored: int, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, int]:
    """Gradient of the loss of a roll-out, and the bytes that are kept for it."""
    monkeypatch.setattr(objective, "DEFAULTS", replace(DEFAULTS, stored_leads=stored))
    surrogate, generator = model(noise), torch.Generator().manual_seed(1)
    states = torch.randn(4, LEADS + 1, 1, 64, generator=generator)
    torch.manual_seed(5)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = objective.rollout_loss(surrogate, states[:, :-1], states[:, 1:], GRID, RelativeNorm(torch.ones(1), torch.ones(1)))
    total = sum(kept.values())
    loss.backward()
    return torch.cat([p.grad.ravel() for p in surrogate.operator.parameters() if p.grad is not None]), total


@pytest.mark.parametrize("noise", [False, True])
def test_what_is_computed_again_gives_the_same_gradient_in_less_memory(noise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, whole = gradient(noise, LEADS, monkeypatch)
    again, little = gradient(noise, 4, monkeypatch)
    assert plain.abs().max() > 0
    torch.testing.assert_close(again, plain, rtol=1e-6, atol=0)
    assert little < 0.4 * whole
