import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anygrid.errors import FileError
from anygrid.evaluate import Costs, Report, TensorExamples, evaluate
from anygrid.evaluate.result import duration
from anygrid.fields import Variable
from anygrid.grid import Axis, Bounded, Box, Periodic, Points, Sphere
from anygrid.metrics.errors import Estimate
from anygrid.report import page, write_report
from anygrid.report.pictures import picture
from anygrid.report.tables import interval, number

sys.path.insert(0, str(Path(__file__).parents[1]))
from evaluate_support import Decay, Rod

EVIL = '<script>alert("x")</script>&'


@pytest.fixture(scope="module")
def rod():
    return evaluate(
        {EVIL: lambda a, g: 1.05 * Rod().solve(a, g)}, Rod(), resolutions=[17, 33], n=4, timing_seconds=0.01, costs=Costs(1.0, 2.0)
    )


def whole(report):
    record = [
        {"step": i, "seconds": 10.0 * i, "loss": math.exp(-i), "validation": None if i % 2 else 2 * math.exp(-i), "lr": 1e-3}
        for i in range(30)
    ]
    return page(report, training_record=record, data_card={"note": EVIL}, model_card={"arguments": {"width": 32}}, title=EVIL, command=EVIL)


@pytest.fixture(scope="module")
def html(rod):
    return whole(rod)


def test_nothing_foreign_reaches_the_page_unescaped(html):
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10


def test_page_asks_for_nothing_from_outside_and_is_small(html):
    assert not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert "@import" not in html
    assert "url(http" not in html
    assert len(html) < 1_500_000


def test_ids_are_unique_and_references_resolve(html):
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'href="#([^"]+)"', html))
    assert wanted
    assert wanted <= set(ids)


def test_text_follows_the_colour_of_the_page(html):
    assert "currentColor" in html
    assert "#010203" not in html


def test_all_sections_are_there(html):
    for title in (
        "Fields",
        "Error against resolution",
        "Cost against error",
        "Error by scale",
        "Training",
        "Cards",
        "To repeat it",
        "Machine",
    ):
        assert f"<h2>{title}</h2>" in html
    assert "<h2>Roll-out</h2>" not in html
    assert "never" in html or "repay" in html


def test_roll_out_section_and_title():
    report = evaluate({"m": lambda a, g: 0.5 * a}, Decay(), resolutions=[16], reference=32, n=2, timing=False)
    html = page(report)
    assert "<h2>Roll-out</h2>" in html
    assert "<h1>Test &lt;problem&gt; &amp; co</h1>" in html
    assert "<h2>Cost against error</h2>" not in html


def grids():
    uneven = tuple((np.linspace(0, 1, 9) ** 1.5).tolist())
    random = np.random.default_rng(0)
    return {
        "long": Box.uniform({"x": Bounded(0, 100), "y": Bounded()}, (9, 12)),
        "uneven": Box((Axis("x", Bounded(), 9, "nodes", uneven), Axis("y", Periodic(), 8))),
        "volume": Box.uniform({"x": Bounded(), "y": Bounded(), "z": Periodic()}, (6, 7, 8)),
        "sphere": Sphere.gauss(8, 16),
        "points": Points(random.random((20, 2)), ("x", "y"), (Bounded(), Bounded())),
        "line of points": Points(random.random((20, 1)), ("x",), (Bounded(),)),
    }


@pytest.mark.parametrize("kind", list(grids()))
def test_every_kind_of_grid_has_a_picture(kind):
    grid = grids()[kind]
    a = torch.randn(5, 2, *grid.shape, generator=torch.Generator().manual_seed(0))
    outputs = (Variable("p", "Pa"),)
    u = a[:, :1] ** 3
    data = TensorExamples(a, u, grid, (Variable("a", "m"), Variable("b")), outputs)

    def broken(x, grid):
        return torch.full((len(x), 1, *grid.shape), torch.nan)

    report = evaluate({"half": lambda x, g: 0.5 * x[:, :1] ** 3, "broken": broken}, data, timing=False)
    drawn = picture(report, report.examples[0], "fields")
    assert "p (Pa)" in drawn
    assert drawn.startswith("<svg role=")
    if kind == "sphere":
        html = page(report)
        assert "not finite in" in html
        assert drawn.replace("fields-", "fields0-").split("aria-label")[1] in html
        assert page(Report.from_json(report.to_json())) == html


def test_written_files_and_round_trip(rod, tmp_path):
    path = write_report(rod, tmp_path / "new" / "folder")
    assert path.name == "report.html"
    assert sorted(p.name for p in path.parent.iterdir()) == ["metrics.json", "report.html"]
    again = Report.from_json(path.parent / "metrics.json")
    assert again.scores == rod.scores
    assert again.comparisons == rod.comparisons
    assert again.timings == rod.timings
    assert np.array_equal(again.examples[0].truth, rod.examples[0].truth)
    assert again.to_json() == rod.to_json()


def test_table_for_a_terminal(rod):
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(rod.table())
    text = console.export_text().split("VRMSE")[1]
    assert "solved at" in text
    assert text.index("alert") < text.index("mean") < text.index("solver")


def test_folder_that_cannot_be_written(rod, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="a folder that can be written"):
        write_report(rod, tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "cut or not JSON"),
        ("[1]", "written by anygrid"),
        ('{"format": 99}', "update anygrid"),
        ('{"format": 1, "subject": "x"}', "complete report"),
    ],
)
def test_foreign_truncated_and_newer_reports(text, word):
    with pytest.raises(FileError, match=word):
        Report.from_json(text)


def test_numbers_and_durations():
    assert number(0.012345) == "0.0123"
    assert number(-3e-7) == "&minus;3.00&thinsp;&times;&thinsp;10<sup>&minus;7</sup>"
    assert number(math.inf) == number(None) == "&ndash;"
    assert interval(Estimate(2e-5, 1e-5, 3e-5, 9)) == "2 <small>1&ndash;3</small>&thinsp;&times;&thinsp;10<sup>&minus;5</sup>"
    assert [duration(s) for s in (3e-6, 0.0021, 4.0, 300.0, 9000.0)] == ["3 µs", "2.1 ms", "4 s", "5 min", "2.5 h"]
