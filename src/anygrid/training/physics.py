r"""Training on the equation: inputs of its own, and the error that the equation itself sees in the outputs.

.. math:: C_i = \frac1B \sum_b \frac{\| \delta_{b,i} / s_i \|}{\| u_b / s \|}, \qquad
          \delta = \text{problem.correction}(a, u) \approx u^* - u

``delta`` is the residual brought to the size of an error, so that ``C_i`` estimates the relative error of unknown ``i``, in the units of
the loss on data: both may be added as they are. The residual is taken on a grid of its own, finer than that of the data.

An evolution is trained where its trajectories go: a pool of states starts from the problem's sampler, and every prediction takes
the place of its input in the pool until a trajectory is as long as the problem's, or has gone astray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.io.pairs import Pairs
from anygrid.maps import Map
from anygrid.numerics.seeds import sample_generator, sample_seed
from anygrid.problems.base import Problem
from anygrid.surrogate import snap
from anygrid.training.losses import RelativeNorm
from anygrid.training.ranks import ALONE, Ranks
from anygrid.training.symmetries import Symmetry, apply_symmetries
from anygrid.training.weighting import AugmentedLagrangian, Weighting

__all__ = ["Equations", "Physics", "asked", "asked_of_data", "check_data", "completed", "limit", "unseen"]

# Seeds of data are small integers chosen by people; those of the evaluation begin at 7.4e9.
_SEED = 5_300_000_023
_POOL = 4  # batches of states kept of an evolution
_STOCK = 1 << 26  # values of inputs that are drawn once and used again, for drawing may cost as much as a step
_LARGEST_STOCK = 1024
_BLIND = 0.02  # from where on the defect of a step is worth a word
_STEP = 1e-6  # relative: a step in a file is written with ten digits
_ASTRAY = 0.3  # estimated relative error of a step beyond which a trajectory is begun anew

Resolution = int | tuple[int, ...]


@dataclass(frozen=True)
class Physics:
    """How a training uses an equation.

    Parameters
    ----------
    problem
        The equation, its sampler of inputs and its estimate of the error (:meth:`~anygrid.problems.base.Problem.correction`).
    resolution
        Grid on which the residual is taken, as ``problem.grid`` takes it; by default twice as fine as the data, and without data the
        grid trained on.
    batch
        Inputs drawn for a step; by default as many as the data's batch has points for.
    weighting
        How the equation's terms are weighed against the data's.
    """

    problem: Problem
    resolution: Resolution | None = None
    batch: int | None = None
    weighting: Weighting = field(default_factory=AugmentedLagrangian)

    def to_table(self) -> dict[str, Any]:
        """Plain values for ``run.toml``."""
        parameters = {k: v for k, v in asdict(self.problem).items() if v is not None}  # type: ignore[call-overload]
        rule = {"kind": type(self.weighting).__name__, **asdict(self.weighting)}
        resolution = list(self.resolution) if isinstance(self.resolution, tuple) else self.resolution
        table = {"problem": type(self.problem).__name__, "parameters": parameters, "resolution": resolution, "batch": self.batch}
        return {k: v for k, v in table.items() if v is not None} | {"weighting": rule}


class Equations:
    """The equation's terms of the loss, and what they remember between steps.

    Parameters
    ----------
    physics
        With resolution and batch given.
    loss
        Scales and norms of the loss on data.
    seed
        Of the training.
    symmetries
        Of the problem: inputs of a steady one are transformed at random.
    ranks
        Processes that the inputs of a step are divided over: all draw the same, and each works on its ``share``.
    """

    def __init__(
        self,
        physics: Physics,
        loss: RelativeNorm,
        seed: int,
        device: torch.device,
        symmetries: Sequence[Symmetry] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        assert physics.resolution is not None
        assert physics.batch is not None
        self.problem, self.batch, self.weighting = physics.problem, physics.batch, physics.weighting
        self.grid: Grid = physics.problem.grid(physics.resolution)
        self.loss, self.seed, self.device, self.symmetries = loss, seed, device, symmetries
        self.ranks, self.share = ranks, ranks.rows(self.batch)
        self.memory = self.weighting.start(len(self.problem.outputs))
        self.drawn = 0
        inputs = [v.name for v in self.problem.inputs]
        self._state = [inputs.index(v.name) for v in self.problem.outputs] if self.problem.dt is not None else []
        each = len(inputs) * self.grid.size
        self._stock: list[Tensor] = []
        self._stocked = max(self.batch, min(_LARGEST_STOCK, _STOCK // each))
        self._pool = torch.zeros(0)
        self._ages = torch.zeros(0)

    @property
    def evolution(self) -> bool:
        """Whether predictions are inputs again."""
        return bool(self._state)

    def errors(self, model: Map, step: int) -> Float[Tensor, " constraint"]:
        """Estimated relative error of each output, mean over this rank's share of the inputs of this step."""
        rows, inputs = self._inputs(step)
        a = inputs[self.share.rows].to(self.device)
        u = model(a, self.grid).float()
        delta = self.problem.correction(a, u, self.grid)
        each = self.loss.by_channel(delta, u.detach(), self.grid)
        if self.evolution:
            sizes = each.detach().square().sum(1).sqrt()
            self._continue(rows, inputs, *(self.ranks.joined(part, self.share, self.batch) for part in (u.detach(), sizes)))
        return each.mean(0)

    def tensors(self) -> dict[str, Tensor]:
        """What the next step depends on."""
        return {"memory": self.memory, "pool": self._pool, "ages": self._ages, "drawn": torch.tensor(self.drawn)}

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of :meth:`tensors`."""
        return {name: value.clone() for name, value in self.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`tensors`."""
        self.memory, self._pool, self._ages = tensors["memory"], tensors["pool"], tensors["ages"]
        self.drawn = int(tensors["drawn"])

    def _inputs(self, step: int) -> tuple[Tensor, Tensor]:
        if not self.evolution:
            a = self._fresh(self.batch)
            generator = torch.Generator().manual_seed(sample_seed(self.seed, step))
            return torch.arange(self.batch), apply_symmetries([a], self.symmetries, self.grid, generator)[0] if self.symmetries else a
        size = _POOL * self.batch
        if not len(self._pool):
            self._pool = self._fresh(size)
            # Spread, so that at all times the pool holds early and late states.
            self._ages = (torch.arange(size) * self.problem.steps) // size
        rows = (step * self.batch + torch.arange(self.batch)) % size
        return rows, self._pool[rows]

    def _continue(self, rows: Tensor, a: Tensor, u: Tensor, error: Tensor) -> None:
        """Put predictions in the place of their inputs; begin anew what is at its end or astray."""
        following = a.clone()
        following[:, self._state] = u
        self._pool[rows] = following
        self._ages[rows] += 1
        astray = ~(error < _ASTRAY)  # true for nan
        done = rows[astray | (self._ages[rows] >= self.problem.steps)]
        if len(done):
            self._pool[done], self._ages[done] = self._fresh(len(done)), 0

    def _fresh(self, count: int) -> Tensor:
        """The next inputs of the stock, which is filled as it is used and then begun again."""
        numbers = [k % self._stocked for k in range(self.drawn, self.drawn + count)]
        self.drawn += count
        # After a resumption the stock may begin in the middle: it is filled from its first input on.
        while len(self._stock) <= max(numbers):
            self._stock.append(self._draw(range(len(self._stock), len(self._stock) + 1), _SEED + self.seed)[0])
        return torch.stack([self._stock[k] for k in numbers])

    def _draw(self, numbers: range, seed: int) -> Tensor:
        """Inputs by number: those of a resumed training are the same."""
        return torch.cat([self.problem.sample(1, self.grid, sample_generator(seed, k)).float() for k in numbers])


def unseen(problem: Problem, grid: Grid) -> float:
    """Relative error that the equation sees in the solver's own solutions: what it cannot tell from an error. Mean of four samples.

    Raises
    ------
    UsageError
        For a problem that cannot estimate an error.
    """
    a = torch.cat([problem.sample(1, grid, sample_generator(_SEED + 1, k)) for k in range(4)])
    names = [v.name for v in problem.inputs]
    zero = torch.zeros(len(a), len(problem.outputs), *grid.shape, dtype=a.dtype)
    problem.correction(a, zero if problem.dt is None else a[:, [names.index(v.name) for v in problem.outputs]], grid)
    u = problem.solve(a, grid)
    return float((problem.correction(a, u, grid).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1).clamp(min=1e-30)).mean())


def asked(data: object, physics: bool | Problem | Physics) -> Physics | None:
    """The equation and how it is used, from what was said."""
    if isinstance(physics, bool):
        if isinstance(data, Problem):
            if not physics:
                hint = "physics=True trains on the equation alone; or generate(problem, ...) and fit the data set it writes"
                raise UsageError("fit", "data, or a problem with physics=True", "a problem alone", hint)
            return Physics(data)
        return None
    use = Physics(physics) if isinstance(physics, Problem) else physics
    if isinstance(data, Problem) and data != use.problem:
        raise UsageError("fit", "one problem", "data and physics of different ones", "leave the first, or give physics=True")
    return use


def asked_of_data(problem: Problem | None) -> Physics:
    """The equation of data that say which problem they were made from."""
    if problem is None:
        hint = "give physics=problem, such as anygrid.Equation(...), whose inputs and outputs are those of the data"
        raise UsageError("fit(physics=True)", "data that anygrid.generate wrote for these variables and this lead", "others", hint)
    return Physics(problem)


def limit(problem: Problem, grid: Grid) -> str:
    """What the equation cannot tell from an error, in words."""
    blind = unseen(problem, grid)
    said = f"the equation sees an error of {blind:.2g} in solved samples: more accurate it cannot make the operator"
    return said + ("; a shorter dt would" if problem.dt is not None and blind > _BLIND else "")


def check_data(problem: Problem, data: Pairs) -> None:
    """Refuse data that cannot be solutions of the equation.

    Raises
    ------
    UsageError
        For a lead other than the problem's step, and for one kind of map where the other is meant.
    GridError
        For another domain.
    """
    if data.evolution != (problem.dt is not None):
        kinds = ("a steady equation", "an evolution")
        got = f"{kinds[data.evolution]} in the data, {kinds[not data.evolution]} in physics"
        raise UsageError("fit(physics=...)", "one kind of equation", got, "give lead= for an evolution only")
    words = (data.dt or "").split()
    if problem.dt is not None and words and _number(words[0]) is not None and abs(float(words[0]) / problem.dt - 1) > _STEP:
        hint = f"choose the lead, or give the equation dt={words[0]}"
        raise UsageError("fit(physics=...)", f"a lead of the equation's step {problem.dt:g}", str(data.dt), hint)
    snap(problem.grid(data.grid.shape), data.grid, "fit: grid of the equation")


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def completed(physics: Physics, shape: tuple[int, ...], points: int, *, labels: bool) -> Physics:
    """The same with resolution and batch, for a grid of this shape and steps of so many points; finer where there are labels on the grid.

    Raises
    ------
    UsageError
        For a batch below 1.
    """
    if physics.batch is not None and physics.batch < 1:
        raise UsageError("Physics(batch=...)", "1 or more inputs", f"{physics.batch}")
    finer = tuple(2 * n - 1 if n % 2 else 2 * n for n in shape) if labels else shape
    resolution = finer if physics.resolution is None else physics.resolution
    size = physics.problem.grid(resolution).size
    batch = physics.batch if physics.batch is not None else max(1, min(8, points // size))
    return replace(physics, resolution=resolution, batch=batch)
