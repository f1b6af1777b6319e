"""Whatever is typed: exit code 0 or 2, a sentence, no traceback, and no file that was not asked for."""

import json
import sys

import pytest
from cli_support import wave_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anygrid.cli import main

_OPTIONS = [
    "--inputs",
    "--outputs",
    "--lead",
    "--select",
    "--steps",
    "--budget",
    "--epochs",
    "--operator",
    "--modes",
    "--resolution",
    "--like",
]
_OPTIONS += ["--points", "--periodic", "--space", "--validation", "--set", "-n", "-o", "--json", "--overwrite", "--", "--help", "--version"]
_VALUES = [
    "odd.nc",
    "*.nc",
    "thetao_con",
    "month=1999:1999",
    "month=",
    "0",
    "-1",
    "1e99",
    "nan",
    "9x16",
    "default",
    "fno",
    "no.toml",
    "x.nc",
    "",
    " ",
    "=",
    "@",
    "\x00",
]
# Commands that would really work long on valid words are given no problem that exists.
_COMMANDS = ["fit", "predict", "evaluate", "forecast", "info", "problems", "generate", "report", "run", "frobnicate", ""]
_WORDS = st.one_of(st.sampled_from(_OPTIONS), st.sampled_from(_VALUES), st.text(max_size=12))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    wave_file(folder / "odd.nc", times=2)  # one pair: nothing that could be trained on
    return folder


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(_COMMANDS), words=st.lists(_WORDS, max_size=7))
def test_any_words_end_well(place, monkeypatch, capsys, command, words):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as leave:
        main([command, *words])
    said = capsys.readouterr()
    assert leave.value.code in (0, 2), said.err
    assert "Traceback" not in said.err
    if leave.value.code == 2:
        assert said.err.count("error: ") >= 1
        assert "hint: " in said.err
    assert sorted(p.name for p in place.iterdir() if p.name != "runs") == ["odd.nc"]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".nc", ".anygrid", ".toml", ".csv", ".npz", ".pt", ".grib", ".mat", ""]))
def test_info_on_any_bytes(tmp_path, capsys, data, suffix):
    path = tmp_path / f"bytes{suffix}"
    path.write_bytes(data)
    with pytest.raises(SystemExit) as leave:
        main(["info", str(path), "--json"])
    said = capsys.readouterr()
    assert leave.value.code in (0, 2), said.err
    if leave.value.code == 0:
        json.loads(said.out)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.dictionaries(st.sampled_from(["command", "problem", "n", "data", "x"]), st.sampled_from(["run", "fit", "q", 3])).map(str),
    )
)
def test_run_on_any_toml(tmp_path, capsys, text):
    path = tmp_path / "run.toml"
    path.write_text(f"[request]\n{text}" if len(text) % 2 else text, encoding="utf-8", errors="replace")
    with pytest.raises(SystemExit) as leave:
        main(["run", str(path), "--out", str(tmp_path / "out")])
    assert leave.value.code == 2
    assert "hint: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_main_reads_the_words_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anygrid", "--version"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 0
    assert capsys.readouterr().out.startswith("anygrid ")
