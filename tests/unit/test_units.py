"""Units: spellings of one unit pass, other units do not, and the hint converts."""

import numpy as np
import pytest
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields import Variable, check_units


def data(units):
    attrs = {} if units is None else {"units": units}
    return xr.Dataset({"u": ("x", np.array([10.0, 20.0]), attrs)})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("m s-1", "m/s"),
        ("m s**-1", "m s-1"),
        ("kg m-2", "kg/m^2"),
        ("m2 s-2", "J/kg"),
        ("m**2 s**-2", "m2/s2"),
        ("degC", "degrees_Celsius"),
        ("Pa", "N m-2"),
        ("hPa", "millibars"),
        ("K", "kelvin"),
        ("1", ""),
        ("", "K"),
        ("kg kg**-1", "1"),
        ("%", "percent"),
        ("gribbles", "Gribbles"),
        ("W m-2", "W m**-2"),
        ("m.s-1", "m s-1"),
    ],
)
def test_same_unit_passes(wanted, found):
    check_units(data(found), [Variable("u", wanted)], "predict")


@pytest.mark.parametrize(
    ("wanted", "found", "values"),
    [
        ("K", "degC", [283.15, 293.15]),
        ("hPa", "Pa", [0.1, 0.2]),
        ("m s-1", "km h-1", [2.7777777778, 5.5555555556]),
        ("K", "degF", [260.92777778, 266.4833333]),
    ],
)
def test_the_hint_converts(wanted, found, values):
    ds = data(found)
    with pytest.raises(DataError, match="predict: variable 'u'") as caught:
        check_units(ds, [Variable("u", wanted)], "predict")
    scope = {"ds": ds}
    exec(caught.value.hint.removeprefix("convert with "), scope)
    np.testing.assert_allclose(scope["ds"].u.values, values, rtol=1e-8)
    check_units(scope["ds"], [Variable("u", wanted)], "predict")


@pytest.mark.parametrize(("wanted", "found"), [("K", "m"), ("K", None), ("gribbles", "m"), ("1", "K"), ("K", "%$&("), ("m s-1", "1")])
def test_other_units_are_refused(wanted, found):
    with pytest.raises(DataError, match="'u'"):
        check_units(data(found), [Variable("u", wanted)], "predict")
