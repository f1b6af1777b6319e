"""Numbers of the worked examples in docs/from-equation-to-operator.md, from the folders of finished runs.

anygrid run examples/equations/nerve.toml ... --out FOLDER/nerve     # the commands stand in the docs, one for each example
python benchmarks/accuracy/worked_examples.py FOLDER                 # -> benchmarks/accuracy/worked_examples.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

EXAMPLES = ("nerve", "hot-composite", "kawahara")


def kept(folder: Path) -> dict[str, Any]:
    """What the docs quote of one report: errors, comparisons with the solver, skill of the roll-out, and where it was measured."""
    report = json.loads((folder / "metrics.json").read_text())
    scores = [{k: s[k] for k in ("name", "resolution", "errors")} for s in report["scores"] if s["role"] != "solver"]
    return {k: report[k] for k in ("comparisons", "verdict", "environment")} | {"scores": scores}


def main() -> None:
    runs = Path(sys.argv[1])
    result = {"command": "python benchmarks/accuracy/worked_examples.py FOLDER", **{name: kept(runs / name) for name in EXAMPLES}}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
