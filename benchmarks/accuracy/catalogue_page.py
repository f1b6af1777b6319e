"""From the measurements of catalogue.py: catalogue.json, the figure, and the tables of docs/honest-speed.md."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from catalogue_rows import Row, rows
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from anygrid.evaluate.cost import CurvePoint, best_seconds, equal_error, equal_time, front
from anygrid.evaluate.result import Timing, duration, grid_name
from anygrid.problems.equation import EquationProblem

__all__ = ["write_page"]

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
_MODES = ("single", "batch")
_OPEN = "the operator is cheaper than any setting measured, and less accurate"
_EVEN = 1.1  # factors up to this are no difference
_SOLVER, _OPERATOR, _GREY = "#0072b2", "#d55e00", "#777777"  # Okabe and Ito: told apart with any colour vision


def write_page(runs: Path, known: Mapping[str, Row]) -> None:
    """Write the JSON, the figure and the tables from all rows that were measured."""
    found = [_row(name, row, runs / name) for name, row in known.items()]
    if not found:
        return
    found.sort(key=lambda r: -_gain(r))
    first = json.loads((runs / found[0]["name"] / "timings.json").read_text())
    whole = {
        "command": "python benchmarks/accuracy/catalogue.py fit --runs FOLDER, then time --runs FOLDER on a quiet machine",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=True
        ).stdout.strip(),
        "environment": {key: first[key] for key in ("processor", "cores", "memory", "system", "torch", "numpy", "device")},
        "quiet": all(r["quiet"] for r in found),
        "rows": found,
    }
    (HERE / "catalogue.json").write_text(json.dumps(whole, indent=1) + "\n")
    draw(found, DOCS / "figures" / "cost-against-error.png")
    page = DOCS / "honest-speed.md"
    if page.exists():
        text = _between(page.read_text(), "table", _table(found))
        page.write_text(_between(text, "gradients", _gradients(found)))


def _row(name: str, row: Row, folder: Path) -> dict[str, Any]:
    errors, timed, costs = (json.loads((folder / f"{part}.json").read_text()) for part in ("errors", "timings", "costs"))
    timings = [Timing(**{**t, "resolution": tuple(t["resolution"])}) for t in timed["timings"]]
    made: dict[str, Any] = {
        "name": name,
        "group": row.group,
        "equation": "; ".join(row.problem.equations) if isinstance(row.problem, EquationProblem) else row.problem.card.equation,
        "dt": row.problem.dt,
        "grid": grid_name(tuple(errors["head"])),
        "reference": grid_name(row.problem.grid(row.reference).shape),
        "test_samples": errors["test"],
        "training": {k: v for k, v in costs.items() if k != "data"},  # not where borrowed data lay
        "baselines": errors["baselines"],
        "quiet": timed["quiet"],
        "clock": timed["clock"],
        "date": timed["date"],
        "modes": {},
    }
    for mode in _MODES:
        curve, mine = (_points(errors[part], timings, mode, "") for part in ("solver", "operator"))
        made["modes"][mode] = _comparison(curve, mine, costs) | {"solver": _plain(curve), "operator": _plain(mine)}
    curve, mine = (_points(errors[part], timings, "single", ", gradient") for part in ("solver", "operator"))
    if curve and mine:
        made["gradient"] = _comparison(curve, mine, costs)
    return made


def _points(settings: Sequence[Mapping[str, Any]], timings: Sequence[Timing], mode: str, suffix: str) -> list[CurvePoint]:
    points = []
    for p in settings:
        seconds = best_seconds(timings, p["name"] + suffix, tuple(p["shape"]), mode) if p["timed"] else None
        if seconds is not None:
            points.append(CurvePoint(seconds, p["error"], p["name"], tuple(p["shape"])))
    return sorted(points, key=lambda p: p.seconds)


def _plain(points: Sequence[CurvePoint]) -> list[dict[str, Any]]:
    return [{"setting": p.name, "grid": grid_name(p.resolution), "seconds": p.seconds, "error": p.error} for p in points]


def _comparison(curve: Sequence[CurvePoint], mine: Sequence[CurvePoint], costs: Mapping[str, float]) -> dict[str, Any]:
    """The operator on the cheapest grid on which it is within a tenth of its best error, against the solver at that error."""
    best = min(p.error for p in mine)
    at = min((p for p in mine if p.error <= 1.1 * best), key=lambda p: p.seconds)
    solving = [p for p in curve if p.error < 1]  # an error of 1 is that of returning zero
    curve = solving or curve
    seconds, relation = equal_error(curve, at.error)
    saved = seconds - at.seconds
    spent = costs["data_seconds"] + costs["training_seconds"]
    nearest = min(front(curve), key=lambda p: abs(math.log(p.error / at.error)))
    return {
        "operator_error": at.error,
        "operator_grid": grid_name(at.resolution),
        "operator_seconds": at.seconds,
        "solver_seconds": seconds,
        "relation": relation,
        "speedup": seconds / at.seconds,
        "solver_error_at_equal_time": equal_time(curve, at.seconds),
        "nearest_setting": f"{nearest.name} on {grid_name(nearest.resolution)}",
        "break_even": spent / saved if saved > 0 else None,
    }


def _gain(row: Mapping[str, Any]) -> float:
    return max(row["modes"][mode]["speedup"] for mode in _MODES)


def _learned(row: Mapping[str, Any]) -> bool:
    return bool(row["modes"]["single"]["operator_error"] < 0.9 * min(row["baselines"].values()))


def verdict(row: Mapping[str, Any]) -> str:
    """Who is cheaper at equal error, in words."""
    if not _learned(row):
        best = min(row["baselines"], key=row["baselines"].get)
        return f"nothing learned worth a speed: {best} is as good"
    outcome = {}
    for mode in _MODES:
        found = row["modes"][mode]
        factor, relation = found["speedup"], found["relation"]
        if factor > _EVEN:
            outcome[mode] = "open" if relation == "<=" else "operator"
        elif factor < 1 / _EVEN:
            outcome[mode] = "undecided" if relation == ">=" else "solver"
        else:
            outcome[mode] = "even"
    single, batch = outcome["single"], outcome["batch"]
    words = {
        "operator": "the operator wins",
        "solver": "the solver wins",
        "even": "a draw",
        "open": _OPEN,
        "undecided": "no solve measured is as accurate",
    }
    if single == batch:
        return words[single]
    return f"alone: {words[single]}; batched: {words[batch]}"


def _factor(found: Mapping[str, Any]) -> str:
    sign = {"=": "", "<=": "≤ ", ">=": "≥ "}[found["relation"]]
    return f"{sign}{found['speedup']:.2g}" if found["speedup"] < 100 else f"{sign}{found['speedup']:.0f}"


def _break_even(row: Mapping[str, Any]) -> str:
    counts = [(found["break_even"], found["relation"]) for found in row["modes"].values() if found["break_even"] is not None]
    if not counts or not _learned(row):
        return "never"
    count, relation = min(counts)
    return {"=": "", "<=": "≥ ", ">=": "≤ "}[relation] + f"{float(f'{count:.2g}'):,.0f}"


def _table(found: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| problem | grid | operator error | best trivial error | operator, alone | solver at that error "
        "| speed-up, alone | batched | break-even | verdict |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in found:
        one = row["modes"]["single"]
        sign = {"=": "", "<=": "≤ ", ">=": "≥ "}[one["relation"]]
        cells = [
            row["name"] + ("" if row["group"] in ("catalogue", "built-in") else f" ({row['group']})"),
            row["grid"],
            f"{one['operator_error']:.2g}",
            f"{min(row['baselines'].values()):.2g}",
            duration(one["operator_seconds"]),
            sign + duration(one["solver_seconds"]),
            _factor(one),
            _factor(row["modes"]["batch"]),
            _break_even(row),
            verdict(row),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    quiet = sum(bool(row["quiet"]) for row in found)
    clock = "timed on a quiet machine" if quiet else "timed in CPU-seconds of one thread beside other work, not yet on a quiet machine"
    if 0 < quiet < len(found):
        clock = f"{quiet} timed on a quiet machine, the others in CPU-seconds of one thread beside other work"
    count = {word: sum(word in verdict(row) for row in found) for word in ("operator wins", "operator is cheaper", "solver wins")}
    missing = [name for name in rows() if name not in {row["name"] for row in found}]
    lines += [
        "",
        f"{len(found)} rows, {clock}: the operator wins {count['operator wins']}, alone or batched, and is cheaper than any usable "
        f"setting of the solver in {count['operator is cheaper']} more; the solver wins {count['solver wins']}. A row may count for both.",
    ]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    return "\n".join(lines)


def _gradients(found: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| problem | operator, one gradient | solver, one gradient | ratio |", "|---|--:|--:|--:|"]
    for row in found:
        if "gradient" in row:
            g = row["gradient"]
            sign = {"=": "", "<=": "≤ ", ">=": "≥ "}[g["relation"]]
            lines.append(f"| {row['name']} | {duration(g['operator_seconds'])} | {sign}{duration(g['solver_seconds'])} | {_factor(g)} |")
    return "\n".join(lines)


def _between(text: str, mark: str, new: str) -> str:
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    return text[: text.index(start) + len(start)] + "\n" + new + "\n" + text[text.index(end) :]


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One panel for each problem, the operator's largest gain first."""
    columns = 6
    lines = math.ceil(len(found) / columns)
    style = {"font.size": 7.5, "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.2}
    with mpl.rc_context(style):
        figure, panels = plt.subplots(
            lines, columns, figsize=(12, 1.75 * lines + 0.8), sharex=True, sharey=True, layout="constrained", squeeze=False
        )
        for panel, row in zip(panels.flat, found, strict=False):
            _panel(panel, row)
        for place in range(len(found), lines * columns):
            panels.flat[place].axis("off")
            panels.flat[place - columns].tick_params(labelbottom=True)
        figure.supxlabel("seconds for one solution", fontsize=9)
        figure.supylabel("relative L2 error", fontsize=9)
        figure.legend(handles=_legend(), loc="outside upper center", ncols=5, frameon=False, fontsize=8.5)
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=100, facecolor="white")
        plt.close(figure)


def _panel(panel: Axes, row: Mapping[str, Any]) -> None:
    for mode, dash, alpha in (("single", "-", 1.0), ("batch", (0, (3, 1.5)), 0.65)):
        found = row["modes"][mode]
        solver = [CurvePoint(p["seconds"], p["error"], "", ()) for p in found["solver"] if p["error"] < 1]
        best = front(solver)
        panel.plot([p.seconds for p in best], [p.error for p in best], "o", ls=dash, color=_SOLVER, ms=2.6, alpha=alpha)
        mine = found["operator"]
        filled = _OPERATOR if mode == "single" else "white"
        panel.plot(
            [p["seconds"] for p in mine], [p["error"] for p in mine], "D", ls="", ms=3.6, mfc=filled, mec=_OPERATOR, mew=0.9, zorder=3
        )
    panel.axhline(min(row["baselines"].values()), color=_GREY, lw=0.8, ls=":")
    panel.set(xscale="log", yscale="log", xlim=(3e-5, 3), ylim=(1e-5, 2))
    panel.set_xticks([1e-4, 1e-2, 1])
    panel.set_yticks([1e-4, 1e-2, 1])
    panel.minorticks_off()
    panel.grid(color="#dddddd", lw=0.4)
    won = "operator wins" in verdict(row)
    one, many = (_factor(row["modes"][mode]) for mode in _MODES)
    text = f"{one}x alone, {many}x batched" if _learned(row) else "not learned"
    panel.set_title(row["name"], fontsize=8, loc="left", pad=13, fontweight="bold" if won else "normal")
    panel.text(0, 1.03, text, transform=panel.transAxes, fontsize=7, color=_OPERATOR if won else _GREY)


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=_SOLVER, marker="o", ms=3, label="solver, one at a time"),
        Line2D([], [], color=_SOLVER, marker="o", ms=3, ls=(0, (3, 1.5)), alpha=0.65, label="solver, batched"),
        Line2D([], [], color=_OPERATOR, marker="D", ms=4, ls="", label="operator, one at a time"),
        Line2D([], [], color=_OPERATOR, marker="D", ms=4, ls="", mfc="white", label="operator, batched"),
        Line2D([], [], color=_GREY, ls=":", label="best trivial baseline"),
    ]
