r"""The surrogate: an operator between physical quantities.

.. math:: u = m_u + s_u \, G_\theta\!\left(\frac{a - m_a}{s_a}\right), \qquad
          \text{or for an evolution by increments} \quad u = a + m_\delta + s_\delta \, G_\theta\!\left(\frac{a - m_a}{s_a}\right)

with the mean and standard deviation of each channel over the training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import DataError
from anygrid.fields import Variable
from anygrid.grid import Grid
from anygrid.numerics.interpolation import interpolate
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate.predict import predict
from anygrid.surrogate.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Surrogate"]

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

    Raises
    ------
    DataError
        When ``increment`` is asked of statistics without increments, or the statistics have other channels.
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
        names = [v.name for v in self.inputs]
        self.base = tuple(names.index(v.name) if increment and v.name in names else None for v in self.outputs)
        varies = _varies(given)
        # Not persistent: the file keeps the statistics themselves, in float64.
        self.register_buffer("in_mean", torch.tensor(statistics.inputs.mean), persistent=False)
        in_std = [s if v else 1.0 for s, v in zip(statistics.inputs.std, _varies(statistics.inputs), strict=True)]
        self.register_buffer("in_std", torch.tensor(in_std), persistent=False)
        self.register_buffer("out_mean", torch.tensor(given.mean), persistent=False)
        self.register_buffer("out_std", torch.tensor([s if v else 0.0 for s, v in zip(given.std, varies, strict=True)]), persistent=False)

    def forward(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """Output functions in physical units on ``query`` (default: on ``grid``)."""
        u = self.operator((a - _channels(self.in_mean, a)) / _channels(self.in_std, a), grid, query)
        u = _channels(self.out_mean, u) + _channels(self.out_std, u) * u
        shared = [k for k, source in enumerate(self.base) if source is not None]
        if not shared:
            return u
        state = a[:, [self.base[k] for k in shared]]
        state = state if query is None or query == grid else interpolate(state, grid, query)
        if len(shared) == len(self.base):
            return state + u
        places = torch.tensor(shared, device=u.device)
        return u.index_add(1, places, state)

    def predict(self, ds: xr.Dataset, grid: Grid | None = None, *, rows: int | None = None) -> xr.Dataset:
        """Outputs for a data set of inputs, as a data set: see :func:`anygrid.surrogate.predict.predict`."""
        return predict(self, ds, grid, rows=rows)

    def save(self, path: str | Path) -> None:
        """Write the surrogate as one file; see :func:`anygrid.surrogate.file.write_surrogate`."""
        from anygrid.surrogate.file import write_surrogate  # the file knows the class, so the class learns of the file late

        write_surrogate(self, path)

    @staticmethod
    def load(path: str | Path, operators: Sequence[type[nn.Module]] | None = None) -> Surrogate:
        """Read a surrogate; see :func:`anygrid.surrogate.file.read_surrogate`."""
        from anygrid.surrogate.file import read_surrogate

        return read_surrogate(path, operators)


def _varies(moments: Moments) -> list[bool]:
    return [
        not constant and std > _ROUNDING * abs(mean)
        for constant, std, mean in zip(moments.constant, moments.std, moments.mean, strict=True)
    ]


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.ndim - 2)).to(like.dtype)
