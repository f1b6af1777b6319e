"""Bands around a forecast that hold the truth with a guaranteed chance, whatever its distribution: split conformal prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anygrid.errors import UsageError

__all__ = ["Conformal", "fit_conformal"]

Over = Literal["field", "point"]


@dataclass(frozen=True, eq=False)
class Conformal:
    """Half widths in units of the scale: ``(lead, channel)`` over fields, ``(lead, channel, *space)`` at points.

    Attributes
    ----------
    coverage
        The guaranteed chance.
    over
        What it is of: the whole field inside the band at once, or each point by itself.
    """

    width: Tensor
    coverage: float
    over: Over

    def band(
        self, mean: Float[Tensor, "case lead channel *space"], scale: Float[Tensor, "case lead channel *space"]
    ) -> tuple[Float[Tensor, "case lead channel *space"], Float[Tensor, "case lead channel *space"]]:
        """Lower and upper bound, ``mean -+ width * scale``."""
        width = self.width.reshape(*self.width.shape[:2], *[1] * (mean.ndim - 3)) if self.over == "field" else self.width
        return mean.double() - width * scale.double(), mean.double() + width * scale.double()

    def holds(
        self,
        mean: Float[Tensor, "case lead channel *space"],
        scale: Float[Tensor, "case lead channel *space"],
        truth: Float[Tensor, "case lead channel *space"],
    ) -> Bool[Tensor, "case lead channel *rest"]:
        """Whether the truth is inside: of each whole field ``(case, lead, channel)``, or at each point."""
        low, high = self.band(mean, scale)
        inside = (truth >= low) & (truth <= high)
        return inside.flatten(3).all(3) if self.over == "field" else inside


def fit_conformal(
    mean: Float[Tensor, "case lead channel *space"],
    scale: Float[Tensor, "case lead channel *space"],
    truth: Float[Tensor, "case lead channel *space"],
    *,
    coverage: float = 0.9,
    over: Over = "field",
) -> Conformal:
    r"""Widths from n validation cases: the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest score, coverage :math:`1 - \alpha`.

    The score of a case is :math:`\max_x |y - \mu| / \sigma` over the field, or :math:`|y - \mu| / \sigma` at each point.

    The guarantee: **if the validation cases and a new case are exchangeable**, then for each lead and channel

    * over fields: the chance that the new truth lies inside the band *at every point* is at least :math:`1 - \alpha`, and less than
      :math:`1 - \alpha + 1/(n + 1)` when scores have no ties;
    * at points: the same of each point by itself. Nothing follows for several points at once.

    The chance is over the draw of the validation cases *and* the new case (marginal, not for a given set of cases, season or regime), with
    no assumption on the forecast or its errors. It does not cover all leads, or all channels, at once. Consecutive starts are not
    exchangeable: take validation cases some days apart, from all seasons, and expect less where the climate drifts.

    ``scale`` (the spread, or EMOS's deviation, or ones) only shapes the band; a poor one costs width, not coverage.

    Source: Vovk, Gammerman and Shafer (2005); Lei et al. (2018), JASA 113, 1094, theorem 2.2; over fields by the supremum, Diquigiovanni,
    Fontana and Vantini (2022), Journal of Multivariate Analysis 189, 104879.

    Raises
    ------
    UsageError
        For a coverage outside (0, 1), scales that are not above 0, or too few cases: at least :math:`(1 - \alpha) / \alpha`.
    """
    n = len(mean)
    rank = math.ceil(round((n + 1) * coverage, 9)) if 0 < coverage < 1 else 0
    if not 0 < coverage < 1:
        raise UsageError("fit_conformal", "a coverage in (0, 1)", f"{coverage:g}")
    if rank > n:
        least = math.ceil(round(coverage / (1 - coverage), 9))
        raise UsageError("fit_conformal", f"at least {least} validation cases for a coverage of {coverage:g}", str(n), "or ask for less")
    if not bool((scale > 0).all()):
        hint = "add a small constant, or use a scale of ones"
        raise UsageError("fit_conformal", "scales above 0", f"{int((scale <= 0).sum())} that are not", hint)
    score = (truth.double() - mean.double()).abs() / scale.double()
    if not bool(torch.isfinite(score).all()):
        raise UsageError("fit_conformal", "finite values", "some that are not", "leave out cases without a truth")
    score = score.flatten(3).amax(3) if over == "field" else score
    return Conformal(score.sort(0).values[rank - 1], coverage, over)
