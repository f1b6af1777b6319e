"""Every equation of the catalogue keeps the contract of a problem, as the ones written by hand do."""

import pytest

from anygrid.problems.catalogue import CATALOGUE
from anygrid.problems.check import check_problem

RESOLUTION = {1: 65, 2: 25, 3: 17}
FINER = {"cahn-hilliard": 64, "swift-hohenberg": 64}  # their patterns have a width of their own


@pytest.mark.parametrize("name", CATALOGUE)
def test_contract(name):
    problem = CATALOGUE[name]()
    check_problem(problem, FINER.get(name, RESOLUTION[len(problem.domain)]))
    assert problem.card.solver
