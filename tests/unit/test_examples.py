"""Every example runs as it stands, in an empty folder, and says something."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
NEED_DATA = {"real_era5"}  # run by tests of their own, where the data are
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if path.stem not in NEED_DATA)


def test_there_are_examples():
    assert len(EXAMPLES) >= 7


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert said.strip()
    assert "nan" not in said.lower().split()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_is_short_and_says_what_it_shows(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    assert lines[0].startswith('"""')
