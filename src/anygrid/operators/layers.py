"""What the operators share: coordinate features, bases for a grid, pointwise maps in chunks, change of grid, channel order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import GridError, UsageError
from anygrid.grid import Grid
from anygrid.numerics.bases import Basis, Family
from anygrid.numerics.interpolation import interpolate
from anygrid.operators.lean import perceptron

__all__ = ["Pointwise", "check_input", "coordinate_features", "feature_count", "make_bases", "move"]


def make_bases(modes: Sequence[int], families: Sequence[str], padding: Sequence[float]) -> tuple[Basis, ...]:
    """One :class:`Basis` for each axis.

    Raises
    ------
    UsageError
        When the three lists differ in length or a family is unknown.
    """
    if not len(modes) == len(families) == len(padding):
        raise UsageError(
            "operator", "one entry for each axis in modes, families and padding", f"{len(modes)}, {len(families)}, {len(padding)}"
        )
    known: dict[str, Family] = {"fourier": "fourier", "cosine": "cosine", "sine": "sine", "legendre": "legendre"}
    for family in families:
        if family not in known:
            raise UsageError("operator", f"families among {', '.join(known)}", repr(family))
    return tuple(Basis(known[f], int(m), float(p)) for m, f, p in zip(modes, families, padding, strict=True))


def feature_count(periodic: Sequence[bool], harmonics: int = 1) -> int:
    """Channels that :func:`coordinate_features` makes: two for each harmonic of a periodic axis, one for each bounded one."""
    return sum(2 * harmonics if p else 1 for p in periodic)


@lru_cache(maxsize=32)
def coordinate_features(grid: Grid, dtype: torch.dtype, device: torch.device, harmonics: int = 1) -> Float[Tensor, "*space features"]:
    """Functions of position: ``cos`` and ``sin`` of 1, 2, 4, ... waves on periodic axes, a coordinate from -1 to 1 on bounded ones."""
    with torch.inference_mode(False):
        x = grid.points()
        features = []
        for k, interval in enumerate(grid.domain):
            s = (x[..., k] - interval.lower) / interval.length
            if interval.periodic:
                for wave in (2**h for h in range(harmonics)):
                    features += [torch.cos(2 * torch.pi * wave * s), torch.sin(2 * torch.pi * wave * s)]
            else:
                features.append(2 * s - 1)
        return torch.stack(features, dim=-1).to(device, dtype)


def check_input(a: Tensor, grid: Grid, inputs: int, periodic: Sequence[bool], where: str) -> None:
    """Refuse a tensor that does not lie on the grid, or a grid of another topology than the operator was built for."""
    expected = (inputs, *grid.shape)
    if tuple(a.shape[1:]) != expected:
        raise GridError(where, f"input of shape (batch, {', '.join(map(str, expected))})", str(tuple(a.shape)))
    found = tuple(interval.periodic for interval in grid.domain)
    if found != tuple(periodic):
        raise GridError(
            where, f"a grid with periodic axes {tuple(periodic)}", f"{found}", "use a grid of the domain the operator was built for"
        )


def move(x: Float[Tensor, "batch *space channel"], grid: Grid, query: Grid) -> Float[Tensor, "batch *query channel"]:
    """Interpolate a channels-last field to another grid of the same domain; the field itself when they are equal."""
    if grid == query:
        return x
    return torch.movedim(interpolate(torch.movedim(x, -1, 1), grid, query), 1, -1)


class Pointwise(nn.Module):
    """Two-layer perceptron at every point, with exact GELU (the tanh form is about 3x slower on CPU).

    The points pass in chunks, so that the wide hidden layer is never held for the whole field.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, outputs)

    def forward(self, x: Float[Tensor, "*points inputs"]) -> Float[Tensor, "*points outputs"]:
        """Apply to the last dimension."""
        return perceptron(x, self.first, self.second)
