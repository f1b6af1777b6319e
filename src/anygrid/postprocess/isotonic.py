"""Event probabilities made reliable by a rising function of the raw ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from anygrid.errors import DataError

__all__ = ["Isotonic", "fit_isotonic"]


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A rising function of the raw probability: ``value`` at the ``raw`` probabilities of the fit, linear between them."""

    raw: NDArray[np.float64]
    value: NDArray[np.float64]

    def __call__(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Calibrated probabilities, float64."""
        found = np.interp(probability.detach().double().numpy(), self.raw, self.value)
        return torch.from_numpy(np.asarray(found))


def fit_isotonic(table: Float[Tensor, "count 2"]) -> Isotonic:
    r"""Frequencies of least Brier score among all that rise with the raw probability :math:`k / m`, from a table of validation cases.

    ``table`` is the mean over validation cases of :func:`anygrid.metrics.events.event_table`: the area where k of m members have the
    event, and that where it happened too. By the pool-adjacent-violators algorithm. The ROC curve becomes its concave hull; the Brier
    score of the validation cases cannot rise.

    Source: Zadrozny and Elkan (2002), KDD, 694; Ayer et al. (1955), Annals of Mathematical Statistics 26, 641.

    Raises
    ------
    DataError
        For an empty table or one with values that are not finite.
    """
    weight, happened = table[:, 0].double().numpy(), table[:, 1].double().numpy()
    seen = weight > 0
    if not seen.any() or not np.isfinite(table.numpy()).all():
        raise DataError("fit_isotonic", "a finite table of some validation cases", "an empty one, or values that are not finite")
    found = isotonic_regression(happened[seen] / weight[seen], weights=weight[seen], increasing=True)
    return Isotonic((np.arange(len(weight)) / (len(weight) - 1))[seen], np.clip(found.x, 0.0, 1.0))
