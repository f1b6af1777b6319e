r"""Whether an exported program computes what the surrogate computes, at three resolutions.

.. math:: e = \max_{r} \frac{\max |v_r - u_r|}{\max |u_r - \bar u_r|} \le 10^{-5}

for the surrogate's outputs :math:`u_r` on the training resolution, a coarser and a finer one, with batches of one to three, each channel by
its own deviation from its mean. An evolution by increments is judged by its increment, so that a copied state hides nothing; four roundings
of the state itself in float32 are allowed besides.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anygrid.errors import FileError
from anygrid.export.traceable import smallest
from anygrid.surrogate import Surrogate

__all__ = ["TOLERANCE", "check", "resolutions", "sample"]

TOLERANCE = 1e-5


def resolutions(surrogate: Surrogate) -> list[tuple[int, ...]]:
    """Three resolutions: of training, about 0.7 of it with another parity, and about 1.4 of it."""
    least, trained = smallest(surrogate), surrogate.grid.shape
    coarse = tuple(max(low, (7 * n) // 10 - (n + (7 * n) // 10 + 1) % 2) for low, n in zip(least, trained, strict=True))
    fine = tuple(max(low, (7 * n) // 5 + k) for k, (low, n) in enumerate(zip(least, trained, strict=True), start=1))
    return [coarse, tuple(map(max, least, trained)), fine]


def sample(surrogate: Surrogate, batch: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random inputs with mean and deviation of the training data: a few waves and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    d = len(shape)
    rough = torch.randn(batch, len(surrogate.inputs), *shape, generator=generator)
    smooth = torch.randn(batch, len(surrogate.inputs), *[min(n, 5) for n in shape], generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[d]
    field = torch.nn.functional.interpolate(smooth, size=shape, mode=mode, align_corners=True) + 0.1 * rough
    column = (1, -1, *(1,) * d)
    return surrogate.in_mean.cpu().view(column) + surrogate.in_std.cpu().view(column) * field


def check(surrogate: Surrogate, run: Callable[[Tensor], Tensor], where: str) -> float:
    """Largest relative difference between ``run`` and the surrogate.

    Raises
    ------
    FileError
        When it exceeds ``1e-5``, or ``run`` gives another shape or values that are not finite.
    """
    worst = 0.0
    model = surrogate.eval()
    for k, shape in enumerate(resolutions(surrogate)):
        a = sample(surrogate, k + 1, shape, seed=k)
        with torch.no_grad():
            expected = model(a, surrogate.grid.at(shape))
        found = run(a)
        at = f"at {'x'.join(map(str, shape))} points"
        if found.shape != expected.shape:
            raise FileError(where, f"an output of shape {tuple(expected.shape)} {at}", str(tuple(found.shape)), _HINT)
        difference, allowed = _relative(found, expected, surrogate, a)
        if not difference <= allowed:
            raise FileError(where, f"the surrogate's outputs to {TOLERANCE:g} {at}", f"a relative difference of {difference:.2g}", _HINT)
        worst = max(worst, difference)
    return worst


_HINT = "nothing was written; report this with the output of anygrid info and of pip list"


def _relative(found: Tensor, expected: Tensor, surrogate: Surrogate, a: Tensor) -> tuple[float, float]:
    """The largest relative difference of a channel, and the largest allowed in that channel."""
    if not torch.isfinite(found).all():
        return float("inf"), TOLERANCE
    worst = (0.0, TOLERANCE)
    for k, source in enumerate(surrogate.base):
        own, u = expected[:, k].double(), found[:, k].double()
        change = own if source is None else own - a[:, source].double()
        size = float((change - change.mean()).abs().max().clamp(min=1e-30))
        # A state much larger than its increment is rounded when the two are added, by whoever adds them.
        rounding = 4 * torch.finfo(expected.dtype).eps * float(own.abs().max())
        one = (float((u - own).abs().max()) / size, TOLERANCE + rounding / size)
        worst = max(worst, one, key=lambda pair: pair[0] / pair[1])
    return worst
