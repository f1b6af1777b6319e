"""A surrogate as a function of one tensor, whose batch and resolution may be symbols.

:class:`Traceable` shares the surrogate's weights and computes the same outputs. The grid is no argument any more: it is that of training at
the resolution of the tensor, and every matrix that depends on it is made inside the graph (:mod:`anygrid.export.axis_tables`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from anygrid.errors import UsageError
from anygrid.export.axis_tables import Line, cardinal, features, hat, spline, spline_coefficients
from anygrid.export.basis_matrices import analysis_matrices, synthesis_matrices
from anygrid.grid import Box, Sphere
from anygrid.numerics.bases import Basis
from anygrid.operators import FNO, LatentFNO
from anygrid.operators.cells import add_cells, cut_cells
from anygrid.operators.latent_fno import Block, extend
from anygrid.operators.layers import coordinate_features
from anygrid.operators.lean import activated_linear
from anygrid.operators.spectral import SpectralConv, mix
from anygrid.operators.transforms import Plan, analyse, plan, synthesise
from anygrid.surrogate import Surrogate

__all__ = ["Traceable", "check_exportable", "smallest"]


class Traceable(nn.Module):
    """``forward(a)`` of a surrogate in physical units, for ``a`` of any resolution of its domain.

    Raises
    ------
    UsageError
        For an operator, a grid or a property of the surrogate that cannot be exported; the message names it.
    """

    in_mean: Tensor
    in_std: Tensor
    out_mean: Tensor
    out_std: Tensor
    state: Tensor

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        check_exportable(surrogate)
        grid, operator = surrogate.grid, surrogate.operator
        assert isinstance(grid, Box | Sphere)
        assert isinstance(operator, FNO | LatentFNO)
        self.operator = _Latent(operator, grid) if isinstance(operator, LatentFNO) else _Textbook(operator, grid)
        column = (1, -1, *(1,) * grid.ndim)
        for name in ("in_mean", "in_std", "out_mean", "out_std"):
            self.register_buffer(name, getattr(surrogate, name).detach().clone().view(column))
        shared = [(k, source) for k, source in enumerate(surrogate.base) if source is not None]
        lift = torch.zeros(len(surrogate.outputs), len(surrogate.inputs))
        for k, source in shared:
            lift[k, source] = 1.0
        self.same = bool(shared) and [source for _, source in shared] == list(range(len(surrogate.inputs))) == [k for k, _ in shared]
        self.same = self.same and len(surrogate.outputs) == len(surrogate.inputs)
        self.shared, self.dims = bool(shared), grid.ndim
        self.register_buffer("state", lift)

    def forward(self, a: Tensor) -> Tensor:
        """Outputs ``(batch, outputs, *space)`` for inputs ``(batch, inputs, *space)``."""
        u = self.out_mean + self.out_std * self.operator((a - self.in_mean) / self.in_std)
        if not self.shared:
            return u
        if self.same:
            return a + u
        return u + torch.movedim(nn.functional.linear(torch.movedim(a, 1, -1), self.state), -1, 1)


def check_exportable(surrogate: Surrogate) -> None:
    """Refuse what has no graph, by name.

    Raises
    ------
    UsageError
        For another operator than LatentFNO and FNO, scattered points or uneven axes, imposed conditions, a climate, Legendre functions.
    """
    operator, grid, where = surrogate.operator, surrogate.grid, "export"
    if surrogate.noise:
        hint = "train without noise, or serve this surrogate with anygrid forecast --members"
        raise UsageError(where, "a surrogate without noise", f"{len(surrogate.noise.lengths)} channels of it", hint)
    if surrogate.persistence is not None:
        hint = "train without persistence, or serve this surrogate with anygrid predict"
        raise UsageError(where, "a surrogate of plain persistence", "one around a climate", hint)
    if not isinstance(operator, FNO | LatentFNO):
        hint = "train with --operator latent or --operator fno, or serve this surrogate with anygrid predict"
        raise UsageError(where, "a LatentFNO or an FNO", f"a {type(operator).__name__}", hint)
    if not isinstance(grid, Box | Sphere):
        raise UsageError(where, "a surrogate on a Box or a Sphere", type(grid).__name__, "train on data on a lattice")
    uneven = [axis.name for axis in grid.axes if not axis.uniform]
    if uneven:
        hint = "interpolate the data to an even grid before training"
        raise UsageError(where, "evenly spaced axes", f"uneven nodes along {', '.join(uneven)}", hint)
    if surrogate.imposed:
        what = [name for name in ("walls", "conserved", "radius", "waves") if getattr(surrogate.imposed, name)]
        hint = "train without them, or serve this surrogate with anygrid predict"
        raise UsageError(where, "a surrogate that imposes nothing", f"imposed {', '.join(what)}", hint)
    if isinstance(operator, FNO) and any(basis.family == "legendre" for basis in _bases(operator)):
        hint = "train with families of fourier, cosine or sine"
        raise UsageError(where, "an FNO on Fourier, cosine or sine functions", "Legendre functions", hint)


def _bases(operator: FNO) -> tuple[Basis, ...]:
    first = operator.spectral[0]
    assert isinstance(first, SpectralConv)
    return first.bases


def smallest(surrogate: Surrogate) -> tuple[int, ...]:
    """Fewest points along each axis that an exported graph takes: as many as the modes need, and at least four."""
    least = [4] * surrogate.grid.ndim
    if isinstance(surrogate.operator, FNO):
        for k, basis in enumerate(_bases(surrogate.operator)):
            share = 1 + Fraction(basis.padding).limit_denominator(10**6)
            needed = math.ceil(2 * basis.highest / share) if basis.family == "fourier" else basis.highest + 1
            least[k] = max(4, needed)
    return tuple(least)


def _along(x: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """Contract one dimension of ``x`` with the columns of ``matrix``."""
    return torch.movedim(torch.matmul(torch.movedim(x, dim, -1), matrix.mT), -1, dim)


class _Latent(nn.Module):
    """LatentFNO between symbolic resolutions; what lies between its interpolations has constant matrices."""

    def __init__(self, operator: LatentFNO, grid: Box | Sphere) -> None:
        super().__init__()
        fine, coarse = operator.latent_grids(grid)
        assert isinstance(fine, Box | Sphere)
        self.lines = [Line.of(axis) for axis in fine.axes]
        self.fine, self.reach, self.size, self.stride = fine.shape, operator.reach, operator.size, operator.stride
        self.periodic = operator.periodic
        self.margins = [operator.margins(n, m) for n, m in zip(fine.shape, coarse.shape, strict=True)]
        weight = operator.encode.weight
        like = weight.detach()
        own, places = weight.split([operator.inputs * self.size**grid.ndim, weight.shape[1] - operator.inputs * self.size**grid.ndim], 1)
        start = operator.encode.bias.view(*[1] * (grid.ndim + 1), -1)
        if operator.coordinates:
            position = torch.movedim(coordinate_features(fine, like.dtype, like.device, operator.harmonics), -1, 0)[None]
            cells = cut_cells(extend(position, self.margins, self.periodic), self.size, self.stride)
            start = nn.functional.linear(cells, places, operator.encode.bias)
        self.encode, self.start = nn.Parameter(own.detach(), False), nn.Parameter(start.detach(), False)
        self.blocks, self.pointwise, self.decode, self.bias = operator.blocks, operator.pointwise, operator.decode, operator.bias
        first = operator.blocks[0].spectral
        assert isinstance(first, SpectralConv)
        # Matrix products whatever the size: an FFT has no counterpart in the graph.
        self.plan = _Constant(replace(plan(first.bases, coarse, coarse, like.dtype, like.device), fft=None))
        for k, (n, line) in enumerate(zip(self.fine, self.lines, strict=True)):
            if not line.periodic and n > 3:
                self.register_buffer(f"spline{k}", torch.from_numpy(spline_coefficients(n)).to(like))

    def forward(self, a: Tensor) -> Tensor:
        dtype, d = a.dtype, len(self.lines)
        points = [torch.arange(n, device=a.device) for n in a.shape[2:]]
        own = [torch.arange(n, device=a.device) for n in self.fine]
        x = a
        for k, line in enumerate(self.lines):
            between = cardinal if line.periodic else hat
            x = _along(x, between(line, points[k], own[k], dtype), k + 2)
        z = nn.functional.linear(cut_cells(extend(x, self.margins, self.periodic), self.size, self.stride), self.encode) + self.start
        for block in self.blocks:
            assert isinstance(block, Block)
            z = z + activated_linear(self.plan.spectral(z, block.spectral) + block.pointwise(z), block.mix)
        z = activated_linear(self.pointwise(z), self.decode)
        around = -(-self.reach // self.stride)
        z = extend(z.movedim(-1, 1), [(around, around) if p else (0, 0) for p in self.periodic], self.periodic).movedim(1, -1)
        z = add_cells(z, len(self.bias), self.size, self.stride) + self.bias.view(-1, *[1] * d)
        for k, ((before, _), wraps) in enumerate(zip(self.margins, self.periodic, strict=True)):
            z = z.narrow(k + 2, before + (around * self.stride if wraps else 0), self.fine[k])
        for k, line in enumerate(self.lines):
            if line.periodic:
                z = _along(z, cardinal(line, own[k], points[k], dtype), k + 2)
            elif self.fine[k] > 3:
                z = _along(z, getattr(self, f"spline{k}"), k + 2)
                z = _along(z, spline(line, own[k], points[k], dtype), k + 2)
            else:
                z = _along(z, hat(line, own[k], points[k], dtype), k + 2)
        return z


class _Constant(nn.Module):
    """A plan whose matrices are buffers, so that they follow the module and no tracer asks where they come from."""

    def __init__(self, made: Plan) -> None:
        super().__init__()
        self.made = replace(made, analysis=(), synthesis=())
        for kind in ("analysis", "synthesis"):
            for k, matrix in enumerate(getattr(made, kind)):
                self.register_buffer(f"{kind}{k}", matrix.clone())

    def spectral(self, z: Tensor, layer: SpectralConv) -> Tensor:
        axes = range(len(self.made.bases))
        analysis, synthesis = (tuple(getattr(self, f"{kind}{k}") for k in axes) for kind in ("analysis", "synthesis"))
        made = replace(self.made, analysis=analysis, synthesis=synthesis)
        return synthesise(mix(analyse(z, made), layer.weight, made), made)


class _Textbook(nn.Module):
    """FNO on a symbolic resolution: its matrices are made in the graph."""

    def __init__(self, operator: FNO, grid: Box | Sphere) -> None:
        super().__init__()
        self.lines = [Line.of(axis) for axis in grid.axes]
        self.bases = _bases(operator)
        self.coordinates, self.activations = operator.coordinates, operator.activations
        self.lift, self.spectral, self.pointwise, self.project = operator.lift, operator.spectral, operator.pointwise, operator.project
        weight = operator.lift.weight.detach()
        made: Any = plan(self.bases, grid, grid, weight.dtype, weight.device)
        self.made = replace(made, analysis=(), synthesis=(), fft=None)

    def forward(self, a: Tensor) -> Tensor:
        points = [torch.arange(n, device=a.device) for n in a.shape[2:]]
        x = torch.movedim(a, 1, -1)
        if self.coordinates:
            x = torch.cat([x, *_position(self.lines, points, x)], -1)
        x = self.lift(x)
        analysis = analysis_matrices(self.bases, self.lines, points, a.dtype)
        synthesis = synthesis_matrices(self.bases, self.lines, points, a.dtype)
        for k, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            assert isinstance(spectral, SpectralConv)
            for _ in range(self.activations if k else 0):
                x = nn.functional.gelu(x)
            x = self._layer(x, analysis, synthesis, spectral) + pointwise(x)
        return torch.movedim(self.project(x), -1, 1)

    def _layer(self, x: Tensor, analysis: list[Tensor], synthesis: list[Tensor], layer: SpectralConv) -> Tensor:
        batch, space = x.shape[0], x.shape[1:-1]
        c = x
        for k in reversed(range(len(space))):
            c = torch.matmul(analysis[k], c.reshape(batch * math.prod(space[:k]), analysis[k].shape[1], -1))
        c = mix(c.reshape(batch, *self.made.coefficients, x.shape[-1]), layer.weight, self.made)
        channels = c.shape[-1]
        for k in range(len(space)):
            c = torch.matmul(synthesis[k], c.reshape(batch * math.prod(space[:k]), synthesis[k].shape[1], -1))
        return c.reshape(batch, *space, channels)


def _position(lines: list[Line], points: list[Tensor], x: Tensor) -> list[Tensor]:
    """Features of position, one channel each, as wide as ``x`` (channels-last)."""
    d, out = len(lines), []
    for k, (line, own) in enumerate(zip(lines, points, strict=True)):
        for values in features(line, own, x.dtype):
            out.append(values.view(1, *[-1 if i == k else 1 for i in range(d)], 1).expand(*x.shape[:-1], 1))
    return out
