r"""What a surrogate imposes on its outputs exactly, whatever its operator says and on every grid.

*Values on sides.* With the values prescribed on sides of bounded axes continued into the domain as :math:`\ell(x)`,

.. math::

    u = \ell + d\,(\hat u - \ell), \qquad\text{or for an evolution by increments}\qquad u = \bar a + d\,\hat\delta,

where :math:`\hat u, \hat\delta` are what the operator says, :math:`\bar a` is the input with the prescribed values put on the sides, and

.. math:: d(x) = \prod_i \tanh\frac{s_i}{\delta}, \qquad \delta = 0.05,

with the distance :math:`s_i` from the prescribed side :math:`i` in units of the axis. It is 0 on those sides only, grows like the distance
from them, and is 1 away from them: a solution with any slope at the wall asks the operator for a smooth function near it, and for
itself elsewhere. On Darcy (500 samples at 85 x 85, 300 steps, two seeds) it took the held-out error from 0.0303 and 0.0308 to 0.0289
and 0.0307, after 1000 steps (one seed) from 0.0187 to 0.0184. The classic :math:`4 s (1 - s)` took it to 0.0352 and 0.0346: it asks
for :math:`u / d` in the whole domain, which jumps at the wall where the permeability does.

The lift :math:`\ell = \sum_i v_i s_i^{-1} / \sum_i s_i^{-1}` [1]_ is linear between two sides and constant where all values are equal.
In a corner where sides of different values meet it is their mean.

*Conserved means.*

.. math:: u \leftarrow u + d\,\frac{\langle a \rangle - \langle u \rangle}{\langle d \rangle}

with means by the quadrature of the input's grid: the value of the output at a point does not depend on which other points are asked for
(on another grid the operator is therefore asked twice). There the mean is the input's to rounding where both grids resolve the output
(even points of periodic axes), and to the error of the two quadratures otherwise.

*Dissipation* [2]_. With :math:`\rho` = the norm of the state's deviation from its centre, each channel over its standard deviation
in training, root mean square over domain and channels, over :math:`R`,

.. math::

    u \leftarrow w(\rho)\, u + (1 - w(\rho))\,\big(\ell_0 + \kappa (a - \ell_0)\big), \qquad
    w = 1 \;(\rho \le 1), \quad w = 0 \;(\rho \ge 2)

with a quintic in between (two continuous derivatives). The centre :math:`\ell_0` is the lift where values are prescribed, the state's own
mean where that is conserved, else the mean of training. Beyond :math:`\rho = 2` the operator is asked for the state drawn in to there,
and not heard. So no roll-out leaves the larger of its start and what the operator makes of :math:`\rho \le 2`, whatever its weights.

*Highest wave.* Outputs have no Fourier modes above a mode number along periodic axes. An operator hears little of waves beyond its latent
grid: an evolution by increments carries them on as they are, so that what each step leaves there piles up, where a flow would damp it.
The ball does not see that, for its norm is one of large scales. On a sphere the highest wave is a degree of the spherical harmonics,

.. math:: u \leftarrow \bar a + \sum_{l \le L} \sum_m Y_l^m \, (u - \bar a)_l^m,

and what a step adds to the input of the same name is cut, not the state: coasts and mountains in it stay, and cannot pile up.

References
----------
.. [1] Sukumar and Srivastava, "Exact imposition of boundary conditions with distance functions in physics-informed deep neural
   networks", 2022 (transfinite interpolation by inverse distances, after Rvachev).
.. [2] Li, Liu-Schiaffini, Kovachki et al., "Learning dissipative dynamics in chaotic systems", NeurIPS 2022 (there with a sigmoid for w).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.collectives import max_over_ranks, sum_over_ranks
from anygrid.errors import DataError, GridError, UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.grid import Box, Grid, Points, Sphere
from anygrid.numerics.interpolation import interpolate
from anygrid.numerics.legendre import latitude_family
from anygrid.numerics.pseudospectral import low_waves
from anygrid.numerics.spherical_harmonics import analyse, exact_degree, synthesise
from anygrid.problems.base import Problem, Wall
from anygrid.shard import Shard, rows_of

if TYPE_CHECKING:
    from anygrid.surrogate.model import Surrogate

__all__ = ["Imposed", "Wall", "centre_of", "check_imposed", "impose", "imposed_by", "norm", "wall_functions"]

_REACH = 0.05  # of the axis: how far the value on a side is felt
_ON_SIDE = 1e-6  # of the axis: a point nearer than this to its end lies on the side (float32 coordinates)


@dataclass(frozen=True)
class Imposed:
    """What the outputs of a surrogate satisfy exactly; the default imposes nothing and changes nothing.

    Attributes
    ----------
    walls
        Values of outputs on sides of bounded axes, at most one for each output and side.
    conserved
        Outputs whose mean over the domain is that of the input of the same name.
    radius
        Size of the ball, in standard deviations of the training data, beyond which an evolution contracts; ``None`` for no ball.
        Training states have a root mean square of 1 in these units.
    contraction
        Factor of each step far outside the ball, from 0 to below 1.
    waves
        Largest mode number along each periodic axis that outputs have; ``None`` for all. Grids that resolve fewer are not touched. On a
        sphere the highest degree of what outputs add to inputs of the same name, and of other outputs.

    Raises
    ------
    UsageError
        For values that are not finite, a side twice, a radius or waves of 0, a contraction of 1 or more.
    """

    walls: tuple[Wall, ...] = ()
    conserved: tuple[str, ...] = ()
    radius: float | None = None
    contraction: float = 0.5
    waves: int | None = None

    def __post_init__(self) -> None:
        places = [(wall.output, wall.axis, wall.side) for wall in self.walls]
        for wall, place in zip(self.walls, places, strict=True):
            if wall.side not in ("lower", "upper") or not math.isfinite(wall.value):
                raise UsageError("Imposed walls", "finite values on lower or upper sides", f"{wall.value} on {wall.side!r}")
            if places.count(place) > 1:
                where = f"{wall.side} side of {wall.axis}"
                raise UsageError("Imposed walls", f"one value for {wall.output!r} on the {where}", "two", "remove one of them")
        if len(set(self.conserved)) < len(self.conserved):
            raise UsageError("Imposed conserved", "every output once", repr(self.conserved), "remove the repetition")
        if self.radius is not None and not (math.isfinite(self.radius) and self.radius > 0):
            raise UsageError("Imposed radius", "a finite number above 0, or None", str(self.radius), "3 is three standard deviations")
        if not 0 <= self.contraction < 1:
            raise UsageError("Imposed contraction", "a factor from 0 to below 1", str(self.contraction), "0.5 halves the state")
        if self.waves is not None and not self.waves > 0:
            raise UsageError("Imposed waves", "a mode number above 0, or None", str(self.waves), "12 keeps twelve waves along an axis")

    def __bool__(self) -> bool:
        return self != Imposed(contraction=self.contraction)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists; :meth:`from_json` gives back the same."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Imposed:
        """Inverse of :meth:`to_json`, also after a trip through JSON text.

        Raises
        ------
        DataError
            For a dictionary of another form, or values that cannot be imposed.
        """
        try:
            if set(stored) - {"waves"} != {"walls", "conserved", "radius", "contraction"}:  # waves: absent in older files
                raise KeyError(", ".join(map(str, stored)))
            walls = tuple(_wall(entry) for entry in stored["walls"])
            radius = None if stored["radius"] is None else float(stored["radius"])
            waves = None if stored.get("waves") is None else int(stored["waves"])
            return cls(walls, tuple(_text(name) for name in stored["conserved"]), radius, float(stored["contraction"]), waves)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            expected = "walls, conserved, radius and contraction"
            raise DataError("imposed", expected, f"another form ({error})", "the file may be damaged") from error


def _wall(stored: dict[str, Any]) -> Wall:
    if set(stored) != {"output", "axis", "side", "value"}:
        raise KeyError(", ".join(map(str, stored)))
    if stored["side"] not in ("lower", "upper"):
        raise ValueError(f"side {stored['side']!r}")
    return Wall(_text(stored["output"]), _text(stored["axis"]), stored["side"], float(stored["value"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} for a name")
    return value


def imposed_by(problem: Problem) -> Imposed:
    """What the solutions of a problem satisfy exactly: constant values on its walls, and the means it conserves."""
    return Imposed(problem.walls, problem.conserved)


def check_imposed(imposed: Imposed, inputs: Sequence[Variable], outputs: Sequence[Variable], grid: Grid) -> None:
    """Refuse what cannot be imposed on these outputs.

    Raises
    ------
    DataError
        For an output or an axis that does not exist, a side of a periodic axis, a mean to be conserved of an output that is no
        input, dissipation of outputs that are no inputs, a highest wave without a periodic axis.
    GridError
        For a highest wave on a sphere without an exact quadrature.
    """
    given, found, axes = [v.name for v in inputs], [v.name for v in outputs], _axes(grid)
    for wall in imposed.walls:
        if wall.output not in found:
            raise DataError("imposed walls", "outputs of the surrogate", repr(wall.output), did_you_mean(wall.output, found))
        if wall.axis not in axes or grid.domain[axes.index(wall.axis)].periodic:
            bounded = [axis for axis, interval in zip(axes, grid.domain, strict=True) if not interval.periodic]
            what = "periodic axis" if wall.axis in axes else "unknown axis"
            raise DataError("imposed walls", "sides of bounded axes", f"{what} {wall.axis!r}", did_you_mean(wall.axis, bounded))
    for name in imposed.conserved:
        if name not in found or name not in given:
            both = [v for v in found if v in given]
            raise DataError("imposed conserved", "an output that is also an input", repr(name), did_you_mean(name, both))
    lost = [name for name in found if name not in given]
    if imposed.radius is not None and lost:
        raise DataError(
            "imposed radius", "an evolution, whose outputs are all inputs", f"{lost[0]!r}, which is none", "leave radius at None"
        )
    if imposed.waves is not None and isinstance(grid, Sphere):
        latitude_family(grid)
    elif imposed.waves is not None and not (isinstance(grid, Box) and any(axis.periodic and axis.uniform for axis in grid.axes)):
        expected = "a Sphere, or a Box with an evenly spaced periodic axis"
        raise DataError("imposed waves", expected, type(grid).__name__, "leave waves at None")


def impose(
    model: Surrogate, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
) -> Float[Tensor, "batch outputs *query"]:
    """Output functions of a surrogate, with what it imposes; see the module's equations.

    Raises
    ------
    GridError
        On a shard, for a highest wave: it needs all points of an axis.
    """
    target = grid if query is None else query
    if model.imposed.waves is not None and (isinstance(grid, Shard) or isinstance(target, Shard)):
        raise GridError("imposed waves", "a whole grid", "a shard of one", "share samples between processes, or leave waves at None")
    if model.imposed.waves is not None and not isinstance(target, Box | Sphere):  # scattered points take the waves of a lattice
        lattice = grid if isinstance(grid, Box | Sphere) else model.grid
        return interpolate(impose(model, a, grid, lattice), lattice, target)
    if model.imposed.waves is not None and isinstance(target, Sphere):
        return _low_degrees(model, a, grid, target, model.imposed.waves)
    return _conserving(model, a, grid, target)


def _low_degrees(model: Surrogate, a: Tensor, grid: Grid, target: Sphere, highest: int) -> Tensor:
    """Outputs on a sphere, of which what they add to the state has no degrees above ``highest``."""
    whole = grid if isinstance(grid, Sphere) else model.grid  # a target may be a window
    assert isinstance(whole, Sphere)
    if exact_degree(whole) <= highest:
        return _conserving(model, a, grid, target)
    u = _conserving(model, a, grid, whole)
    start = model.add_state(torch.zeros_like(u), a, grid, whole)
    added = synthesise(analyse(u - start, whole, highest), target)
    return added + (start if target == whole else model.add_state(torch.zeros_like(added), a, grid, target))


def _conserving(model: Surrogate, a: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Outputs with their values on sides, the ball and the means."""
    u = _bounded(model, a, grid, target)
    places = [(k, v.name) for k, v in enumerate(model.outputs) if v.name in model.imposed.conserved]
    if not places:
        return u
    own = u if target == grid else _bounded(model, a, grid, grid)
    kept, source = [k for k, _ in places], [[v.name for v in model.inputs].index(name) for _, name in places]
    missing = _mean(a[:, source], grid) - _mean(own[:, kept], grid)
    here, there = _shape(model, target, u)[0], _shape(model, grid, u)[0]
    amount = missing / _mean(there[None, kept], grid)
    shift = here[kept] * amount.view(*amount.shape[:2], *(1,) * (u.ndim - 2))
    return u + shift if len(kept) == u.shape[1] else u.index_add(1, torch.tensor(kept, device=u.device), shift)


def _bounded(model: Surrogate, a: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Outputs with their values on sides, and drawn in outside of the ball."""
    radius = model.imposed.radius
    if radius is None:
        return _low(model, _walled(model, a, grid, target), target)
    source = [[v.name for v in model.inputs].index(v.name) for v in model.outputs]
    column = (1, -1, *(1,) * (a.ndim - 2))
    state, std = a[:, source], model.in_std[source].view(column).to(a.dtype)
    own = torch.tensor([v.name in model.imposed.conserved for v in model.outputs], device=a.device)
    centre = centre_of(state, grid, model.in_mean[source].to(a.dtype), own)
    rho = norm((state - centre) / std, grid) / radius
    near = torch.where(rho > 2, centre + (state - centre) * (2 / rho.clamp_min(1)), state)
    told = near if source == list(range(a.shape[1])) else a.index_copy(1, torch.tensor(source, device=a.device), near)
    u = _walled(model, told, grid, target)
    state = state if target == grid else interpolate(state, grid, target)
    _, lift, on, walled = _shape(model, target, u)
    # On another grid the centre keeps its form: one value a channel, or the lift.
    centre = torch.where(walled.view(1, -1, *(1,) * (u.ndim - 2)), lift, centre.reshape(*centre.shape[:2], *(1,) * (u.ndim - 2)))
    far = centre + model.imposed.contraction * (torch.where(on, lift, state) - centre)
    rho = rho.reshape(-1, *(1,) * (u.ndim - 1))
    t = (rho - 1).clamp(0, 1)
    blend = far + (1 - t**3 * (10 - 15 * t + 6 * t**2)) * (u - far)
    return _low(model, torch.where(rho <= 1, u, torch.where(rho >= 2, far, blend)), target)


def _low(model: Surrogate, u: Tensor, target: Grid) -> Tensor:
    return low_waves(u, target, model.imposed.waves) if model.imposed.waves is not None and isinstance(target, Box) else u


def centre_of(
    state: Float[Tensor, "batch channel *space"], grid: Grid, mean: Float[Tensor, " channel"], own: Tensor
) -> Float[Tensor, "one_or_batch channel *ones"]:
    """Centre of the ball: ``mean``, or the state's own mean in the channels of ``own`` (conserved)."""
    column = (1, -1, *(1,) * (state.ndim - 2))
    return torch.where(own.view(column), _mean(state, grid), mean.view(column)) if own.any() else mean.view(column)


def _walled(model: Surrogate, a: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Outputs with their values on sides."""
    u = model.operate(a, grid, target)
    if not model.imposed.walls:
        return model.add_state(u, a, grid, target)
    d, lift, on, _ = _shape(model, target, u)
    steps = torch.tensor([source is not None for source in model.base], device=u.device).view(1, -1, *(1,) * (u.ndim - 2))
    start = model.add_state(torch.zeros_like(u), a, grid, target)
    return torch.where(steps, torch.where(on, lift, start) + d * u, lift + d * (u - lift))


def norm(z: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, "batch 1 *ones"]:
    """Root mean square over domain and channels, without overflow, and with a finite slope at 0."""
    largest = max_over_ranks(z.detach().abs().flatten(1).amax(1), rows_of(grid)).clamp_min(1e-30).view(-1, *(1,) * (z.ndim - 1))
    square = _mean((z / largest).square(), grid).mean(1, keepdim=True)
    return largest * square.clamp_min(1e-30).sqrt()


def _mean(f: Float[Tensor, "batch channel *space"], grid: Grid) -> Float[Tensor, "batch channel *ones"]:
    """Mean over the domain."""
    weights = _mean_weights(grid, f.dtype, f.device)
    total = sum_over_ranks((f * weights).flatten(2).sum(2), rows_of(grid))
    return total.view(*f.shape[:2], *(1,) * (f.ndim - 2))


@lru_cache(maxsize=32)
def _mean_weights(grid: Grid, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "*space"]:
    with torch.inference_mode(False):  # kept for steps with gradients even when a prediction asks first
        return grid.mean_weights().to(device, dtype)


def _shape(model: Surrogate, grid: Grid, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    names = tuple(v.name for v in model.outputs)
    return _wall_functions(model.imposed.walls, names, _axes(model.grid), grid, like.dtype, like.device)


def wall_functions(model: Surrogate, grid: Grid, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance function, lift, points on a side and channels with walls on a slab of a grid; kept by no cache."""
    names = tuple(v.name for v in model.outputs)
    return _wall_functions.__wrapped__(model.imposed.walls, names, _axes(model.grid), grid, like.dtype, like.device)


@lru_cache(maxsize=32)
def _wall_functions(
    walls: tuple[Wall, ...], names: tuple[str, ...], axes: tuple[str, ...], grid: Grid, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "channel *space"], Float[Tensor, "channel *space"], Tensor, Tensor]:
    """Distance function ``d``, lift, points on a side, each ``(channel, *space)``, and which channels have walls."""
    with torch.inference_mode(False):
        x = grid.points()
        d = torch.ones(len(names), *grid.shape, dtype=torch.float64)
        lift, on = torch.zeros_like(d), torch.zeros_like(d, dtype=torch.bool)
        for k, name in enumerate(names):
            sides = [wall for wall in walls if wall.output == name]
            gaps = []
            for wall in sides:
                axis = axes.index(wall.axis)
                ends = grid.domain[axis]
                gap = (x[..., axis] - ends.lower if wall.side == "lower" else ends.upper - x[..., axis]) / ends.length
                gap = torch.where(gap < _ON_SIDE, 0.0, gap)
                d[k] *= torch.tanh(gap / _REACH)
                on[k] |= gap == 0
                gaps.append(gap)
            if sides:
                at = torch.stack(gaps, -1)
                share = torch.where(on[k, ..., None], (at == 0).double(), 1 / at)
                lift[k] = (share * torch.tensor([wall.value for wall in sides], dtype=torch.float64)).sum(-1) / share.sum(-1)
        walled = torch.tensor([any(wall.output == name for wall in walls) for name in names])
        return d.to(device, dtype), lift.to(device, dtype), on.to(device), walled.to(device)


def _axes(grid: Grid) -> tuple[str, ...]:
    return grid.names if isinstance(grid, Points) else grid.dims
