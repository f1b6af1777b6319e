"""The equation in a surrogate's file: kept, read through a fixed table, refused when it was tampered with; and where fit learns of it."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refine_support import near
from tiny_problems import Beam
from training_support import Pointwise, pointwise

from anygrid.errors import FileError
from anygrid.grid import Periodic
from anygrid.io.store import generate
from anygrid.problems.burgers import Burgers
from anygrid.problems.darcy import Darcy
from anygrid.problems.distributions import LogUniform
from anygrid.problems.equation import EquationProblem
from anygrid.problems.from_text import Equation
from anygrid.problems.helmholtz import Helmholtz
from anygrid.problems.kuramoto_sivashinsky import KuramotoSivashinsky
from anygrid.problems.navier_stokes import NavierStokes
from anygrid.problems.stored import problem_from_json, problem_of, problem_to_json
from anygrid.surrogate import Surrogate
from anygrid.surrogate.file import read_tensors, write_tensors
from anygrid.training import fit

MARCH = Equation(
    "u_t = -u*u_x + nu*u_xx", {"x": Periodic(0, 2)}, parameters={"nu": LogUniform(0.01, 0.1)}, units={"u": "m s-1"}, dt=0.1, steps=3
)
PROBLEMS = (
    Darcy(high=10.0, mean="harmonic"),
    Helmholtz(wavenumber=3.0),
    Burgers(dt=0.5),
    NavierStokes(),
    KuramotoSivashinsky(),
    MARCH,
)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: type(p).__name__)
def test_round_trip(problem):
    found = problem_from_json(json.loads(json.dumps(problem_to_json(problem))))
    assert found == problem
    assert type(found) is type(problem)
    assert hash(found) == hash(problem)


def saved(tmp_path, problem):
    surrogate = near(problem, 9, operator=Pointwise(len(problem.inputs), len(problem.outputs)))
    surrogate.save(tmp_path / "s.anygrid")
    return tmp_path / "s.anygrid"


def test_a_file_keeps_the_equation_and_an_older_one_has_none(tmp_path):
    path = saved(tmp_path, MARCH)
    assert Surrogate.load(path, operators=(Pointwise,)).problem == MARCH
    header, tensors = read_tensors(path, "anygrid surrogate", 1)
    del header["problem"]
    write_tensors(path, tensors, "anygrid surrogate", 1, header)
    assert Surrogate.load(path, operators=(Pointwise,)).problem is None


def test_a_problem_of_ones_own_is_not_stored(tmp_path):
    assert problem_to_json(Beam()) is None
    assert Surrogate.load(saved(tmp_path, Beam()), operators=(Pointwise,)).problem is None


TAMPERED = [
    ({"name": "Path"}, r"a problem this version knows, got 'Path'"),
    ({"name": "os.system"}, "a problem this version knows"),
    ({"name": None}, "a problem this version knows, got None"),
    ({"name": ["Darcy"]}, "a problem this version knows"),
    ({"parameters": {"tau": "__import__('os')"}}, "tau of Darcy as the class declares it"),
    ({"parameters": {"tau": True}}, "tau of Darcy"),
    ({"parameters": {"tau": -1.0}}, "a positive number"),
    ({"parameters": {"tau": 10**400}}, "parameters that Darcy accepts"),
    ({"parameters": {"modes": 2.5}}, "modes of Darcy"),
    ({"parameters": {"mean": "geometric"}}, "mean of Darcy"),
    ({"parameters": {"solver": "magic"}}, "a linear solver"),
    ({"parameters": {"taw": 3.0}}, r"parameters of Darcy, got 'taw'"),
    ({"parameters": {"__class__": "x"}}, "parameters of Darcy"),
    ({"parameters": [1]}, "a name and parameters"),
    ({"parameters": {}, "code": "import os"}, "a name and parameters"),
    ({"name": "EquationProblem", "parameters": {}}, "accepts"),
    (
        {
            "name": "EquationProblem",
            "parameters": {"equations": ["u_t = __import__('os').system('x')"], "domain": [["x", "periodic(0, 1)"]]},
        },
        "accepts",
    ),
    ({"name": "EquationProblem", "parameters": {"equations": "u_t = u_xx", "domain": [["x", "periodic(0, 1)"]]}}, "equations of Equation"),
    ({"name": "EquationProblem", "parameters": {"equations": ["u_t = -u_xx"], "domain": [["x", "periodic(0, 1)"]], "dt": 0.1}}, "accepts"),
    ({"name": "EquationProblem", "parameters": {"equations": ["(" * 5000 + "u"], "domain": [["x", "periodic(0, 1)"]]}}, "accepts"),
    ({"name": "Helmholtz", "parameters": {}}, "describes a surrogate"),  # a good problem of other variables
]


@pytest.mark.parametrize(("change", "says"), TAMPERED)
def test_a_tampered_equation_is_refused(tmp_path, change, says):
    path = saved(tmp_path, Darcy())
    header, tensors = read_tensors(path, "anygrid surrogate", 1)
    header["problem"] = {**header["problem"], **change}
    write_tensors(path, tensors, "anygrid surrogate", 1, header)
    with pytest.raises(FileError, match=says) as caught:
        Surrogate.load(path, operators=(Pointwise,))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda s: st.lists(s, max_size=3), max_leaves=6
)
FIELDS = sorted({*problem_to_json(Darcy())["parameters"], *problem_to_json(MARCH)["parameters"], "x"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["Darcy", "Burgers", "EquationProblem", "Problem", ""]), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_whatever_stands_there_it_is_a_problem_or_a_file_error(name, parameters):
    try:
        problem_from_json({"name": name, "parameters": parameters})
    except FileError:
        return


def test_fit_learns_the_equation_from_what_generate_wrote(tmp_path):
    data = xr.open_zarr(generate(MARCH, 4, 16, tmp_path / "d.zarr", workers=0, label_check=0))
    small = {"operator": pointwise, "steps": 1, "batch": 2, "unroll": 1, "validation": 0}
    names = ["u", "nu"], ["u"]
    assert fit(data, *names, lead=1, **small).problem == MARCH
    # Twice the lead is the same equation with twice the step.
    double = fit(data, *names, lead=2, **small).problem
    assert double == EquationProblem(**{**{k: getattr(MARCH, k) for k in problem_to_json(MARCH)["parameters"]}, "dt": 0.2})
    # Another map than the solution map has no equation here.
    assert fit(data, ["u"], ["u"], lead=1, **small).problem is None
    assert fit(data, ["nu", "u"], ["u"], lead=1, **small).problem is None


def test_attributes_of_others_name_no_problem():
    good = {"problem": "anygrid.problems.darcy.Darcy", "parameters": json.dumps(problem_to_json(Darcy())["parameters"])}
    names = ["permeability"], ["pressure"]
    assert problem_of(good, *names, None) == Darcy()
    for wrong in (
        {"problem": "os.path"},
        {"problem": 3},
        {"parameters": "{"},
        {"parameters": "[]"},
        {"parameters": np.ones(2)},
        {"parameters": '{"tau": -1}'},
    ):
        assert problem_of({**good, **wrong}, *names, None) is None
    assert problem_of({}, *names, None) is None
    assert problem_of(good, *names, "0.5") is None
    march = {"problem": "anygrid.problems.burgers.Burgers", "parameters": json.dumps(problem_to_json(Burgers())["parameters"])}
    for dt, wanted in (("1", 1.0), ("3", 3.0), ("0.5", None), ("1.01", None), ("1month", None)):
        found = problem_of(march, ["velocity"], ["velocity"], dt)
        assert (None if found is None else found.dt) == wanted


def test_copies_share_no_weights_but_the_equation():
    import copy

    surrogate = near(MARCH, 9, operator=Pointwise(2, 1))
    twin = copy.deepcopy(surrogate)
    assert twin.problem == MARCH
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert not torch.equal(next(twin.parameters()), next(surrogate.parameters()))
