"""How far a forecast goes: `--steps 40`, or `--days 10` in steps of the surrogate."""

from __future__ import annotations

from anygrid.errors import UsageError

__all__ = ["steps_of"]


def steps_of(steps: int | None, days: float | None, dt: str | None) -> int:
    """Number of steps of length ``dt`` that were asked for.

    Raises
    ------
    UsageError
        When neither or both are given, for days that are no multiple of the step, and steps that are no fixed part of a day.
    """
    from anygrid.forecast.calendar import Step

    if (steps is None) == (days is None):
        got = "neither" if steps is None else "both"
        raise UsageError("forecast", "--days or --steps, one of them", got, "for example --days 10")
    if days is None:
        assert steps is not None
        return steps
    length = Step.parse(dt).seconds
    if length is None:
        raise UsageError("--days", "a surrogate whose step is a part of days", f"one with steps of {dt}", "write --steps instead")
    ratio = days * 86400 / length
    if not ratio > 0 or abs(ratio - round(ratio)) > 1e-6 * max(1.0, ratio) or round(ratio) < 1:
        near = max(1, round(ratio)) * length / 86400 if abs(ratio) < 1e12 else length / 86400
        raise UsageError("--days", f"a multiple of the surrogate's step, {dt}", f"{days:g} days", f"the nearest is --days {near:g}")
    return round(ratio)
