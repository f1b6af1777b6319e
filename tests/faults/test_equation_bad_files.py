"""A broken equation file is a short message with exit code 2, at once; nothing in it runs as code."""

import time

import pytest
from cli_support import call

HEAD = '[equation]\nequations = "u_t = u_xx"\ndomain = { x = "periodic(0, 1)" }\n'
ENDS = '[equation]\nequations = "u_t = u_xx"\ndomain = { x = "bounded(0, 1)" }\n'
KNOWN = '[equation]\nequations = "u_t = a*u_xx"\ndomain = { x = "periodic(0, 1)" }\n'


def one(equations: str, more: str = "") -> str:
    return f'[equation]\nequations = {equations}\ndomain = {{ x = "periodic(0, 1)" }}\n{more}'


BAD = {
    "no TOML": ("[equation\n", "valid TOML"),
    "no table": ("x = 1\n", "[equation]"),
    "a number for equations": (one("3"), "list of texts"),
    "numbers for equations": (one("[1, 2]"), "list of texts"),
    "a table for equations": (one('{ a = "u_t = u_xx" }'), "list of texts"),
    "infinite domain": (HEAD.replace("(0, 1)", "(0, inf)"), "finite"),
    "overflowing domain": (HEAD.replace("(0, 1)", "(-1e308, 1e308)"), "finite"),
    "domain as a list": (HEAD.replace('"periodic(0, 1)"', "[0, 1]"), "domain"),
    "four axes": (HEAD.replace("{ ", '{ y = "periodic()", z = "periodic()", w = "periodic()", '), "three dimensions"),
    "unbalanced": (one('"u_t = (u_xx"'), "parenthesis is not closed"),
    "caret": (one('"u_t = u_xx + u^2"'), "powers as **"),
    "fractions": (one('"du/dt = d2u/dx2"'), "u_t for du/dt"),
    "laplacian": (one('"u_t = laplacian(u)"'), "write lap"),
    "rate inside": (one('"u_t - u_xxt = u"'), "u - u_xx = m"),
    "time": (one('"u_t = u_xx + sin(t)"'), "no clock"),
    "more unknowns": (one('"u_t = v_xx"'), "unknowns u, v"),
    "more equations": (one('["u_t = u_xx", "u_t = u"]'), "2 equations"),
    "unknown nowhere": (HEAD + 'unknown = "v"\n', "'v'"),
    "condition on a periodic domain": (HEAD + 'boundary = "u = 0"\n', "periodic"),
    "no condition": (ENDS, "a condition for 'u'"),
    "condition on one side": (ENDS + 'boundary = { x = ["u = 0", ""] }\n', "upper side"),
    "three conditions": (ENDS + 'boundary = { x = ["u = 0", "u = 0", "u = 1"] }\n', "pair"),
    "condition as a number": (ENDS + "boundary = { x = 0 }\n", "pair"),
    "two conditions on one side": (ENDS + 'boundary = ["u = 0", "u = 1"]\n', "one condition for 'u'"),
    "number for all conditions": (ENDS + "boundary = 0\n", "pair"),
    "condition as a word": (ENDS + 'boundary = "dirichlet"\n', "u_n + h*u = value"),
    "backward heat": (one('"u_t = -u_xx"'), "sign of -u_xx"),
    "type that changes": (KNOWN + 'parameters = { a = "uniform(-1, 1)" }\n', "range of a"),
    "exponents made to hang": (one('"u_t = 9**9**9**9*u"'), "exponent"),
    "too long": (one('"u_t = ' + "+".join(f"sin({k}*u)" for k in range(9000)) + '"'), "4000"),
    "too many": (one("[" + ",".join(f'"u{k}_t = u{k}"' for k in range(400)) + "]"), "20 equations"),
    "code": (one("\"u_t = __import__('os').system('touch ran')\""), "column 7"),
    "code in a start": (HEAD + "initial = { u = \"open('ran', 'w')\" }\n", "u = "),
    "dt as a switch": (HEAD + "dt = true\n", "number"),
    "dt of nothing": (HEAD + "dt = nan\n", "finite time"),
    "no arguments": (KNOWN + 'parameters = { a = "uniform()" }\n', "no low"),
    "infinite range": (KNOWN + 'parameters = { a = "uniform(1, inf)" }\n', "finite"),
    "misspelt distribution": (KNOWN + 'parameters = { a = "unifrom(1, 2)" }\n', "'uniform'"),
    "misspelt argument": (HEAD + 'initial = { u = "random(lenght=1)" }\n', "'length'"),
    "start of a steady equation": (ENDS.replace("u_t =", "-1 =") + 'boundary = "u = 0"\ninitial = { u = 1 }\n', "no initial state"),
    "nothing to learn": (ENDS.replace("u_t =", "-1 =") + 'boundary = "u = 0"\n', "differs from sample to sample"),
    "units as a number": (HEAD + "units = { u = 3 }\n", "units"),
    "names as numbers": (HEAD + "state = [1]\n", "list of names"),
    "a start that is infinite": (HEAD + 'initial = { u = "1/x" }\ndt = 0.1\n', "finite"),
    "nothing that changes": (HEAD + "initial = { u = 1 }\n", "stays as it starts"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(name, tmp_path, monkeypatch, capsys):
    text, match = BAD[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(text)
    started = time.process_time()
    code, out, err = call(capsys, "problems", "bad.toml")
    assert code == 2
    assert not out
    assert match in err
    assert "bug in anygrid" not in err
    assert len(err) < 700
    assert time.process_time() - started < 8  # type checks under pytest cost a factor of 4 and more
    assert not (tmp_path / "ran").exists()


def test_case_of_distributions_does_not_matter(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(KNOWN + 'parameters = { a = "Uniform(1, 2)" }\ndt = 0.1\n')
    code, out, _ = call(capsys, "problems", "mine.toml")
    assert code == 0
    assert "a = uniform(low=1.0, high=2.0)" in out


def test_the_list_makes_no_problem(monkeypatch, capsys):
    from anygrid.problems import catalogue

    monkeypatch.setattr(catalogue, "Equation", None)
    code, out, _ = call(capsys, "problems")
    assert code == 0
    assert "u_t = -6*u*u_x - u_xxx" in out
