r"""Fields to coefficients of a few basis functions and back, and the transposes of both.

.. math:: \hat u_k = \sum_j w_j\, \overline{\phi_k(x_j)}\, u(x_j), \qquad v(y) = \operatorname{Re} \sum_k \phi_k(y)\, \hat v_k

Everything is a real matrix product on the grid's own coordinates and quadrature weights, so the same code runs on any
resolution, on uneven axes and on scattered points, and the points :math:`y` need not be the points :math:`x`. Fields are
channels-last ``(batch, *space, channel)``. Coefficients are ``(batch, *modes, channel)`` where all functions are real;
with Fourier axes they are complex and ``(batch, 2, *modes, channel)``, real part first. Of the last Fourier axis only wave numbers
``0..highest`` are kept, of any other ``-(count // 2)..(count - 1) // 2``.

Axes are contracted last to first on analysis and first to last on synthesis: real and imaginary part then lie beside the axis
that is next, as one longer axis, and no product needs its operands rearranged. Where many modes are kept on an even periodic
grid an FFT is cheaper and is used instead (:func:`use_fft`); both paths agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from anygrid.collectives import Rows, sum_over_ranks
from anygrid.errors import GridError
from anygrid.grid import Box, Grid, Points, Sphere
from anygrid.numerics.bases import Basis, analysis_matrix, evaluate, synthesis_matrix
from anygrid.operators.scattered import Scattered
from anygrid.shard import Shard, rows_of, whole_of

__all__ = [
    "Plan",
    "analyse",
    "analyse_transposed",
    "coefficient_shape",
    "from_rows",
    "onto_rows",
    "plan",
    "synthesise",
    "synthesise_transposed",
    "use_fft",
]


@dataclass(frozen=True, eq=False)
class FFT:
    """Factors of the kept part of a discrete Fourier transform, ``(*modes, 1)``: see :func:`_multiplicity` and :func:`_shares`."""

    multiplicity: Tensor
    shares: Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """Matrices ``(out, in)`` that take a field on one grid to coefficients and coefficients to a field on another.

    ``analysis`` and ``synthesis`` hold one matrix for each axis of a tensor-product grid, or a single one for points; for many points
    there is none, but ``points_in`` and ``points_out``.
    """

    bases: tuple[Basis, ...]
    analysis: tuple[Tensor, ...]
    synthesis: tuple[Tensor, ...]
    coefficients: tuple[int, ...]  # shape between batch and channels
    space: tuple[int, ...]
    query: tuple[int, ...]
    fft: FFT | None  # when that is the faster path
    points_in: Scattered | None = None
    points_out: Scattered | None = None
    rows: Rows | None = None  # when the field is spread over ranks, which then add up their coefficients

    @property
    def complex(self) -> bool:
        """Whether coefficients are pairs."""
        return len(self.coefficients) > len(self.bases)


def half_axis(bases: Sequence[Basis]) -> int | None:
    """The last Fourier axis, of which only wave numbers >= 0 are kept; ``None`` when every basis is real."""
    axes = [k for k, basis in enumerate(bases) if basis.family == "fourier"]
    return axes[-1] if axes else None


def coefficient_shape(bases: Sequence[Basis]) -> tuple[int, ...]:
    """Shape of the coefficients between batch and channels: ``([2,] *modes)``."""
    half = half_axis(bases)
    modes = tuple(basis.highest + 1 if k == half else basis.count for k, basis in enumerate(bases))
    return modes if half is None else (2, *modes)


def _smooth(n: int) -> bool:
    for p in (2, 3, 5, 7):
        while n % p == 0:
            n //= p
    return n == 1


def use_fft(bases: Sequence[Basis], grid: Grid, query: Grid) -> bool:
    """Whether the FFT is the faster path: same even periodic grid, FFT-friendly sizes, wave numbers above 64.

    In ``benchmarks/speed/layer.json`` products win by 1.03 with all modes of 128 x 128 and by 1.15 at 129 of 256; the FFT wins by 2.2 at
    513 of 1024.
    """
    if not isinstance(grid, Box) or grid != query:
        return False
    plain = all(axis.periodic and axis.placement == "vertices" for axis in grid.axes)
    return (
        plain
        and all(basis.family == "fourier" and basis.padding == 0 for basis in bases)
        and all(_smooth(n) for n in grid.shape)
        and max(basis.highest for basis in bases) > 64
    )


_AT_ONCE = 1 << 14  # points whose functions are evaluated at once in float64
_HELD = 1 << 25  # bytes of a matrix of points that are held; with larger ones it is made again in parts, at 1.0 to 1.7 times the time

Matrix = NDArray[np.float64]
Complex = NDArray[np.complex128]


def _modes(table: Matrix, basis: Basis, half: bool) -> Complex:
    """Rows of real functions -> rows of the functions whose coefficients are kept: ``exp(i k x)`` on Fourier axes."""
    if basis.family != "fourier":
        return table.astype(np.complex128)
    cosine, sine = table[: basis.highest + 1], np.concatenate([np.zeros_like(table[:1]), table[basis.highest + 1 :]])
    wave = _waves(basis, half)
    return cosine[abs(wave)] + 1j * np.sign(wave)[:, None] * sine[abs(wave)]


def _waves(basis: Basis, half: bool) -> NDArray[np.int64]:
    first, end = (0, basis.highest + 1) if half else (-(basis.count // 2), (basis.count - 1) // 2 + 1)
    return np.arange(first, end, dtype=np.int64)


def _shares(basis: Basis, half: bool, nyquist: bool) -> Matrix:
    """At Nyquist ``exp(ikx)`` and ``exp(-ikx)`` are one function: where both are kept (odd count), half each."""
    both = nyquist and not half and basis.count % 2 == 1
    return np.where(abs(_waves(basis, half)) == basis.highest, 0.5, 1.0) if both else np.ones(1)


def _multiplicity(basis: Basis, nyquist: bool) -> Matrix:
    """How often a kept wave number of the half axis occurs in a real field: itself and its conjugate, once at 0 and Nyquist."""
    times = np.full(basis.highest + 1, 2.0)
    times[0] = 1.0
    if nyquist:
        times[-1] = 1.0
    return times


def _pair(matrix: Complex, order: tuple[int, int, int, int]) -> Matrix:
    """A complex matrix as a real one on (real, imaginary) pairs; ``order`` places (part out, part in, out, in)."""
    block = np.array([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])
    out, inside = 2 * matrix.shape[0], 2 * matrix.shape[1]
    return block.transpose(order).reshape(out, inside)


def _analysis(bases: Sequence[Basis], grid: Box | Sphere, nyquist: Sequence[bool]) -> list[Matrix]:
    half, matrices = half_axis(bases), []
    for k, (basis, axis) in enumerate(zip(bases, grid.axes, strict=True)):
        rows = _modes(analysis_matrix(basis, axis), basis, k == half).conj()
        if basis.family == "fourier":
            rows *= _shares(basis, k == half, nyquist[k])[:, None]
        if half is None or k > half:
            matrices.append(rows.real)
        elif k == half:  # the field is real, its coefficients are pairs
            matrices.append(np.concatenate([rows.real, rows.imag]))
        else:
            matrices.append(_pair(rows, (0, 2, 3, 1)))
    return matrices


def _synthesis(bases: Sequence[Basis], grid: Grid, query: Box | Sphere, nyquist: Sequence[bool]) -> list[Matrix]:
    half, matrices = half_axis(bases), []
    # The functions are those of the input's domain; the query only says where to evaluate them.
    for k, (basis, interval, axis) in enumerate(zip(bases, grid.domain, query.axes, strict=True)):
        table = synthesis_matrix(basis, interval, axis.coordinates(), axis if axis.interval == interval else None)
        columns = _modes(table.T, basis, k == half).T
        if half is None or k > half:
            matrices.append(columns.real)
        elif k == half:
            columns = columns * _multiplicity(basis, nyquist[k])
            matrices.append(np.concatenate([columns.real, -columns.imag], axis=1))
        else:
            matrices.append(_pair(columns, (2, 0, 1, 3)))
    return matrices


@lru_cache(maxsize=4)
def _at_points(bases: tuple[Basis, ...], domain: Grid, points: Points, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Conjugates of the functions of each axis at scattered points: ``(1 or 2 parts, modes, points)``."""
    half, x, tables = half_axis(bases), points.coordinates, []
    with torch.inference_mode(False):
        for k, (basis, interval) in enumerate(zip(bases, domain.domain, strict=True)):
            parts, modes = (1, basis.count) if basis.family != "fourier" else (2, len(_waves(basis, k == half)))
            table = torch.empty(parts, modes, len(x), dtype=dtype)
            for start in range(0, len(x), _AT_ONCE):
                rows = _modes(evaluate(basis, interval, x[start : start + _AT_ONCE, k]).T, basis, k == half).conj()
                table[..., start : start + _AT_ONCE] = torch.from_numpy(np.stack([rows.real, rows.imag][:parts]))
            tables.append(table.to(device))
    return tuple(tables)


def _points(
    bases: tuple[Basis, ...], grid: Grid, points: Points, nyquist: Sequence[bool] | None, dtype: torch.dtype, device: torch.device
) -> tuple[list[Matrix], Scattered | None]:
    """Synthesis at ``points``, or (without ``nyquist``) the transpose of analysis from them: a matrix, or a large one in parts."""
    half, shape = half_axis(bases), coefficient_shape(bases)
    large = len(points.coordinates) * math.prod(shape) * dtype.itemsize > _HELD
    kind = (dtype, device) if large else (torch.float64, torch.device("cpu"))
    rows = columns = None
    with torch.inference_mode(False):
        if nyquist is None:
            volume = math.prod(interval.length * (1 + basis.padding) for basis, interval in zip(bases, grid.domain, strict=True))
            rows = (points.weights() / volume)[:, None].to(kind[1], kind[0])
        elif half is not None:
            times = _multiplicity(bases[half], nyquist[half]).reshape([-1 if k == half else 1 for k in range(len(bases))])
            columns = torch.from_numpy(np.broadcast_to(times, shape[1:]).copy())[..., None].to(kind[1], kind[0])
        matrix = Scattered(partial(_at_points, bases, grid, points, *kind), rows, columns, shape)
        return ([], matrix) if large else ([matrix.whole().numpy()], None)


def _fft(bases: Sequence[Basis], nyquist: Sequence[bool]) -> tuple[Matrix, Matrix]:
    shares = np.ones(())
    for k, basis in enumerate(bases[:-1]):
        shares = shares[..., None] * np.broadcast_to(_shares(basis, False, nyquist[k]), basis.count)
    return _multiplicity(bases[-1], nyquist[-1])[:, None], shares[..., None, None]


@lru_cache(maxsize=64)
def plan(bases: tuple[Basis, ...], grid: Grid, query: Grid, dtype: torch.dtype, device: torch.device) -> Plan:
    """Matrices for ``grid -> coefficients -> query``, made once for each pair of grids in float64 and then rounded.

    Raises
    ------
    GridError
        When the grids have other coordinates than the bases, or too few points for the modes.
    """
    if isinstance(grid, Shard) or isinstance(query, Shard):
        found = plan(bases, whole_of(grid), whole_of(query), dtype, device)
        found = from_rows(found, grid.rows.start, grid.rows.stop) if isinstance(grid, Shard) else found
        found = onto_rows(found, query.rows.start, query.rows.stop) if isinstance(query, Shard) else found
        return replace(found, rows=rows_of(grid))
    if not len(bases) == grid.ndim == query.ndim:
        raise GridError("spectral layer", f"grids with {len(bases)} coordinates", f"{grid.ndim} and {query.ndim}")
    if isinstance(grid, Points):
        nyquist = (False,) * len(bases)
        matrices, points_in = _points(bases, grid, grid, None, dtype, device)
        analysis = [m.T for m in matrices]
    else:
        assert isinstance(grid, Box | Sphere)
        nyquist = tuple(b.family == "fourier" and b.padding == 0 and 2 * b.highest == a.size for b, a in zip(bases, grid.axes, strict=True))
        analysis, points_in = _analysis(bases, grid, nyquist), None
    if isinstance(query, Points):
        synthesis, points_out = _points(bases, grid, query, nyquist, dtype, device)
    else:
        assert isinstance(query, Box | Sphere)
        synthesis, points_out = _synthesis(bases, grid, query, nyquist), None

    # Tensors created under inference_mode could never again take part in training.
    with torch.inference_mode(False):

        def ready(matrices: Sequence[Matrix]) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(np.ascontiguousarray(m)).to(device, dtype) for m in matrices)

        fft = FFT(*ready(_fft(bases, nyquist))) if use_fft(bases, grid, query) else None
        shape = coefficient_shape(bases)
        return Plan(bases, ready(analysis), ready(synthesis), shape, grid.shape, query.shape, fft, points_in, points_out)


def from_rows(plan: Plan, start: int, stop: int) -> Plan:
    """A plan for fields of which rows ``start`` to ``stop`` of the first axis are given: what they add to the coefficients."""
    pairs = plan.analysis[0].shape[1] // plan.space[0]  # real and imaginary part of a point lie side by side
    first = plan.analysis[0][:, pairs * start : pairs * stop]
    return replace(plan, analysis=(first, *plan.analysis[1:]), space=(stop - start, *plan.space[1:]), fft=None)


def onto_rows(plan: Plan, start: int, stop: int) -> Plan:
    """A plan that evaluates rows ``start`` to ``stop`` of the query's first axis."""
    pairs = plan.synthesis[0].shape[0] // plan.query[0]
    first = plan.synthesis[0][pairs * start : pairs * stop]
    return replace(plan, synthesis=(first, *plan.synthesis[1:]), query=(stop - start, *plan.query[1:]), fft=None)


def analyse(x: Float[Tensor, "batch *space channel"], plan: Plan) -> Float[Tensor, "batch *coefficients channel"]:
    """Coefficients of the tensor-product basis."""
    if plan.points_in:
        return plan.points_in.integrate(x)
    if plan.fft:
        return _fft_kept(x, plan, "forward") * plan.fft.shares
    own = _last_to_first(plan.analysis, x).reshape(x.shape[0], *plan.coefficients, x.shape[-1])
    return sum_over_ranks(own, plan.rows)


def synthesise(
    c: Float[Tensor, "batch *coefficients channel"], plan: Plan, onto: Float[Tensor, "batch *query channel"] | None = None
) -> Float[Tensor, "batch *query channel"]:
    """Values of the sum of basis functions at the query points; added in place to ``onto`` where that is given."""
    if plan.points_out:
        return plan.points_out.sum_up(c, onto)
    if plan.fft:
        u = _fft_synthesise(c, plan)
        return u if onto is None else onto.add_(u)
    return _first_to_last(plan.synthesis, c, plan.query, onto)


def analyse_transposed(
    g: Float[Tensor, "batch *coefficients channel"], plan: Plan, onto: Float[Tensor, "batch *space channel"]
) -> Float[Tensor, "batch *space channel"]:
    """Transpose of :func:`analyse`, added in place to ``onto``."""
    if plan.points_in:
        return plan.points_in.sum_up(g, onto)
    if plan.fft:
        # The inverse FFT counts every wave number but 0 and Nyquist twice, once for its conjugate.
        scale = plan.fft.shares / plan.fft.multiplicity / math.prod(plan.space)
        return onto.add_(_fft_synthesise(g * scale, plan))
    return _first_to_last(tuple(m.T for m in plan.analysis), sum_over_ranks(g, plan.rows), plan.space, onto)


def synthesise_transposed(g: Float[Tensor, "batch *query channel"], plan: Plan) -> Float[Tensor, "batch *coefficients channel"]:
    """Transpose of :func:`synthesise`."""
    if plan.points_out:
        return plan.points_out.integrate(g)
    if plan.fft:
        return _fft_kept(g, plan, "backward") * plan.fft.multiplicity
    return _last_to_first(tuple(m.T for m in plan.synthesis), g).reshape(g.shape[0], *plan.coefficients, g.shape[-1])


def _last_to_first(matrices: tuple[Tensor, ...], x: Tensor) -> Tensor:
    """Contract the space dimensions of ``(batch, *space, channel)`` with one matrix each."""
    space = x.shape[: len(matrices)]
    for k in reversed(range(len(matrices))):
        x = torch.matmul(matrices[k], x.reshape(math.prod(space[: k + 1]), matrices[k].shape[1], -1))
    return x


def _first_to_last(matrices: tuple[Tensor, ...], c: Tensor, space: tuple[int, ...], onto: Tensor | None) -> Tensor:
    """The way back, to ``(batch, *space, channel)``; the last product is added to ``onto``."""
    batch, channels = c.shape[0], c.shape[-1]
    for k, matrix in enumerate(matrices):
        before = math.prod([batch, *space[:k]])
        c = c.reshape(before, matrix.shape[1], -1)
        if onto is not None and k == len(matrices) - 1:
            onto.view(before, matrix.shape[0], channels).baddbmm_(matrix.expand(before, -1, -1), c)
            return onto
        c = torch.matmul(matrix, c)
    return c.reshape(batch, *space, channels)


def _fft_kept(x: Tensor, plan: Plan, norm: str) -> Tensor:
    """FFT of a real field: real and imaginary part of the kept wave numbers."""
    z = torch.fft.rfftn(x, dim=tuple(range(1, x.dim() - 1)), norm=norm)
    for k, basis in enumerate(plan.bases[:-1]):
        z = z.index_select(k + 1, _places(basis, x.shape[k + 1], z.device))
    return torch.view_as_real(z.narrow(len(plan.bases), 0, plan.bases[-1].highest + 1)).movedim(-1, 1)


def _places(basis: Basis, n: int, device: torch.device) -> Tensor:
    """Where the kept wave numbers of an axis lie in its FFT."""
    return torch.arange(-(basis.count // 2), (basis.count - 1) // 2 + 1, device=device) % n


def _fft_synthesise(c: Tensor, plan: Plan) -> Tensor:
    z, last = torch.complex(c[:, 0], c[:, 1]), len(plan.bases)
    for k, (basis, n) in enumerate(zip(plan.bases[:-1], plan.space, strict=False)):
        full = z.new_zeros([*z.shape[: k + 1], n, *z.shape[k + 2 :]])
        z = full.index_add(k + 1, _places(basis, n, z.device), z)
    z = nn.functional.pad(z, [0, 0, 0, plan.space[-1] // 2 + 1 - z.shape[last]])
    return torch.fft.irfftn(z, s=plan.space, dim=tuple(range(1, last + 1)), norm="forward")
