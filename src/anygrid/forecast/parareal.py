"""Parareal: the solver's forecast from a surrogate's, all steps solved at once and corrected until nothing changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.errors import AnygridError, UsageError
from anygrid.grid import Grid
from anygrid.maps import Map
from anygrid.metrics.errors import relative_l2

__all__ = ["Parareal", "parareal"]

_VALUES = 1 << 21  # field values in one call of a map: bounds memory


@dataclass(frozen=True)
class Parareal:
    """A trajectory, and what it took.

    Attributes
    ----------
    states
        States after each step; the first is one step after the start.
    updates
        Largest relative L2 change of any state in each iteration.
    rounds
        Calls of the fine map one after another, each of them a batch: where the machine has room for a batch, the time of the
        forecast is that of so many steps instead of ``steps``.
    solved
        Steps of the fine map in all, those of one iteration counted for each interval. It is never below ``steps``.
    """

    states: Float[Tensor, "batch step outputs *space"]
    updates: tuple[float, ...]
    rounds: int
    solved: int

    @property
    def steps(self) -> int:
        """Steps of the forecast: calls of the fine map one after another without a surrogate."""
        return self.states.shape[1]


def parareal(
    coarse: Map,
    fine: Map,
    a: Float[Tensor, "batch inputs *space"],
    grid: Grid,
    steps: int,
    tolerance: float = 1e-6,
    *,
    channels: tuple[int, ...] | None = None,
) -> Parareal:
    r"""The forecast of ``fine`` over ``steps`` steps, from one of ``coarse``.

    .. math:: u^0_{n+1} = G(u^0_n), \qquad u^{k+1}_{n+1} = F(u^k_n) + G(u^{k+1}_n) - G(u^k_n)

    All ``F(u^k_n)`` of an iteration are independent and go to the solver as one batch; only ``G``, the surrogate, runs step after
    step. After ``k`` iterations the first ``k`` states are those of ``F`` applied again and again, whatever ``G``, so it ends after
    at most ``steps`` iterations with the solver's own forecast. It ends before, when no state changes by more than ``tolerance``
    (a state is accepted as soon as neither it nor any before it does): the guarantee is then that of ``F`` in each step, plus the
    change that is left. The error falls about like ``(n e)**k / k!`` at step ``n``, with ``e`` the relative error of ``G`` on differences
    of states, as long as ``F`` does not amplify them.

    Limits: ``e`` is what counts, not the error of ``G`` on states. Differences hold scales that a network has not seen in training, and
    it may get them wrong altogether: a Navier-Stokes surrogate of 0.3 % validation error saved nothing in six steps (its changes
    grew to 0.3 before the exact front reached them). Nor is anything saved beyond a few Lyapunov times. The result is
    the solver's all the same; the price is then ``steps (steps + 1) / 2`` solves.

    Why not a correction by the residual of each step: its zero is the solution of an implicit method with one step ``dt``, of
    order 4 in it, not the solver's, so that it could promise nothing at the solver's tolerance.

    Source: Lions, Maday & Turinici, C. R. Acad. Sci. Paris I 332 (2001) 661; convergence on bounded times: Gander & Vandewalle, SIAM J.
    Sci. Comput. 29 (2007) 556.

    Parameters
    ----------
    coarse, fine
        Maps of one step; ``coarse`` is called with float32, ``fine`` with float64.
    a
        Inputs at the start.
    channels
        Inputs that each output replaces; by default the first ones. The other inputs are held.

    Raises
    ------
    UsageError
        For less than one step, and a tolerance that is not positive.
    AnygridError
        When ``coarse`` leaves the finite numbers, and whatever the maps raise.
    """
    if steps < 1 or not tolerance > 0:
        raise UsageError("parareal", "1 or more steps and a tolerance above 0", f"{steps} and {tolerance}")
    with torch.no_grad():
        return _parareal(coarse, fine, a.double(), grid, steps, tolerance, channels)


def _parareal(coarse: Map, fine: Map, a: Tensor, grid: Grid, steps: int, tolerance: float, channels: tuple[int, ...] | None) -> Parareal:
    first = _in_parts(coarse, a.float(), grid).double()
    places = list(range(first.shape[1]) if channels is None else channels)

    def inputs(state: Tensor) -> Tensor:
        given = a.clone()
        given[:, places] = state
        return given

    guess = [first]
    for _ in range(steps - 1):
        guess.append(_in_parts(coarse, inputs(guess[-1]).float(), grid).double())
    for n, g in enumerate(guess):
        if not bool(torch.isfinite(g).all()):
            hint = "forecast fewer steps, or wrap the surrogate in a Hybrid"
            raise AnygridError("parareal", "a coarse forecast that stays finite", f"one that does not at step {n + 1}", hint)
    states = [a[:, places], *guess]
    whole, solved = 0, 0  # states up to number `whole` are final
    updates: list[float] = []
    while whole < steps:
        solves = _in_parts(fine, torch.cat([inputs(states[n]) for n in range(whole, steps)]), grid).double().split(len(a))
        solved += steps - whole
        before = list(states)
        for n, exact in zip(range(whole, steps), solves, strict=True):
            if n == whole:
                states[n + 1] = exact
                continue
            g = _in_parts(coarse, inputs(states[n]).float(), grid).double()
            states[n + 1] = exact + g - guess[n]
            guess[n] = g
        changes = [_change(states[n + 1], before[n + 1], grid) for n in range(whole, steps)]
        updates.append(max(changes))
        small = next((k for k, change in enumerate(changes) if not change <= tolerance), len(changes))
        whole += max(1, small)
    return Parareal(torch.stack(states[1:], 1), tuple(updates), len(updates), solved)


def _change(new: Tensor, old: Tensor, grid: Grid) -> float:
    """Largest relative L2 change of any row and variable."""
    same = (new == old).flatten(2).all(2)
    return float(torch.where(same, 0.0, relative_l2(old, new, grid)).nan_to_num(nan=torch.inf, posinf=torch.inf).max())


def _in_parts(map_: Map, a: Tensor, grid: Grid) -> Tensor:
    rows = max(1, _VALUES // (grid.size * a.shape[1]))
    return torch.cat([map_(part, grid).to("cpu") for part in a.split(rows)])
