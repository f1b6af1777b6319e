"""HTML tables of a report. Everything that comes from outside is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from anygrid.evaluate.cost import best_seconds
from anygrid.evaluate.result import Comparison, Report, Score, duration, grid_name
from anygrid.metrics.errors import Estimate
from anygrid.metrics.spectra import BANDS

__all__ = ["bands_table", "comparison_table", "definition_list", "headline_table", "leads_table", "timing_table", "variables_table"]


def number(value: float | None) -> str:
    """Three significant digits; a dash for what is not there or not finite."""
    if value is None or not math.isfinite(value):
        return "&ndash;"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}&thinsp;&times;&thinsp;10<sup>{int(exponent)}</sup>".replace("-", "&minus;")
    return f"{value:.3g}".replace("-", "&minus;") if abs(value) < 1000 else f"{value:,.0f}"


def interval(e: Estimate | None) -> str:
    """Mean with its interval in small type."""
    if e is None:
        return "&ndash;"
    if e.bad:
        return f"<small>not finite in {e.bad} of {e.n}</small>"
    if e.mean and not 1e-3 <= abs(e.mean) < 1e5 and math.isfinite(e.low):
        power = math.floor(math.log10(abs(e.mean)))
        mean, low, high = (f"{v / 10**power:.3g}" for v in (e.mean, e.low, e.high))
        return f"{mean} <small>{low}&ndash;{high}</small>&thinsp;&times;&thinsp;10<sup>{power}</sup>".replace("-", "&minus;")
    low_high = f" <small>{number(e.low)}&ndash;{number(e.high)}</small>" if math.isfinite(e.low) else ""
    return number(e.mean) + low_high


def _mean(e: Estimate | None) -> str:
    return number(None if e is None else e.mean)


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], caption: str = "", text_columns: Sequence[int] = (0,)) -> str:
    """Table from cells that are already HTML; each row has a class and its cells."""
    kind = {i: ' class="text"' for i in text_columns}
    top = "".join(f'<th scope="col"{kind.get(i, "")}>{h}</th>' for i, h in enumerate(head))
    body = "".join(
        f'<tr class="{escape(name)}">' + "".join(f"<td{kind.get(i, '')}>{c}</td>" for i, c in enumerate(cells)) + "</tr>\n"
        for name, cells in rows
    )
    title = f'<p class="caption">{caption}</p>' if caption else ""
    return f'{title}<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _solved(score: Score) -> str:
    return "" if score.computed_at == score.resolution else f" <small>solved at {grid_name(score.computed_at)}</small>"


def _parted(rows: Sequence[Score]) -> list[tuple[str, Score]]:
    """Rows with a class: a rule above the first of each role."""
    seen: set[str] = set()
    marked = []
    for s in rows:
        marked.append((s.role if s.role in seen else f"{s.role} part", s))
        seen.add(s.role)
    return marked


def headline_table(report: Report) -> str:
    """Errors and time of every map, baseline and solver setting."""
    rows = []
    labelled = any(s.label_l2 is not None for s in report.scores)
    timed = bool(report.timings)
    for kind, s in _parted(report.rows()):
        cells = [escape(s.name), grid_name(s.resolution) + _solved(s)]
        cells += [interval(s.errors["relative_l2"]), _mean(s.errors.get("relative_h1")), _mean(s.errors["vrmse"])]
        cells += [_mean(s.label_l2)] if labelled else []
        if timed:
            found = [best_seconds(report.timings, s.name, s.computed_at, mode) for mode in ("single", "batch")]
            cells += ["&ndash;" if seconds is None else duration(seconds) for seconds in found]
        rows.append((kind, cells))
    head = ["", "grid", "relative L2", "relative H1", "VRMSE"]
    head += ["relative L2<br>against labels"] if labelled else []
    head += ["time,<br>one sample", "time per sample,<br>batch, one thread"] if timed else []
    caption = (
        "Error against the truth: mean over test samples, with the 95&nbsp;% bootstrap interval of that mean. VRMSE is 1 for "
        "predicting the mean of each field."
    )
    if labelled:
        caption += " Against labels: what published tables quote, where the label is the solver on a grid like that of training."
    return table(head, rows, caption, (0, 1))


def bands_table(report: Report) -> str:
    """Relative error by band of wave numbers at the headline resolution."""
    shown = [s for s in report.rows() if s.resolution == report.headline and s.bands]
    if not shown:
        return ""
    names = {
        band: f"{band}<br><small>{low}&ndash;{high - 1}</small>" if high else f"{band}<br><small>from {low}</small>"
        for band, (low, high) in BANDS.items()
    }
    rows = [(kind, [escape(s.name) + _solved(s), *(number(s.bands.get(band)) for band in BANDS)]) for kind, s in _parted(shown)]
    return table(
        ["", *names.values()], rows, f"Relative error by band of wave numbers at {grid_name(report.headline)}. Phase errors count."
    )


def comparison_table(report: Report) -> str:
    """Every map against the solver at every resolution."""
    if not report.comparisons:
        return ""
    rows = []
    for c in report.comparisons:
        sign = {"=": "", "<=": "&le;&thinsp;", ">=": "&ge;&thinsp;"}[c.relation]
        cells = [
            escape(c.name),
            grid_name(c.resolution),
            "one sample" if c.mode == "single" else "batch",
            number(c.error),
            duration(c.seconds),
        ]
        cells += [
            sign + duration(c.solver_seconds),
            sign + number(c.speedup) + "&times;",
            number(c.solver_error_at_equal_time),
            _break_even(c),
        ]
        rows.append(("", cells))
    head = ["", "grid", "mode", "error", "time of map", "solver at<br>equal error", "speed-up at<br>equal error"]
    head += ["solver's error<br>in that time", "break-even<br>(solves)"]
    caption = (
        "Speed-ups below 1 are losses. &le; and &ge;: the map's error lies outside what the solver settings measured; nothing is "
        "extrapolated. A dash under <i>solver's error in that time</i> means that no setting is that fast."
    )
    return table(head, rows, caption, (0, 1, 2))


def _break_even(c: Comparison) -> str:
    if c.never:
        return "never"
    sign = {"=": "", "<=": "&ge;&thinsp;", ">=": "&le;&thinsp;"}[c.relation]
    return "unknown" if c.break_even is None else sign + f"{c.break_even:,.0f}"


def variables_table(report: Report) -> str:
    """Errors of every variable in its own units, maps only."""
    units = {v["name"]: v.get("units", "") for v in report.outputs}
    rows = []
    for s in (s for s in report.scores if s.role == "map"):
        for name, e in s.variables.items():
            unit = escape(units.get(name, ""))
            values = [interval(e[key]) if key in e else "&ndash;" for key in ("relative_l2", "relative_h1", "vrmse", "rmse", "largest")]
            rows.append(
                ("", [escape(s.name), grid_name(s.resolution), escape(name) + (f" <small>{unit}</small>" if unit else ""), *values])
            )
    head = ["", "grid", "variable", "relative L2", "relative H1", "VRMSE", "RMSE", "largest error"]
    return table(head, rows, "Errors of each output variable; RMSE and largest error in its units.", (0, 1, 2))


def timing_table(report: Report) -> str:
    """Every timing: median and quartiles."""
    if not report.timings:
        return ""
    rows = []
    for t in report.timings:
        cells = [escape(t.name), grid_name(t.resolution), str(t.batch), str(t.threads), str(t.repeats)]
        rows.append(("", [*cells, duration(t.median), f"{duration(t.low)} &ndash; {duration(t.high)}"]))
    head = ["", "grid", "batch", "threads", "repeats", "median per sample", "quartiles"]
    return table(head, rows, "All timings. Repeats were interleaved: every setting once in each round.", (0, 1))


def leads_table(report: Report) -> str:
    """Relative error at the first, middle and last lead."""
    if not report.leads:
        return ""
    leads = report.leads[0].lead
    picks = list(dict.fromkeys([0, len(leads) // 2, len(leads) - 1]))
    rows = []
    for c in report.leads:
        errors = [number(c.relative_l2[i]) for i in picks]
        skill = [number(c.skill_over_persistence[i]) for i in picks]
        rows.append((c.role, [escape(c.name), grid_name(c.resolution), *errors, *skill]))
    units = escape(report.leads[0].lead_units)
    head = ["", "computed on", *(f"error at<br>{leads[i]:g} {units}" for i in picks), *(f"skill at<br>{leads[i]:g} {units}" for i in picks)]
    caption = (
        "Roll-outs: relative L2 error and mean-square-error skill over persistence. A dash: no longer finite, or persistence itself exact."
    )
    return table(head, rows, caption, (0, 1))


def definition_list(facts: Mapping[str, object]) -> str:
    """Facts as a list of terms; nested mappings are flattened, empty values left out."""
    items = []
    for key, value in facts.items():
        if value is None or value == "" or value == []:
            continue
        if isinstance(value, Mapping):
            shown = "; ".join(f"{k}: {v}" for k, v in value.items())
        elif isinstance(value, list | tuple):
            shown = ", ".join(map(str, value))
        elif isinstance(value, float):
            shown = f"{value:.6g}"
        else:
            shown = str(value)
        items.append(f"<dt>{escape(str(key).replace('_', ' '))}</dt><dd>{escape(shown)}</dd>")
    return f"<dl>{''.join(items)}</dl>" if items else ""
