r"""The surrogate: an operator between physical quantities.

.. math:: u = m_u + s_u \, G_\theta\!\left(\frac{a - m_a}{s_a}\right), \qquad
          \text{or for an evolution by increments} \quad u = a + m_\delta + s_\delta \, G_\theta\!\left(\frac{a - m_a}{s_a}\right)

with the mean and standard deviation of each channel over the training data; around a climate increments are those to damped persistence
(:mod:`anygrid.surrogate.persistence`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.equations.solution import Solution
from anygrid.errors import DataError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Grid
from anygrid.numerics.interpolation import interpolate
from anygrid.problems.base import Problem
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate.impose import impose
from anygrid.surrogate.imposed import Imposed, check_imposed
from anygrid.surrogate.noise import Noise
from anygrid.surrogate.persistence import Persistence
from anygrid.surrogate.predict import predict
from anygrid.surrogate.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Surrogate", "equation_of"]

_ROUNDING = 1e-6  # a channel whose deviation is below this part of its mean is constant up to float32 rounding


class Surrogate(nn.Module):
    """A :class:`~anygrid.maps.Map` in physical units around a plain operator in scaled ones.

    Parameters
    ----------
    operator
        Module with ``forward(a, grid, query=None)`` and its constructor's JSON-able ``arguments``.
    inputs, outputs
        Variables of the channels, in order.
    statistics
        Of the training data; they are the scaling.
    grid
        Grid of the training data: its domain and family are those of the surrogate; any resolution of it may be asked for.
    dt
        Time that one application advances an evolution by, or ``None`` for a steady map.
    increment
        Whether the operator predicts what an output adds to the input of the same name. An output that is not an input is
        predicted with its own mean and deviation. Outputs that were constant in training are reproduced exactly.
    seen
        Range and statistics of the training inputs, for the warning of :meth:`predict`.
    provenance, record
        JSON-able facts on the data and on the training.
    imposed
        What the outputs satisfy exactly: see :mod:`anygrid.surrogate.imposed`.
    problem
        The equation whose solution map this is, where it is known: for :meth:`refine` and for checks by its residual.
    noise
        What makes the map random: channels of noise behind those of the inputs. As a map it is then the one without noise (0), and
        :meth:`draw` is the :class:`~anygrid.maps.RandomMap`.
    persistence
        The climate that an evolution by increments of all its outputs goes on around; ``None`` for plain persistence.

    Raises
    ------
    DataError
        When ``increment`` is asked of statistics without increments, the statistics have other channels, or what is imposed does not
        fit the variables and the grid, or the variables of ``problem`` are others; for a climate of other variables or another map.
    """

    in_mean: Tensor
    in_std: Tensor
    out_mean: Tensor
    out_std: Tensor

    def __init__(
        self,
        operator: nn.Module,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        statistics: Statistics,
        grid: Grid,
        dt: str | None = None,
        increment: bool = False,
        provenance: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
        seen: Seen | None = None,
        imposed: Imposed = Imposed(),
        problem: Problem | None = None,
        noise: Noise = Noise(),
        persistence: Persistence | None = None,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.statistics, self.grid, self.dt, self.increment, self.seen = statistics, grid, dt, increment, seen
        self.provenance, self.record = dict(provenance or {}), dict(record or {})
        given = statistics.increments if increment else statistics.outputs
        if given is None:
            raise DataError("Surrogate", "statistics of increments", "statistics of steady data", "build it with increment=False")
        found = (len(statistics.inputs.mean), len(given.mean))
        if found != (len(self.inputs), len(self.outputs)):
            raise DataError(
                "Surrogate", f"statistics of {len(self.inputs)} inputs and {len(self.outputs)} outputs", f"{found[0]} and {found[1]}"
            )
        check_imposed(imposed, self.inputs, self.outputs, grid)
        if problem is not None:
            _check_problem(problem, self.inputs, self.outputs)
        self.imposed, self.problem, self.noise, self.persistence = imposed, problem, noise, persistence
        names = [v.name for v in self.inputs]
        self.base = tuple(names.index(v.name) if increment and v.name in names else None for v in self.outputs)
        scale = (given.mean, [s if v else 0.0 for s, v in zip(given.std, _varies(given), strict=True)])
        if persistence is not None:
            if None in self.base or len(persistence.rho) != len(self.base):
                raise DataError("Surrogate", f"a climate of {len(self.base)} outputs that are all inputs", f"{len(persistence.rho)}")
            scale = (persistence.mean, list(persistence.std))
        # Not persistent: the file keeps the statistics themselves, in float64.
        extra = len(noise.lengths)
        self.register_buffer("in_mean", torch.tensor([*statistics.inputs.mean, *extra * [0.0]]), persistent=False)
        in_std = [s if v else 1.0 for s, v in zip(statistics.inputs.std, _varies(statistics.inputs), strict=True)]
        self.register_buffer("in_std", torch.tensor([*in_std, *extra * [1.0]]), persistent=False)
        self.register_buffer("out_mean", torch.tensor(scale[0]), persistent=False)
        self.register_buffer("out_std", torch.tensor(scale[1]), persistent=False)

    def forward(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """Output functions in physical units on ``query`` (default: on ``grid``).

        The channels of noise may follow those of the inputs; without them the noise is 0.
        """
        return impose(self, a, grid, query) if self.imposed else self.add_state(self.operate(a, grid, query), a, grid, query)

    def draw(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, /, *, members: int, generator: torch.Generator
    ) -> Float[Tensor, "{members} batch outputs *space"]:
        """Draw ``members`` outputs for every input: a :class:`~anygrid.maps.RandomMap`.

        Raises
        ------
        UsageError
            For a surrogate without noise.
        """
        if not self.noise:
            hint = "train with fit(..., noise=4), or perturb the initial states"
            raise UsageError("Surrogate.draw", "a surrogate that was trained with noise", "one without", hint)
        noise = self.noise.draw(members * len(a), grid, generator).to(a)
        rows = torch.cat([a.repeat(members, *(1,) * (a.ndim - 1)), noise], 1)
        return self(rows, grid).unflatten(0, (members, len(a)))

    def operate(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """What the operator says, in physical units: outputs, or what they add to the inputs of the same name."""
        if self.persistence is not None:
            source = torch.tensor(self.base, device=a.device)
            a = a.index_copy(1, source, self.persistence.heard(a[:, source], grid))
        if self.noise and a.shape[1] == len(self.inputs):
            a = torch.cat([a, a.new_zeros(len(a), len(self.noise.lengths), *a.shape[2:])], 1)
        u = self.operator((a - _channels(self.in_mean, a)) / _channels(self.in_std, a), grid, query)
        return _channels(self.out_mean, u) + _channels(self.out_std, u) * u

    def add_state(
        self, u: Float[Tensor, "batch outputs *query"], a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """``u`` plus, for an evolution by increments, the inputs of the same names (or what persists of them) on ``query``."""
        shared = [k for k, source in enumerate(self.base) if source is not None]
        if not shared:
            return u
        state = a[:, [self.base[k] for k in shared]]
        state = state if query is None or query == grid else interpolate(state, grid, query)
        if self.persistence is not None:
            state = self.persistence.state(state, grid if query is None else query)
        if len(shared) == len(self.base):
            return state + u
        places = torch.tensor(shared, device=u.device)
        return u.index_add(1, places, state)

    def predict(self, ds: xr.Dataset, grid: Grid | None = None, *, rows: int | None = None) -> xr.Dataset:
        """Outputs for a data set of inputs, as a data set: see :func:`anygrid.surrogate.predict.predict`."""
        return predict(self, ds, grid, rows=rows)

    def refine(self, a: Float[Tensor, "batch inputs *space"], grid: Grid, tolerance: float = 1e-6) -> Solution:
        """The solver's solution to its tolerance, from the prediction as a guess: see :meth:`anygrid.problems.base.Problem.refine`.

        For data sets there is :func:`anygrid.surrogate.refine.refine`.

        Raises
        ------
        UsageError
            When the surrogate does not know its equation.
        AnygridError
            Whatever the solver raises.
        """
        problem = equation_of(self, "Surrogate.refine")
        first = next(self.parameters(), self.in_mean)
        with torch.no_grad():
            u = self(a.to(first), grid)
        return problem.refine(a, u.to(a), grid, tolerance)

    def save(self, path: str | Path) -> None:
        """Write the surrogate as one file; see :func:`anygrid.surrogate.file.write_surrogate`."""
        from anygrid.surrogate.file import write_surrogate  # the file knows the class, so the class learns of the file late

        write_surrogate(self, path)

    @staticmethod
    def load(path: str | Path, operators: Sequence[type[nn.Module]] | None = None) -> Surrogate:
        """Read a surrogate; see :func:`anygrid.surrogate.file.read_surrogate`."""
        from anygrid.surrogate.file import read_surrogate

        return read_surrogate(path, operators)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process a surrogate travels as the bytes of its file, beside its operator's class and its equation."""
        from anygrid.surrogate.file import surrogate_bytes, surrogate_of_bytes

        return surrogate_of_bytes, (surrogate_bytes(self), type(self.operator), self.problem)

    def __deepcopy__(self, memo: dict[int, Any]) -> Surrogate:
        # Where it is and as it is: not by way of the file, which knows no device.
        twin = Surrogate.__new__(Surrogate)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin


def equation_of(surrogate: Surrogate, where: str) -> Problem:
    """The equation that a surrogate stands for.

    Raises
    ------
    UsageError
        When it knows none.
    """
    if surrogate.problem is None:
        hint = "train on data that generate wrote, or set surrogate.problem to the problem whose solution map it is"
        raise UsageError(where, "a surrogate that knows its equation", "one of data alone", hint)
    return surrogate.problem


def _check_problem(problem: Problem, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> None:
    wanted, found = ([[v.name for v in part] for part in pair] for pair in ((problem.inputs, problem.outputs), (inputs, outputs)))
    if wanted != found:
        expected, got = (f"{', '.join(pair[0])} to {', '.join(pair[1])}" for pair in (wanted, found))
        raise DataError("Surrogate problem", f"a map from {expected}, as the equation has it", got, "name the variables in that order")


def _varies(moments: Moments) -> list[bool]:
    return [
        not constant and std > _ROUNDING * abs(mean)
        for constant, std, mean in zip(moments.constant, moments.std, moments.mean, strict=True)
    ]


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.ndim - 2)).to(like.dtype)
