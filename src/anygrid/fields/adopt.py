"""Data of any naming and units as the variables that a map knows: found by what they mean, converted where their attributes say how."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import xarray as xr

from anygrid.errors import DataError
from anygrid.fields.conversions import conversion
from anygrid.fields.names import Quantity, quantity_of
from anygrid.fields.units import DIMENSIONLESS, conversion_hint, find_unit, same_units
from anygrid.fields.variables import Variable, select

__all__ = ["ConvertedWarning", "adopt", "check_units"]

_LARGE = 2**26  # bytes above which a converted field stays lazy


class ConvertedWarning(UserWarning):
    """Values were brought from the units of a file to those of a map."""


def adopt(ds: xr.Dataset, variables: Iterable[Variable], where: str) -> xr.Dataset:
    """``ds`` with the variables under their own names and in their own units, whatever the file calls them and measures them in.

    Units are converted where both sides state them: ``degC`` to ``K``, ``hPa`` to ``Pa``, geopotential height to geopotential.
    One :class:`ConvertedWarning` says what was converted. All other variables of ``ds`` stay as they are.

    Raises
    ------
    DataError
        For a variable that is not there, and units that are missing or measure something else.
    """
    chosen = tuple(variables)
    found = select(ds, [v.name for v in chosen])
    said = []
    for v in chosen:
        array, units = found[v.name], str(found[v.name].attrs.get("units", "")).strip()
        if not v.units.strip() or not units or same_units(v.units, units):
            continue
        here, wanted = quantity_of(v.name, array), quantity_of(v.name, xr.DataArray(attrs={"units": v.units}))
        if not _convertible(here, units, wanted, v.units):
            continue
        convert = conversion(v.name, here, units, wanted, v.units, where=where, source="the file", target="the surrogate's")
        if array.chunks is None and array.nbytes > _LARGE:
            array = array.chunk("auto")
        attrs = {**array.attrs, "units": v.units} | ({"standard_name": v.standard_name} if v.standard_name else {})
        found[v.name] = convert(array.astype("float64")).astype(array.dtype).assign_attrs(attrs)
        said.append(convert.said)
    check_units(found, chosen, where)
    if said:
        warnings.warn("; ".join(said), ConvertedWarning, stacklevel=3)
    return ds.assign({str(name): array for name, array in found.data_vars.items()})


def _convertible(found: Quantity, units: str, wanted: Quantity, target: str) -> bool:
    a, b = find_unit(units), find_unit(target)
    if a is None or b is None:
        return False
    return a.alike(b) or (found != wanted and wanted in found.kin)


def check_units(ds: xr.Dataset, variables: Iterable[Variable], where: str) -> None:
    """Refuse data whose units differ from those the variables state.

    CF spellings are understood (``m s-1``, ``m s**-1``, ``m/s``, ``kg m-2``, ``degC``); strings that no unit system knows
    are compared as they stand. A variable that states no units accepts any.

    Raises
    ------
    DataError
        For units that differ or are missing; the hint holds the conversion.
    """
    chosen = tuple(variables)
    data = select(ds, [v.name for v in chosen])
    for variable in chosen:
        wanted, found = variable.units.strip(), str(data[variable.name].attrs.get("units", "")).strip()
        if not wanted or wanted == found:
            continue
        name = variable.name
        if not found and wanted not in DIMENSIONLESS:
            hint = f"if they are right as they are, state so: ds[{name!r}].attrs['units'] = {wanted!r}"
            raise DataError(f"{where}: variable {name!r}", f"units {wanted!r}", "no units", hint)
        if not same_units(wanted, found):
            raise DataError(f"{where}: variable {name!r}", f"units {wanted!r}", repr(found), conversion_hint(name, found, wanted))
