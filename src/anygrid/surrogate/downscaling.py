r"""From a coarse field of the whole to a fine one of a region: interpolation, the mean departure from it, and what was learned of the rest.

.. math:: u(x) = (I a)(x) + m(x) + G_\theta(I a, s)(x), \qquad m(x) = \overline{u - I a}(x), \qquad x \in \text{region}

:math:`a` are global fields at the valid time, from a surrogate's forecast, a numerical model or an analysis alike; :math:`I` interpolates
them to the points of the region (trigonometric along an even periodic axis, else a cubic spline); :math:`m` is the mean over the training
times of what fine fields have and :math:`I a` has not, one number for each output and point; :math:`s` are fine fields that do not change,
such as mountains and coasts; :math:`G_\theta` is a surrogate on the region's own grid, which learns what the mean leaves. There is no
recurrence: the global model makes the forecast, and no error of the region comes back into it. This is statistical downscaling in its
perfect-prognosis or model-output form, by what it was trained on (Maraun and Widmann, *Statistical Downscaling and Bias Correction for
Climate Research*, Cambridge 2018, chapters 11 and 12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import AnygridError, DataError, FileError
from anygrid.fields import Variable, check_units, find_grid, find_layout, select, to_dataset, to_tensor
from anygrid.fields.variables import coordinate
from anygrid.grid import Grid
from anygrid.numerics.interpolation import interpolate
from anygrid.surrogate.file import read_tensors, surrogate_bytes, surrogate_of_file_bytes, write_tensors
from anygrid.surrogate.model import Surrogate

__all__ = ["KIND", "Downscaling", "onto"]

KIND = "anygrid downscaling"
_VERSION = 2  # 1 had no mean departure
_ROWS = 16  # fields at once


class Downscaling(nn.Module):
    """A map from global fields to those of a region at the same time; its two arguments are those of any :class:`~anygrid.maps.Map`.

    Parameters
    ----------
    correction
        A surrogate on the region's grid, steady: its inputs are ``inputs`` and then the static fields, its outputs what is added to the
        inputs of the same name and the mean departure from them; or to the mean of an output of whose name there is no input.
    inputs, outputs
        Variables of the global fields and of the region.
    static
        Fine fields that do not change, one for each further input of ``correction``.
    mean
        Mean departure of each output at each point of the region, in the output's units.
    provenance
        JSON-able facts on the data.

    Raises
    ------
    DataError
        When channels or fields do not fit.
    """

    static: Tensor
    mean: Tensor

    def __init__(
        self,
        correction: Surrogate,
        inputs: tuple[Variable, ...],
        outputs: tuple[Variable, ...],
        static: Float[Tensor, "fields *region"],
        mean: Float[Tensor, "outputs *points"],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        wanted = len(inputs) + len(static), len(outputs)
        found = len(correction.inputs), len(correction.outputs)
        if wanted != found or tuple(static.shape[1:]) != correction.grid.shape:
            hint = "build it with fit_downscaling"
            raise DataError(
                "Downscaling", f"a correction of {wanted[0]} inputs and {wanted[1]} outputs", f"{found[0]} and {found[1]}", hint
            )
        if tuple(mean.shape) != (len(outputs), *correction.grid.shape):
            wanted_mean = f"a mean departure for each of {len(outputs)} outputs on {'x'.join(map(str, correction.grid.shape))} points"
            raise DataError("Downscaling", wanted_mean, "x".join(map(str, mean.shape)), "build it with fit_downscaling")
        self.correction, self.inputs, self.outputs = correction, tuple(inputs), tuple(outputs)
        self.provenance = dict(provenance or {})
        names = [v.name for v in inputs]
        self.base = tuple(names.index(v.name) if v.name in names else None for v in outputs)
        self.register_buffer("static", static.float(), persistent=False)
        self.register_buffer("mean", mean.float(), persistent=False)

    @property
    def grid(self) -> Grid:
        """Grid of the region."""
        return self.correction.grid

    def forward(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        r"""Fields of the region, of global fields on any grid that covers it.

        On the points of another ``query`` inside the region, :math:`I a` is that at these points; :math:`m + G_\theta` are interpolated
        from those of the region (cubic splines, fourth order).

        Raises
        ------
        GridError
            When the region leaves ``grid``, or ``query`` the region.
        """
        coarse = onto(a, grid, self.grid)
        static = self.static.to(coarse).expand(len(coarse), *self.static.shape)
        departure = self.mean.to(coarse) + self.correction(torch.cat([coarse, static], 1), self.grid)
        if query is None:
            return self.add(coarse, departure)
        return self.add(onto(a, grid, query), onto(departure, self.grid, query))

    def add(
        self, coarse: Float[Tensor, "batch inputs *region"], u: Float[Tensor, "batch outputs *region"]
    ) -> Float[Tensor, "batch outputs *region"]:
        """``u`` plus the interpolated inputs of the same names."""
        shared = [(k, source) for k, source in enumerate(self.base) if source is not None]
        places = torch.tensor([k for k, _ in shared], dtype=torch.long, device=u.device)
        return u.index_add(1, places, coarse[:, [source for _, source in shared]])

    def predict(self, ds: xr.Dataset) -> xr.Dataset:
        """Fields of the region, as a data set: samples, members and times of ``ds`` are kept with their coordinates.

        Raises
        ------
        DataError
            For a missing variable, other units, and values that are not finite.
        GridError
            For fields that do not cover the region.
        """
        names = [v.name for v in self.inputs]
        check_units(ds, self.inputs, "predict")
        data = select(ds, names)
        layout = find_layout(data, names)
        grid, _ = find_grid(data, names, layout)
        a = to_tensor(data, self.inputs, layout, grid)
        with torch.inference_mode():
            u = torch.cat([self(part, grid).float() for part in a.split(_ROWS)])
        leading = {d: coordinate(data, d) for d in layout.leading if d in data.dims}
        out = to_dataset(u, self.outputs, self.grid, leading)
        extra = {k: c for k, c in ds.coords.items() if k not in out.coords and set(c.dims) <= set(leading)}
        return out.assign_coords(extra).assign_attrs(source="anygrid downscaling")

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all: the correction's own file inside, beside the static fields and the mean departure.

        Raises
        ------
        FileError
            When it cannot be written.
        """
        inside = np.frombuffer(surrogate_bytes(self.correction), dtype=np.uint8).copy()
        header = {
            "inputs": [asdict(v) for v in self.inputs],
            "outputs": [asdict(v) for v in self.outputs],
            "provenance": self.provenance,
        }
        tensors = {"correction": torch.from_numpy(inside), "static": self.static, "mean": self.mean}
        write_tensors(Path(path), tensors, KIND, _VERSION, header)

    @staticmethod
    def load(path: str | Path) -> Downscaling:
        """Read one; no code in the file is run.

        Raises
        ------
        FileError
            For a file that is missing, damaged, of another kind or from a newer version.
        """
        where = Path(path)
        header, tensors = read_tensors(where, KIND, _VERSION)
        try:
            correction = surrogate_of_file_bytes(tensors["correction"].numpy().tobytes())
            inputs, outputs = (tuple(Variable(**v) for v in header[side]) for side in ("inputs", "outputs"))
            found = Downscaling(correction, inputs, outputs, tensors["static"], tensors["mean"], header["provenance"])
        except (AnygridError, KeyError, TypeError, AttributeError) as error:
            got = f"{type(error).__name__}: {error}"
            raise FileError(str(path), "a file that describes a downscaling", got, "train it again with `anygrid downscale`") from error
        return found.eval()


def onto(a: Float[Tensor, "batch channel *space"], grid: Grid, region: Grid) -> Float[Tensor, "batch channel *region"]:
    """Plain interpolation to a region, the baseline of every downscaling."""
    return interpolate(a, grid, region, smooth=True)
