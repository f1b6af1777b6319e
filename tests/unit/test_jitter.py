"""Mixing the first state of a step with others: what it touches, and that roll-outs are pulled back by what it teaches."""

import numpy as np
import pytest
import torch
from training_support import affine, heat, small_fno

from anygrid.errors import UsageError
from anygrid.training import fit
from anygrid.training.jitter import jittered


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_only_the_first_state_of_what_evolves_is_mixed() -> None:
    a = torch.randn(6, 3, 4, 5)
    found = jittered(a, (0, 2), 0.4, _seeded())
    assert torch.equal(found[:, 1:], a[:, 1:])
    assert torch.equal(found[:, 0, [1, 3]], a[:, 0, [1, 3]])
    assert torch.equal(jittered(a, (0, 2), 0.0, _seeded()), a)
    assert torch.equal(jittered(a, (0, 2), 0.4, _seeded()), found)


def test_each_variable_is_mixed_with_one_other_sample_by_a_part_that_the_sample_has() -> None:
    a = torch.randn(6, 1, 3, 50)
    moved = jittered(a, (0, 1, 2), 0.4, _seeded())[:, 0] - a[:, 0]
    partners = []
    for c in range(3):
        for i in range(6):
            parts = [float(moved[i, c] @ (a[j, 0, c] - a[i, 0, c]) / (a[j, 0, c] - a[i, 0, c]).square().sum()) for j in range(6) if j != i]
            rest = [
                float((moved[i, c] - p * (a[j, 0, c] - a[i, 0, c])).norm())
                for p, j in zip(parts, [j for j in range(6) if j != i], strict=True)
            ]
            best = int(np.argmin(rest))
            if float(moved[i, c].norm()) > 0:
                assert rest[best] < 1e-5
                assert 0 < parts[best] < 0.4
                partners.append((i, c, best, round(parts[best], 4)))
    assert len({(i, part) for i, _, _, part in partners}) == len({i for i, *_ in partners})  # one part for all variables of a sample
    assert len({(i, other) for i, _, other, _ in partners}) > len({i for i, *_ in partners})  # but other partners


def test_what_does_not_fit_is_taken_back() -> None:
    """Two variables that are always the same: told apart, they return to each other after a training with jitter alone."""
    ds = heat(samples=64)
    ds = ds.assign(v=ds.u)
    gaps = {}
    for amount in (0.0, 0.5):
        model = fit(ds, ("u", "v"), ("u", "v"), lead=1, steps=150, operator=small_fno, batch=8, jitter=amount, learning_rate=1e-2)
        u = torch.tensor(ds.u.isel(sample=slice(0, 8), time=0).values)
        state = torch.stack([u, u + 0.3 * u.roll(1, 0)], 1)
        with torch.no_grad():
            for _ in range(3):
                state = model(state, model.grid)
        gaps[amount] = float((state[:, 0] - state[:, 1]).norm())
    assert gaps[0.5] < 0.3 * gaps[0.0]


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(UsageError, match=r"jitter: expected a part of other states, from 0 to 1, got 2"):
        fit(heat(), "u", "u", lead=1, steps=1, jitter=2)
    with pytest.raises(UsageError, match="steady data, or batches of 1"):
        fit(affine(), "p", "q", steps=1, jitter=0.1)
    with pytest.raises(UsageError, match="steady data, or batches of 1"):
        fit(heat(), "u", "u", lead=1, steps=1, batch=1, jitter=0.1)
