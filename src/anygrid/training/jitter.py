r"""States of a training that lie beside those of the data, as the states of a roll-out do.

.. math:: a_{ic} \leftarrow a_{ic} + \epsilon_i \big( a_{\pi_c(i), c} - a_{ic} \big), \qquad \epsilon_i \sim U(0, \epsilon)

for sample i and variable c, with another random order :math:`\pi_c` of the batch for every variable: what is mixed in has the scales of the
data, and does not fit the other variables. The targets stay, so that the operator learns to take such misfits back. An evolution by
increments that never saw one carries its own errors on as they are, and they pile up (a year of weather did not last: see
``docs/design-decisions.md``). It is the noise that learned simulators are trained with (Sanchez-Gonzalez et al. 2020, section 4.2), drawn
from the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["jittered"]


def jittered(
    a: Float[Tensor, "batch lead inputs *space"], channels: Sequence[int], amount: float, generator: torch.Generator
) -> Float[Tensor, "batch lead inputs *space"]:
    """``a`` with the first state of each sample mixed with those of others, in the ``channels`` that evolve."""
    rows = len(a)
    part = amount * torch.rand(rows, 1, *(1,) * (a.ndim - 3), generator=generator).to(a)
    order = torch.stack([torch.randperm(rows, generator=generator) for _ in channels], 1)
    places = torch.tensor(list(channels))
    state = a[:, 0, places]
    first = a[:, 0].index_copy(1, places, state + part * (a[order, 0, places] - state))
    return torch.cat([first[:, None], a[:, 1:]], 1)
