"""What the numbers say, in sentences; a loss is called a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anygrid.evaluate.result import Comparison, LeadCurve, Score, grid_name

__all__ = ["verdict"]


def verdict(
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    leads: Sequence[LeadCurve],
    headline: tuple[int, ...],
    trained_at: tuple[int, ...] | None,
    label_error: float | None,
) -> tuple[str, ...]:
    """Sentences from the most to the least important: accuracy, baselines, resolutions, cost, roll-out, labels."""
    found: list[str] = []
    for name in dict.fromkeys(s.name for s in scores if s.role == "map"):
        mine = [s for s in scores if s.name == name]
        found += _accuracy(name, mine, scores, headline)
        found += _resolutions(name, mine, headline, trained_at)
        if _beaten(mine, scores, headline):
            found.append(f"The speed of {name} is beside the point: a trivial baseline is more accurate and costs nothing.")
        else:
            found += [c.sentence for c in comparisons if c.name == name and c.resolution == headline]
        found += _roll_out(name, leads)
    if label_error is not None:
        found.append(f"The labels themselves have a relative L2 error of {label_error:.3g} against the truth at {grid_name(headline)}.")
    return tuple(found)


def _rivals(scores: Sequence[Score], headline: tuple[int, ...]) -> list[Score]:
    """Baselines with a finite error, best first."""
    found = [s for s in scores if s.role == "baseline" and s.resolution == headline and math.isfinite(s.errors["relative_l2"].mean)]
    return sorted(found, key=lambda s: s.errors["relative_l2"].mean)


def _beaten(mine: Sequence[Score], scores: Sequence[Score], headline: tuple[int, ...]) -> bool:
    at = next((s for s in mine if s.resolution == headline), None)
    rivals = _rivals(scores, headline)
    return at is not None and bool(rivals) and not at.errors["relative_l2"].mean < rivals[0].errors["relative_l2"].mean


def _accuracy(name: str, mine: Sequence[Score], scores: Sequence[Score], headline: tuple[int, ...]) -> list[str]:
    at = next((s for s in mine if s.resolution == headline), None)
    if at is None:
        return [f"{name} gave no result at {grid_name(headline)}."]
    error = at.errors["relative_l2"]
    if error.bad:
        return [f"{name} fails at {grid_name(headline)}: its result is not finite in {error.bad} of {error.n} test samples."]
    lines = [f"{name} has a relative L2 error of {error} at {grid_name(headline)} over {error.n} test samples."]
    rivals = _rivals(scores, headline)
    if rivals:
        listed = ", ".join(f"{s.name} {s.errors['relative_l2'].mean:.3g}" for s in rivals)
        best = rivals[0]
        ratio = best.errors["relative_l2"].mean / error.mean if error.mean else math.inf
        gain = f"{ratio:.3g} times better than the best of them" if ratio > 1 else f"no better than {best.name}: a loss"
        lines.append(f"Trivial baselines on the same samples: {listed}. {name} is {gain}.")
    return lines


def _resolutions(name: str, mine: Sequence[Score], headline: tuple[int, ...], trained_at: tuple[int, ...] | None) -> list[str]:
    at = next((s for s in mine if s.resolution == headline), None)
    others = [s for s in mine if s.resolution != headline]
    if at is None or not others or trained_at is None or not at.errors["relative_l2"].mean > 0:
        return []
    listed = ", ".join(f"{s.errors['relative_l2'].mean / at.errors['relative_l2'].mean:.3g} at {grid_name(s.resolution)}" for s in others)
    seen = "" if trained_at == headline else f" (trained at {grid_name(trained_at)})"
    return [f"Its error relative to that at {grid_name(headline)}{seen}: {listed}."]


def _roll_out(name: str, leads: Sequence[LeadCurve]) -> list[str]:
    curve = next((c for c in leads if c.name == name), None)
    if curve is None:
        return []
    lost = next((i for i, v in enumerate(curve.relative_l2) if v is None), None)
    if lost is not None:
        return [f"Rolled out, {name} is no longer finite at lead {curve.lead[lost]:g} {curve.lead_units}."]
    skill = curve.skill_over_persistence
    first, last = skill[0], skill[-1]
    if first is None or last is None:
        return []
    better = all(s is not None and s > 0 for s in skill)
    sign = "beats persistence at every lead" if better else "does not beat persistence at every lead"
    return [
        f"Rolled out to lead {curve.lead[-1]:g} {curve.lead_units}, {name} {sign}: skill {first:.3g} at the first, "
        f"{last:.3g} at the last lead (1 is perfect, 0 is persistence)."
    ]
