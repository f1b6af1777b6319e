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
from typing import Any

from anygrid.errors import DataError, UsageError, did_you_mean
from anygrid.fields import Variable
from anygrid.grid import Box, Grid, Points, Sphere
from anygrid.numerics.legendre import latitude_family
from anygrid.problems.base import Problem, Wall

__all__ = ["Imposed", "Wall", "axis_names", "check_imposed", "imposed_by"]


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
    given, found, axes = [v.name for v in inputs], [v.name for v in outputs], axis_names(grid)
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


def axis_names(grid: Grid) -> tuple[str, ...]:
    """Names of the coordinates, on scattered points too."""
    return grid.names if isinstance(grid, Points) else grid.dims
