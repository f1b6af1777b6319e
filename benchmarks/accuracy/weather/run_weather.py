"""What a folder of `anygrid run weather` holds, as the few numbers that the documentation quotes.

python benchmarks/accuracy/weather/run_weather.py runs/weather      # writes run_weather.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from anygrid.surrogate import read_surrogate

KEPT = ("rmse", "persistence rmse", "climatology rmse", "crps", "climatology crps", "spread-skill ratio")


def main(folder: Path) -> None:
    found, plan = (json.loads((folder / name).read_text()) for name in ("metrics.json", "plan.json"))
    first, second = (read_surrogate(folder / name).record for name in ("training/surrogate.anygrid", "surrogate.anygrid"))
    lines = (folder / "log.txt").read_text().splitlines()
    result = {
        "command": "anygrid run weather --budget 30m",
        "plan": plan,
        "steps": {"without noise": first["steps"], "with noise": second["steps"]},
        "threads": second["threads"],
        "cost": next(line.strip() for line in reversed(lines) if "a member's day costs" in line),
        "starts": found["cases"],
        "members": found["members"],
        "lead_days": [round(lead / 24 if found["lead_units"][0] == "h" else lead) for lead in found["leads"]],
        "scores": {
            f"{v['name']} ({v['units']})": {
                c["name"]: [None if x is None else float(f"{x:.4g}") for x in c["value"]] for c in v["curves"] if c["name"] in KEPT
            }
            for v in found["variables"]
        },
    }
    (Path(__file__).parent / "run_weather.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
