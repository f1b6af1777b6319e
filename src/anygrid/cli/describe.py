"""Facts about a surrogate or a data set, for people and as JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrid.errors import AnygridError

if TYPE_CHECKING:
    import xarray as xr

    from anygrid.grid import Grid
    from anygrid.surrogate import Surrogate

__all__ = ["data_facts", "downscaling_facts", "grid_text", "is_surrogate", "show", "surrogate_facts"]


def is_surrogate(path: str) -> bool:
    """Whether a file is, or is named like, a surrogate: a safetensors file begins with the length of a JSON header."""
    file = Path(path)
    if file.suffix == ".anygrid":
        return True
    try:
        with file.open("rb") as stream:
            head = stream.read(16)
    except OSError:
        return False
    return len(head) == 16 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def surrogate_facts(surrogate: Surrogate) -> dict[str, Any]:
    """Variables, operator, domain, training, error, ranges seen and provenance of a surrogate."""
    record, operator = surrogate.record, surrogate.operator
    moments = surrogate.statistics.inputs
    seen = {v.name: [low, high] for v, low, high in zip(surrogate.inputs, moments.minimum, moments.maximum, strict=True)}
    settings = dict(record.get("settings", {}))
    return {
        "inputs": {v.name: _variable(v) for v in surrogate.inputs},
        "outputs": {v.name: _variable(v) for v in surrogate.outputs},
        "lead": surrogate.dt or "none: outputs belong to the same sample as inputs",
        "predicts": "values" if not surrogate.increment else "increments" if surrogate.persistence is None else "increments to a climate",
        "trained on": grid_text(surrogate.grid),
        "equation": None if surrogate.problem is None else repr(surrogate.problem),
        "operator": {"name": type(operator).__name__, **_short(getattr(operator, "arguments", {}))},
        "parameters": sum(p.numel() for p in operator.parameters()),
        "validation error": record.get("validation_error"),
        "training": {k: record[k] for k in ("steps", "samples", "seconds", "torch", "threads") if k in record},
        "search": _search(record.get("search")),
        "inferred": record.get("inferred", []),
        "range of inputs seen": seen,
        "settings": {k: v for k, v in settings.items() if v not in (None, [], {}, "")},
        "provenance": surrogate.provenance,
    }


def downscaling_facts(path: str) -> dict[str, Any]:
    """What a downscaling takes and gives, and the facts of what it learned."""
    from anygrid.surrogate import Downscaling

    found = Downscaling.load(path)
    learned = surrogate_facts(found.correction)
    return {
        "coarse inputs": {v.name: _variable(v) for v in found.inputs},
        "outputs": {v.name: _variable(v) for v in found.outputs},
        "static": [v.name for v in found.correction.inputs[len(found.inputs) :]],
        "region": grid_text(found.grid),
        "error of what is learned, relative to it (1 is interpolation and the mean departure)": learned["validation error"],
        **{key: learned[key] for key in ("operator", "parameters", "training")},
        "provenance": found.provenance,
    }


def data_facts(ds: xr.Dataset) -> dict[str, Any]:
    """Dimensions with their roles, variables with their units, and the grid that would be inferred."""
    from anygrid.fields.layout import dimension_roles
    from anygrid.fields.variables import coordinate

    roles = dimension_roles(ds)
    dims = {}
    for dim, size in ds.sizes.items():
        c = coordinate(ds, str(dim))
        ends = f", {c.values.flat[0]} to {c.values.flat[-1]}" if c is not None and c.size else ""
        dims[str(dim)] = f"{size} ({roles[str(dim)]}){ends}"
    variables = {}
    for name, v in ds.data_vars.items():
        units = v.attrs.get("units", "")
        about = v.attrs.get("long_name", "")
        variables[str(name)] = (
            f"{' x '.join(map(str, v.dims)) or 'a number'}{f' [{units}]' if units else ''}{f', {about}' if about else ''}"
        )
    return {"dimensions": dims, "variables": variables, "understood as": _understood(ds)}


def _understood(ds: xr.Dataset) -> list[str]:
    """Sentences of the inference on the first variable with most dimensions, or what stands in its way."""
    from anygrid.fields import find_grid, find_layout

    fields = [str(n) for n, v in ds.data_vars.items() if v.ndim and v.dtype.kind in "fiu"]
    if not fields:
        return ["no variable with numbers on a grid"]
    name = max(fields, key=lambda n: ds[n].ndim)
    try:
        layout = find_layout(ds, [name])
        grid, notes = find_grid(ds, [name], layout)
    except AnygridError as error:
        return [f"{name}: {error.where}: {error.expected} is needed, there is {error.got}", error.hint]
    roles = f"samples: {', '.join(layout.samples) or 'none'}; time: {layout.time or 'none'}; space: {', '.join(layout.space)}"
    return [f"{name}: {roles}", grid_text(grid), *notes]


def grid_text(grid: Grid) -> str:
    """One line on a grid: family, resolution, extent, which axes are periodic."""
    kind = type(grid).__name__
    names = getattr(grid, "names", grid.dims)
    spans = [f"{n} {i.lower:g} to {i.upper:g}{' periodic' if i.periodic else ''}" for n, i in zip(names, grid.domain, strict=True)]
    return f"{kind} {'x'.join(map(str, grid.shape))}: {', '.join(spans)}"


def show(facts: dict[str, Any]) -> None:
    """Print facts, nested by indentation."""
    for key, value in facts.items():
        if value in (None, {}, []):
            continue
        if isinstance(value, dict):
            print(f"{key}:")
            for inner, item in value.items():
                print(f"  {inner}: {_plain(item)}")
        elif isinstance(value, list):
            print(f"{key}:")
            for item in value:
                print(f"  - {_plain(item)}")
        else:
            print(f"{key}: {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    text = str(value)
    return text if len(text) <= 800 else text[:797] + "..."


def _search(table: dict[str, Any] | None) -> dict[str, Any] | None:
    """What short trainings chose, and their held-out errors by rung, the defaults first."""
    if table is None:
        return None
    rungs: dict[str, Any] = {}
    for row in table["rows"]:
        error = "diverged" if row["error"] is None else f"{row['error']:.4g}"
        rungs.setdefault(f"rung {row['rung']}", []).append(f"{row['candidate']['label']} {error} ({row['steps']} steps)")
    return {"chosen": table["chosen"]["label"], "seconds": table["seconds"], **rungs}


def _variable(variable: Any) -> str:
    facts = dataclasses.asdict(variable)
    return f"[{facts['units'] or '-'}] {facts['long_name'] or facts['standard_name']}".strip()


def _short(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in arguments.items() if k not in ("inputs", "outputs")}
