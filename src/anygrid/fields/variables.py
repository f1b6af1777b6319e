"""Variables of a data set: their names, their metadata, and one level picked out of many by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from anygrid.errors import AnygridError, DataError, FileError, did_you_mean
from anygrid.fields.names import not_there, other_name, quantity_of

__all__ = ["Variable", "coordinate", "read_values", "select", "variables_of"]

_SPEC = re.compile(r"^(?P<name>[^@]+)@(?P<picks>[^=@]+=[^@]+)$")


@dataclass(frozen=True)
class Variable:
    """A named physical quantity. ``units`` is a CF unit string; empty means dimensionless or not stated.

    ``masked``: values are missing at the same places at all times (the sea's temperature on land) and are filled from those around them
    (:func:`~anygrid.fields.missing.harmonic_fill`) where fields become tensors.
    """

    name: str
    units: str = ""
    long_name: str = ""
    standard_name: str = ""
    masked: bool = False


def select(ds: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """Data set of just the named variables, in the order named; ``NAME@DIM=VALUE`` picks one entry of a dimension.

    ``select(ds, ["t@level=500", "t@level=850"])`` holds two variables with exactly those names and no ``level``, so that
    levels can serve as channels. Several dimensions are separated by commas: ``u@level=500,number=0``. On a dimension
    without coordinates VALUE is an index. A name that is not there is looked for by what it means, so that ``z500`` finds
    ``geopotential@level=500`` (:func:`anygrid.fields.names.other_name`). Nothing is read or copied.

    Raises
    ------
    DataError
        For a variable, dimension or value that is not there; the hint names the nearest one.
    """
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        raise DataError("variables", "at least one name", "none", did_you_mean("", map(str, ds.data_vars)))
    return xr.Dataset({name: _field(ds, name) for name in wanted}, attrs=ds.attrs)


def variables_of(ds: xr.Dataset, names: Iterable[str]) -> tuple[Variable, ...]:
    """Name, units, long name and standard name of each named variable, from its CF attributes.

    Raises
    ------
    DataError
        For a name that is not in the data set, with the nearest one that is.
    """
    out = []
    for name in names:
        attrs = _field(ds, name).attrs
        units, long_name, standard_name = (str(attrs.get(key, "")).strip() for key in ("units", "long_name", "standard_name"))
        out.append(Variable(name, units, long_name, standard_name))
    return tuple(out)


def coordinate(ds: xr.Dataset | xr.DataArray, name: str) -> xr.DataArray | None:
    """Coordinate of that name, or None; ``ds.coords.get`` would make up 0, 1, 2... for a dimension without one."""
    return ds.coords[name] if name in ds.coords else None  # noqa: SIM401 - get would make one up


def read_values(array: xr.DataArray) -> NDArray[Any]:
    """Values of a possibly lazy array.

    Raises
    ------
    FileError
        When the file behind it cannot be read there (data lost behind an intact header).
    """
    try:
        return np.asarray(array.values)
    except AnygridError:
        raise
    except Exception as error:
        # Readers and codecs raise nearly anything on damaged bytes; all of it means the same to the user.
        source = str(array.encoding.get("source", "")) or f"variable {array.name!r}"
        got = f"{type(error).__name__} ({str(error)[:120]})"
        damaged, remote = "the file may be truncated or damaged; write it again", "check the network, and run the same command again"
        raise FileError(source, f"readable values of {array.name!r}", got, remote if "://" in source else damaged) from error


def _field(ds: xr.Dataset, name: str) -> xr.DataArray:
    if name in ds.data_vars:
        return ds[name]
    found = _SPEC.match(name)
    if found and found["name"] in ds.data_vars:
        array = ds[found["name"]]
        picks = [(dim.strip(), value.strip()) for dim, _, value in (pick.partition("=") for pick in found["picks"].split(","))]
        # Levels go by many names: z@level=500 is also z@isobaricInhPa=500.
        elsewhere = not all(dim in array.dims for dim, _ in picks) and quantity_of(name).level is not None
        other = other_name(ds, name) if elsewhere else None
        if other is not None:
            return _field(ds, other).rename(name)
        for dim, value in picks:
            array = _pick(array, dim, value)
        return array.rename(name)
    if name in ds.coords:
        raise DataError(
            f"variable {name!r}", "a field", "a coordinate", "name a data variable: " + did_you_mean("", map(str, ds.data_vars))
        )
    other = other_name(ds, name)
    if other is None:
        raise not_there(ds, name)
    return _field(ds, other).rename(name)


def _pick(array: xr.DataArray, dim: str, text: str) -> xr.DataArray:
    where = f"{array.name}@{dim}={text}"
    if dim not in array.dims:
        raise DataError(where, f"a dimension of {array.name!r}", repr(dim), did_you_mean(dim, map(str, array.dims)))
    size = array.sizes[dim]
    if dim not in array.coords:
        if not re.fullmatch(r"\d+", text) or int(text) >= size:
            raise DataError(where, f"an index from 0 to {size - 1} ({dim} has no coordinates)", repr(text))
        return array.isel({dim: int(text)}, drop=True)
    values = np.asarray(array[dim].values)
    try:
        if np.issubdtype(values.dtype, np.datetime64):
            same = values == np.datetime64(text)
        elif np.issubdtype(values.dtype, np.number):
            same = np.isclose(values.astype(np.float64), float(text), rtol=1e-6, atol=0)
        else:
            same = values.astype(str) == text
    except ValueError:
        same = np.zeros(size, dtype=bool)
    if not same.any():
        shown = ", ".join(str(v) for v in values[:12]) + (", ..." if size > 12 else "")
        raise DataError(where, f"a value of {dim!r}", repr(text), f"choose from: {shown}")
    return array.isel({dim: int(same.argmax())}, drop=True)
