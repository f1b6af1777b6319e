"""Four processes for the tests of this folder, started when the first asks for them."""

import pytest
from processes_support import Processes


@pytest.fixture(scope="session")
def processes():
    made = Processes(4)
    yield made
    made.close()
