"""An evaluation shared by processes or a Dask cluster finds what one process finds, and times nothing there."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from cli_support import call
from cluster_support import Site
from evaluate_support import Deadly, Decay, Rod, halve, refuse

from anygrid.errors import AnygridError, DataError, UsageError
from anygrid.evaluate import TensorExamples, evaluate, rows
from anygrid.io.cluster import connect
from anygrid.io.workers import Workers
from anygrid.operators import FNO
from anygrid.statistics import Moments, Statistics
from anygrid.surrogate import Surrogate


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("site"), 2)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr(rows, "_VALUES", 40)


def surrogate(problem, resolution, dt=None):
    """Untrained, of a size that takes no time."""
    torch.manual_seed(0)
    plain = Moments(2, (0.0,), (2.0,), (-9.0,), (9.0,))
    grid = problem.grid(resolution)
    operator = FNO(1, 1, [i.periodic for i in grid.domain], [5], width=4, depth=1, head=8)
    return Surrogate(operator, problem.inputs, problem.outputs, Statistics(plain, plain, plain), grid, dt)


def found(report):
    """All that was measured except what belongs to the moment: times, and the note on who computed."""
    text = dataclasses.replace(report, timings=(), comparisons=(), environment={}, verdict=(), notes=()).to_json()
    return text, [n for n in report.notes if "Errors were computed by" not in n]


CASES = {
    "steady": (Rod(), (9, 17), {"surrogate": surrogate(Rod(), 9), "half": halve}, {"labels": 17}),
    "evolution": (Decay(), (12, 24), {"surrogate": surrogate(Decay(), 12, "0.5 s")}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["steady", "evolution"])
def test_numbers_are_those_of_one_process(site, kind):
    problem, resolutions, maps, more = CASES[kind]
    options = {"resolutions": resolutions, "n": 7, "timing": False, **more}
    here = found(evaluate(maps, problem, **options))
    with connect(site.address) as cluster:
        assert found(evaluate(maps, problem, cluster=cluster, **options)) == here
    if kind == "evolution":
        assert found(evaluate(maps, problem, workers=2, **options)) == here
        assert '"leads": [\n  {' in here[0]


def test_data_are_sent_along(site):
    grid = Rod().grid(9)
    a = torch.randn(9, 1, 9, generator=torch.Generator().manual_seed(0))
    examples = TensorExamples(a, Rod().solve(a, grid), grid, Rod().inputs, Rod().outputs)
    options = {"n": 9, "timing": False}
    with connect(site.address) as cluster:
        there = found(evaluate({"half": halve}, examples, cluster=cluster, **options))
    assert there == found(evaluate({"half": halve}, examples, **options))


def test_a_lost_worker_loses_nothing(tmp_path, site):
    marker = tmp_path / "marker"
    marker.write_text(str(os.getpid()))
    problem, options = Deadly(marker=str(marker)), {"resolutions": (9,), "n": 7, "timing": False}
    site.add()
    with connect(site.address) as cluster:
        cluster.client.wait_for_workers(3, timeout=60)
        there = found(evaluate({"half": halve}, problem, cluster=cluster, **options))
    assert Path(f"{marker}-done").exists()
    assert there == found(evaluate({"half": halve}, problem, **options))
    Path(f"{marker}-done").unlink()
    with pytest.raises(AnygridError, match="its end by signal 9"):  # local processes die of want of memory, and say so
        evaluate({"half": halve}, problem, workers=1, **options)


def test_times_are_taken_here(site, monkeypatch):
    """Errors are asked of the cluster, once; the timed calls, of which there are many, are not."""

    def local(a, grid):
        return a / 40

    jobs = []
    monkeypatch.setattr(type(CASES["steady"][2]["surrogate"]), "__reduce__", lambda self: pytest.fail("sent"))
    with connect(site.address) as cluster:
        monkeypatch.setattr(type(cluster), "run", lambda self, job, tasks: jobs.append(job) or ((t, job(t)) for t in tasks))
        report = evaluate({"local": local}, Rod(), resolutions=(9,), n=7, timing_seconds=0.1, cluster=cluster)
        sent = sum(type(job).__name__ == "Applied" and job.map is local for job in jobs)
    assert sent == 1
    assert any(t.name == "local" for t in report.timings)
    assert any(
        f"by the workers of {site.address}; the times were taken afterwards in one process, on its machine" in n for n in report.notes
    )


def test_refusals_and_errors_arrive(site):
    with connect(site.address) as cluster:
        with pytest.raises(DataError, match="another grid"):
            evaluate({"refuse": refuse}, Rod(), resolutions=(9,), n=7, timing=False, cluster=cluster)
        with pytest.raises(UsageError, match="a cluster has its own"):
            evaluate({"half": halve}, Rod(), resolutions=(9,), workers=1, cluster=cluster)
    with pytest.raises(UsageError, match="workers from 0 on"):
        evaluate({"half": halve}, Rod(), resolutions=(9,), workers=-1)


def add_one(task):
    return os.getpid(), task + 1


def fail(task):
    raise DataError("fail", "nothing", str(task))


@pytest.mark.slow
def test_workers_stay_for_the_next_job_and_begin_anew_after_an_error():
    with Workers(2) as team:
        first = dict(team.run(add_one, range(20)))
        second = dict(team.run(add_one, range(20)))
        assert {pid for pid, _ in first.values()} == {pid for pid, _ in second.values()}
        assert [second[k][1] for k in range(20)] == list(range(1, 21))
        with pytest.raises(DataError, match="nothing"):
            list(team.run(fail, range(4)))
        third = dict(team.run(add_one, range(4)))
        assert {pid for pid, _ in third.values()}.isdisjoint({pid for pid, _ in first.values()})
        begun = team.run(add_one, range(8))
        next(begun)
        begun.close()
        assert team.team == []


def test_at_the_command_line(tmp_path, site, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from anygrid.problems.burgers import Burgers

    surrogate(Burgers(), 32).save("s.anygrid")
    base = ["evaluate", "s.anygrid", "burgers", "--resolutions", "16", "-n", "2", "--timing", "0"]
    outputs = []
    for words in (["--workers", "0"], ["--scheduler", site.address]):
        code, out, err = call(capsys, *base, *words)
        assert code == 0, err
        outputs.append(out)
    assert outputs[0] == outputs[1]
    code, _, err = call(capsys, *base, "--scheduler", "tcp://127.0.0.1:9", "--workers", "1")
    assert (code, "leave --workers out" in err) == (2, True)
    code, _, err = call(capsys, *base, "--scheduler", "nowhere")
    assert (code, "an address with a port" in err) == (2, True)
