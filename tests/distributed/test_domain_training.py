"""A training whose fields are spread over processes equals that in one process, resumes exactly, and says what it cannot do."""

import os

import pytest
import torch
from ranks_support import on_ranks, said
from training_support import heat

from anygrid.errors import AnygridError
from anygrid.operators import FNO, LatentFNO, UNet
from anygrid.problems.darcy import Darcy
from anygrid.training import Flip, Shift, fit

# Parts of 16 and 24 points on 3 ranks are 5, 5, 6 and 8 each; every second point of them 2, 3, 3 and 4 each.
ARGUMENTS = {
    "lead": 1,
    "steps": 8,
    "batch": 4,
    "unroll": 2,
    "augment": (Shift("x"), Flip("x")),
    "resolutions": [(0.3, 2)],
    "keep_best": True,
    "learning_rate": 3e-3,
    "checkpoint_seconds": 0.0,
}


class _Double:
    """Arithmetic in float64, so that equal to rounding means equal to many digits; the loss is float32 whatever the weights are."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.double()

    def forward(self, a, grid, query=None):
        return super().forward(a.double(), grid, query)


class DoubleFNO(_Double, FNO):
    pass


class DoubleLatent(_Double, LatentFNO):
    pass


def fno(inputs, outputs, grid):
    return DoubleFNO(inputs, outputs, [True], [5], width=6, depth=2, head=8)


def latent(inputs, outputs, grid):
    return DoubleLatent(inputs, outputs, [True], [16], [5], 2, width=6, depth=2)


def train(folder=None, listener=None, **more):
    data = [heat(samples=8, points=16, times=4), heat(samples=6, points=24, times=4, seed=1)]
    return fit(data, "u", "u", run=folder, listener=listener, **{**ARGUMENTS, **more})


def kept(where, count, **more):
    """Weights and record that each of ``count`` ranks comes to."""
    work = where / f"on {count}"

    def job():
        found = train(parallel="domain", **more)
        torch.save([dict(found.operator.state_dict()), found.record], work / f"{os.environ['RANK']}.pt")

    on_ranks(count, job, work)
    return [torch.load(work / f"{k}.pt", weights_only=False) for k in range(count)]


def apart(one, two):
    return max(float((one[k] - two[k]).abs().max() / two[k].abs().max()) for k in two)


@pytest.mark.parametrize(("operator", "gradient", "count"), [(fno, 0.2, 3), (latent, 0.0, 3), (fno, 0.0, 2), (latent, 0.2, 2)])
def test_equals_one_process(tmp_path, operator, gradient, count):
    alone = train(operator=operator, gradient=gradient)
    found = kept(tmp_path, count, operator=operator, gradient=gradient)
    weights, record = found[0]
    assert apart(weights, alone.operator.state_dict()) < 1e-5  # the loss is in float32: 1.2e-6 was seen
    assert all(torch.equal(w[k], weights[k]) for w, _ in found for k in weights)
    for theirs, ours in zip(record["history"], alone.record["history"], strict=True):
        for what in ("loss", "validation"):
            assert theirs[what] == pytest.approx(ours[what], rel=1e-5)


def test_resumes_bit_for_bit(tmp_path):
    whole = kept(tmp_path / "whole", 3, operator=fno, gradient=0.2)

    def job():
        def stop(progress):
            if progress.step >= 4:
                raise KeyboardInterrupt

        with pytest.raises((KeyboardInterrupt, AnygridError)):
            train(tmp_path / "run", stop, operator=fno, gradient=0.2, parallel="domain")

    on_ranks(3, job, tmp_path / "stopped")
    again = kept(tmp_path / "again", 3, operator=fno, gradient=0.2, folder=tmp_path / "run", listener=lambda p: print(p.message))
    assert "resumed at step" in said(tmp_path / "again" / "on 3", 0)
    assert all(torch.equal(again[r][0][k], whole[r][0][k]) for r in range(3) for k in whole[0][0])


def on_points():
    ds = heat(samples=8, points=16, times=3)
    ds = ds.rename(x="point").assign_coords(x=("point", ds.x.values, {"units": "m", "periodic": 1}))
    return fit(ds, "u", "u", lead=1, steps=2, parallel="domain", operator=lambda i, o, g: FNO(i, o, [True], [5], width=4))


def on_an_equation():
    return fit(Darcy(), physics=True, steps=2, parallel="domain")


def on_odd_parts():
    return train(parallel="domain", steps=2, resolutions=(), operator=lambda i, o, g: UNet(i, o, [True], width=4, levels=3))


REFUSED = {
    on_points: "expected a Box or a Sphere, got Points",
    on_an_equation: "parallel='domain': expected a loss on data alone, got an equation",
    on_odd_parts: "UNet: expected a multiple of 8 rows on every rank",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_shared_is_refused_by_name(tmp_path, what):
    def job():
        with pytest.raises(AnygridError) as caught:
            what()
        assert REFUSED[what] in str(caught.value)

    on_ranks(3, job, tmp_path)
