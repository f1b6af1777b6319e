r"""The spectral layer: integrate against a few basis functions, mix the coefficients, sum them up anywhere.

.. math:: v(y) = \sum_k \phi_k(y)\, \big( R_k\, \hat u_k \big), \qquad \hat u_k = \sum_j w_j\, \phi_k(x_j)\, u(x_j)

Everything is a real matrix product on the grid's own coordinates and quadrature weights, so the same layer runs on any
resolution, on uneven axes and on scattered points, and the points :math:`y` need not be the points :math:`x`. Fields are
channels-last ``(batch, *space, channel)`` in this file. Where many modes are kept on an even periodic grid an FFT is cheaper
and is used instead (:func:`use_fft`); both paths agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import GridError, UsageError
from anygrid.grid import Box, Grid, Points, Sphere
from anygrid.numerics.bases import Basis, analysis_matrix, evaluate, synthesis_matrix

__all__ = ["Plan", "SpectralConv", "plan", "use_fft"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Matrices that take a field on one grid to coefficients and coefficients to a field on another.

    ``analysis`` and ``synthesis`` hold one matrix for each axis of a tensor-product grid, or a single one for points.
    ``nyquist`` marks Fourier axes whose highest kept wave number is the Nyquist frequency of the input grid.
    """

    bases: tuple[Basis, ...]
    analysis: tuple[Tensor, ...]
    synthesis: tuple[Tensor, ...]
    nyquist: tuple[bool, ...]
    fft: tuple[int, ...] | None  # the grid's shape when the FFT path is the faster one

    @property
    def half(self) -> int | None:
        """Index of the last Fourier axis, of which only wave numbers >= 0 are kept; ``None`` when every basis is real."""
        axes = [k for k, basis in enumerate(self.bases) if basis.family == "fourier"]
        return axes[-1] if axes else None


def _smooth(n: int) -> bool:
    for p in (2, 3, 5, 7):
        while n % p == 0:
            n //= p
    return n == 1


def use_fft(bases: Sequence[Basis], grid: Grid, query: Grid) -> bool:
    """Whether the FFT is the faster path: same even periodic grid, FFT-friendly sizes, wave numbers above 48.

    In ``benchmarks/speed/layer.json`` products win at every size up to there, by 1.13 at 97 of 128 modes; above is not measured.
    """
    if not isinstance(grid, Box) or grid != query:
        return False
    plain = all(axis.periodic and axis.placement == "vertices" for axis in grid.axes)
    return (
        plain
        and all(basis.family == "fourier" and basis.padding == 0 for basis in bases)
        and all(_smooth(n) for n in grid.shape)
        and max(basis.highest for basis in bases) > 48
    )


def _domain_matrix(bases: tuple[Basis, ...], grid: Points, weights: bool) -> Tensor:
    """Products of the per-axis functions at scattered points: ``(points, all functions)``."""
    x = grid.points().numpy()
    table = torch.ones(len(x), 1, dtype=torch.float64)
    for k, (basis, interval) in enumerate(zip(bases, grid.domain, strict=True)):
        values = torch.from_numpy(evaluate(basis, interval, x[:, k]))
        table = (table[:, :, None] * values[:, None, :]).flatten(1)
    if weights:
        volume = math.prod(interval.length * (1 + basis.padding) for basis, interval in zip(bases, grid.domain, strict=True))
        table = table * (grid.weights() / volume)[:, None]
    return table


@lru_cache(maxsize=64)
def plan(bases: tuple[Basis, ...], grid: Grid, query: Grid, dtype: torch.dtype, device: torch.device) -> Plan:
    """Matrices for ``grid -> coefficients -> query``, made once for each pair of grids in float64 and then rounded.

    Raises
    ------
    GridError
        When the grids have other coordinates than the bases, or too few points for the modes.
    """
    if not len(bases) == grid.ndim == query.ndim:
        raise GridError("spectral layer", f"grids with {len(bases)} coordinates", f"{grid.ndim} and {query.ndim}")
    # Tensors created under inference_mode could never again take part in training.
    with torch.inference_mode(False):
        if isinstance(grid, Points):
            analysis = [_domain_matrix(bases, grid, weights=True).T]
            nyquist = [False] * len(bases)
        else:
            assert isinstance(grid, Box | Sphere)
            analysis = [torch.from_numpy(analysis_matrix(basis, axis)) for basis, axis in zip(bases, grid.axes, strict=True)]
            nyquist = [
                b.family == "fourier" and b.padding == 0 and 2 * b.highest == axis.size for b, axis in zip(bases, grid.axes, strict=True)
            ]
        if isinstance(query, Points):
            synthesis = [_domain_matrix(bases, query, weights=False)]
        else:
            assert isinstance(query, Box | Sphere)
            # The functions are those of the input's domain; the query only says where to evaluate them.
            synthesis = [
                torch.from_numpy(synthesis_matrix(basis, interval, axis.coordinates(), axis if axis.interval == interval else None))
                for basis, interval, axis in zip(bases, grid.domain, query.axes, strict=True)
            ]
        ready = [tuple(m.to(device, dtype).contiguous() for m in matrices) for matrices in (analysis, synthesis)]
    return Plan(bases, ready[0], ready[1], tuple(nyquist), grid.shape if use_fft(bases, grid, query) else None)


def _apply(matrices: tuple[Tensor, ...], x: Tensor) -> Tensor:
    """Contract each space dimension of ``(batch, *space, channel)`` with its matrix ``(out, in)``, last axis first."""
    batch, space, channels = x.shape[0], list(x.shape[1:-1]), x.shape[-1]
    for k in reversed(range(len(matrices))):
        before, after = math.prod([batch, *space[:k]]), math.prod([*space[k + 1 :], channels])
        x = torch.matmul(matrices[k], x.reshape(before, space[k], after))
        space[k] = matrices[k].shape[0]
    return x.reshape(batch, *space, channels)


def analyse(x: Float[Tensor, "batch *space channel"], plan: Plan) -> Float[Tensor, "batch *functions channel"]:
    """Real coefficients of the tensor-product basis."""
    if len(plan.analysis) == len(plan.bases):
        return _apply(plan.analysis, x)
    return _apply(plan.analysis, x).reshape(x.shape[0], *[b.functions for b in plan.bases], x.shape[-1])


def synthesise(c: Float[Tensor, "batch *functions channel"], plan: Plan) -> Float[Tensor, "batch *query channel"]:
    """Values of the sum of basis functions at the query points."""
    if len(plan.synthesis) == len(plan.bases):
        return _apply(plan.synthesis, c)
    return _apply(plan.synthesis, c.reshape(c.shape[0], -1, c.shape[-1]))


def to_complex(c: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Real coefficients -> real and imaginary part of the coefficients of ``exp(i k x)``.

    The last Fourier axis keeps wave numbers ``0..highest``, every other one ``-(count // 2)..(count - 1) // 2``.
    """
    half = plan.half
    assert half is not None
    m = plan.bases[half].highest
    re, sine = c.split([m + 1, m], dim=half + 1)
    im = torch.cat([torch.zeros_like(re.narrow(half + 1, 0, 1)), -sine], dim=half + 1)
    for axis, basis in enumerate(plan.bases[:half]):
        if basis.family != "fourier":
            continue
        dim, m = axis + 1, basis.highest
        rc, rs = re.split([m + 1, m], dim=dim)
        ic, is_ = im.split([m + 1, m], dim=dim)
        r0, rk = rc.split([1, m], dim=dim)
        i0, ik = ic.split([1, m], dim=dim)
        # At Nyquist exp(ikx) and exp(-ikx) are one function: where both are kept (odd count), half each.
        share = 0.5 if plan.nyquist[axis] and basis.count % 2 else 1.0
        if share != 1.0:
            scale = torch.ones(m, dtype=c.dtype, device=c.device)
            scale[-1] = share
            scale = scale.reshape([-1] + [1] * (c.dim() - dim - 1))
            rk, rs, ik, is_ = rk * scale, rs * scale, ik * scale, is_ * scale
        above = slice(0, (basis.count - 1) // 2)
        re = torch.cat([(rk - is_).flip(dim), r0, (rk + is_).index_select(dim, _range(above, c))], dim=dim)
        im = torch.cat([(ik + rs).flip(dim), i0, (ik - rs).index_select(dim, _range(above, c))], dim=dim)
    return re, im


def _range(part: slice, like: Tensor) -> Tensor:
    return torch.arange(part.start, part.stop, device=like.device)


def from_complex(re: Tensor, im: Tensor, plan: Plan) -> Tensor:
    """Coefficients of ``exp(i k x)`` -> real coefficients of the real field they stand for (inverse of :func:`to_complex`)."""
    half = plan.half
    assert half is not None
    for axis, basis in enumerate(plan.bases[:half]):
        if basis.family != "fourier":
            continue
        dim, m, above = axis + 1, basis.highest, (basis.count - 1) // 2
        rn, r0, rp = re.split([m, 1, above], dim=dim)
        in_, i0, ip = im.split([m, 1, above], dim=dim)
        rn, in_ = rn.flip(dim), in_.flip(dim)
        if above < m:
            pad = [0, 0] * (re.dim() - dim - 1) + [0, m - above]
            rp, ip = nn.functional.pad(rp, pad), nn.functional.pad(ip, pad)
        re = torch.cat([r0, rp + rn, in_ - ip], dim=dim)
        im = torch.cat([i0, ip + in_, rp - rn], dim=dim)
    dim, m = half + 1, plan.bases[half].highest
    weight = torch.full((m + 1,), 2.0, dtype=re.dtype, device=re.device)
    weight[0] = 1.0
    if plan.nyquist[half]:
        weight[m] = 1.0
    weight = weight.reshape([-1] + [1] * (re.dim() - dim - 1))
    return torch.cat([re * weight, (-im * weight).narrow(dim, 1, m)], dim=dim)


def _fft_forward(x: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    dims = tuple(range(1, x.dim() - 1))
    z = torch.fft.rfftn(x, dim=dims, norm="forward")
    for axis, basis in enumerate(plan.bases):
        n = x.shape[axis + 1]
        if axis == len(plan.bases) - 1:
            z = z.narrow(axis + 1, 0, basis.highest + 1)
        else:
            wave = torch.arange(-(basis.count // 2), (basis.count - 1) // 2 + 1, device=x.device)
            z = z.index_select(axis + 1, wave % n)
            if plan.nyquist[axis] and basis.count % 2:
                scale = torch.where(wave.abs() * 2 == n, 0.5, 1.0).to(x.dtype)
                z = z * scale.reshape([-1] + [1] * (z.dim() - axis - 2))
    return z.real, z.imag


def _fft_inverse(re: Tensor, im: Tensor, plan: Plan) -> Tensor:
    assert plan.fft is not None
    z = torch.complex(re, im)
    for axis, (basis, n) in enumerate(zip(plan.bases, plan.fft, strict=True)):
        dim = axis + 1
        if axis == len(plan.bases) - 1:
            pad = [0, 0] * (z.dim() - dim - 1) + [0, n // 2 + 1 - z.shape[dim]]
            z = nn.functional.pad(z, pad)
        else:
            wave = torch.arange(-(basis.count // 2), (basis.count - 1) // 2 + 1, device=z.device)
            full = z.new_zeros([*z.shape[:dim], n, *z.shape[dim + 1 :]])
            z = full.index_add(dim, wave % n, z)
    return torch.fft.irfftn(z, s=plan.fft, dim=tuple(range(1, z.dim() - 1)), norm="forward")


class SpectralConv(nn.Module):
    """Mode-by-mode linear map of the coefficients: complex weights on Fourier axes, real ones otherwise, stored real.

    Parameters
    ----------
    inputs, outputs
        Channels.
    bases
        One basis for each coordinate of the grid.
    """

    def __init__(self, inputs: int, outputs: int, bases: Sequence[Basis]) -> None:
        super().__init__()
        if inputs < 1 or outputs < 1 or not 1 <= len(bases) <= 4:
            raise UsageError("SpectralConv", "at least one channel and one to four axes", f"{inputs} -> {outputs}, {len(bases)} axes")
        self.bases = tuple(bases)
        fourier = [k for k, basis in enumerate(self.bases) if basis.family == "fourier"]
        self.complex = bool(fourier)
        modes = [basis.highest + 1 if fourier and k == fourier[-1] else basis.count for k, basis in enumerate(self.bases)]
        # As in the published FNO: uniform on [0, 1) / (inputs * outputs), which keeps the layer small beside its pointwise path.
        shape = (2, *modes, inputs, outputs) if self.complex else (*modes, inputs, outputs)
        self.weight = nn.Parameter(torch.rand(shape) / (inputs * outputs))

    def forward(
        self, x: Float[Tensor, "batch *space inputs"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch *query outputs"]:
        """Apply the layer to a channels-last field on ``grid``; evaluate the result on ``query`` (default: ``grid``)."""
        p = plan(self.bases, grid, grid if query is None else query, x.dtype, x.device)
        if not self.complex:
            return synthesise(_mix(analyse(x, p), self.weight), p)
        re, im = _fft_forward(x, p) if p.fft else to_complex(analyse(x, p), p)
        # Both parts through each real matrix at once: no block matrix to build, and products twice as tall.
        parts, batch = torch.cat([re, im]), x.shape[0]
        real, imag = _mix(parts, self.weight[0]), _mix(parts, self.weight[1])
        re, im = real[:batch] - imag[batch:], real[batch:] + imag[:batch]
        return _fft_inverse(re, im, p) if p.fft else synthesise(from_complex(re, im, p), p)


def _mix(c: Tensor, weight: Tensor) -> Tensor:
    """One matrix for each mode: ``(batch, *modes, inputs)`` and ``(*modes, inputs, outputs)`` to ``(batch, *modes, outputs)``."""
    batch, modes = c.shape[0], c.shape[1:-1]
    mixed = torch.bmm(c.flatten(1, -2).transpose(0, 1), weight.flatten(0, -3))
    return mixed.transpose(0, 1).reshape(batch, *modes, weight.shape[-1])
