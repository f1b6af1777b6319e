"""Roles of dimensions: what is recognised, and what is asked for."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from anygrid.errors import DataError
from anygrid.fields import Layout, find_layout, select, variables_of


def data(coords=None, **dims):
    return xr.Dataset({"u": (tuple(dims), np.zeros(tuple(dims.values()), dtype=np.float32))}, coords)


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (data(sample=3, x=4), Layout(("sample",), None, ("x",))),
        (data(trajectory=3, time=5, x=4, y=4), Layout(("trajectory",), "time", ("x", "y"))),
        (data(number=2, t=5, latitude=4, longitude=6), Layout(("number",), "t", ("latitude", "longitude"))),
        (data({"lon": np.arange(6.0), "lat": np.arange(4.0)}, time=5, lon=6, lat=4), Layout((), "time", ("lat", "lon"))),
        (data({"q": pd.date_range("2000", periods=5)}, q=5, x=4), Layout((), "q", ("x",))),
        (data({"q": ("q", np.arange(5.0), {"units": "days since 2000-01-01"})}, q=5, x=4), Layout((), "q", ("x",))),
        (data({"q": ("q", np.arange(5.0), {"axis": "T"})}, q=5, x=4), Layout((), "q", ("x",))),
        (data({"e": ("e", np.arange(5), {"standard_name": "realization"})}, e=5, x=4), Layout(("e",), None, ("x",))),
        (data({"h": ("h", np.arange(5.0), {"axis": "X"})}, sample=2, h=5), Layout(("sample",), None, ("h",))),
        (data(sample=2, level=1, x=5), Layout(("sample",), None, ("x",))),
        (data({"height": np.arange(0.0, 40.0)}, sample=2, height=40), Layout(("sample",), None, ("height",))),
        (data({"px": ("site", np.arange(5.0)), "y": ("site", np.arange(5.0))}, time=2, site=5), Layout((), "time", ("site",))),
    ],
)
def test_roles_are_recognised(ds, expected):
    assert find_layout(ds, ["u"]) == expected


@pytest.mark.parametrize("dim", ["level", "plev", "isobaricInhPa", "height", "depth", "dim_1", "channel", "foo"])
def test_ambiguous_dimensions_are_asked_for(dim):
    with pytest.raises(DataError, match=f"'{dim}'.*\n.*--space.*--samples") as caught:
        find_layout(data(sample=2, **{dim: 5}, x=4), ["u"])
    assert f"u@{dim}=" in caught.value.hint


def test_the_answer_to_the_question_is_taken():
    ds = data(sample=2, level=5, x=4)
    assert find_layout(ds, ["u"], space=["level", "x"]) == Layout(("sample",), None, ("level", "x"))
    assert find_layout(ds, ["u"], samples=["level"]) == Layout(("sample", "level"), None, ("x",))
    assert find_layout(ds, ["u"], time="level") == Layout(("sample",), "level", ("x",))


def test_with_space_given_nothing_else_is_space():
    with pytest.raises(DataError, match="'y'"):
        find_layout(data(sample=2, y=5, x=4), ["u"], space=["x"])


def test_misnamed_role_has_a_suggestion():
    with pytest.raises(DataError, match=r"did you mean 'sample'\?"):
        find_layout(data(sample=2, x=4), ["u"], samples=["smaple"])
    with pytest.raises(DataError, match="named twice"):
        find_layout(data(sample=2, x=4), ["u"], samples=["x"], space=["x"])


def test_two_times_are_asked_about():
    ds = data({"step": pd.timedelta_range("1h", periods=3)}, time=2, step=3, x=4)
    with pytest.raises(DataError, match="second time beside 'time'"):
        find_layout(ds, ["u"])
    assert find_layout(ds, ["u"], time="step", samples=["time"]) == Layout(("time",), "step", ("x",))


def test_no_space_is_an_error():
    with pytest.raises(DataError, match="at least one space dimension"):
        find_layout(data(sample=2, time=4), ["u"])


def test_inputs_and_outputs_on_different_grids():
    ds = xr.Dataset({"a": (("sample", "x", "y"), np.zeros((2, 4, 4))), "u": (("sample", "u_x", "u_y"), np.zeros((2, 8, 8)))})
    with pytest.raises(DataError, match=r"a on \(x 4, y 4\) and u on \(u_x 8, u_y 8\)"):
        find_layout(ds, ["a", "u"])


def test_a_static_field_or_a_parameter_is_on_the_same_grid():
    ds = data(sample=2, x=4, y=4).assign(k=("sample", [1.0, 2.0]), f=("y", np.zeros(4)))
    assert find_layout(ds, ["k", "f", "u"]).space == ("x", "y") or set(find_layout(ds, ["k", "f", "u"]).space) == {"x", "y"}


def test_one_level_is_picked_by_value():
    ds = xr.Dataset({"t": (("time", "level", "x"), np.arange(24.0).reshape(2, 3, 4))}, {"level": [850, 500, 250]})
    ds.t.attrs["units"] = "K"
    one = select(ds, ["t@level=500", "t@level=250"])
    assert list(one.data_vars) == ["t@level=500", "t@level=250"]
    np.testing.assert_array_equal(one["t@level=500"], ds.t[:, 1])
    assert variables_of(ds, ["t@level=500"])[0].units == "K"
    assert find_layout(ds, ["t@level=500"]) == Layout((), "time", ("x",))
    np.testing.assert_array_equal(select(ds, ["t@level=500,time=1"])["t@level=500,time=1"], ds.t[1, 1])
    np.testing.assert_array_equal(select(one, ["t@level=500"])["t@level=500"], ds.t[:, 1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tt", "did you mean 't'"),
        ("t@level=501", "choose from: 850, 500, 250"),
        ("t@height=500", "a dimension of 't'"),
        ("t@time=7", "an index from 0 to 1"),
        ("t@level=abc", "choose from"),
        ("level", "a coordinate"),
    ],
)
def test_wrong_names_are_explained(name, message):
    ds = xr.Dataset({"t": (("time", "level", "x"), np.zeros((2, 3, 4)))}, {"level": [850, 500, 250]})
    with pytest.raises(DataError, match=message):
        select(ds, [name])


def test_metadata_are_kept():
    ds = data(sample=2, x=4)
    ds.u.attrs = {"units": "m s-1", "long_name": "speed", "standard_name": "wind_speed"}
    (v,) = variables_of(ds, ["u"])
    assert (v.name, v.units, v.long_name, v.standard_name) == ("u", "m s-1", "speed", "wind_speed")
