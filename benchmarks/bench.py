"""Every benchmark, one after the other; each writes its own JSON and figure.

    python benchmarks/bench.py                  # speed: more than an hour, on a quiet machine; what `make bench` runs
    python benchmarks/bench.py --accuracy       # trainings too: many hours of one core; each goes on where it was stopped
    python benchmarks/bench.py --weather        # the numerical weather model too: needs the extra `weather`

A script that fails does not stop the others; the exit status is the number that failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPEED = [
    "speed/models.py",
    "speed/size.py",
    "speed/points.py",
    "speed/layer.py",
    "speed/solvers.py",
    "speed/loader.py",
    "speed/scaling.py",
    "speed/ranks.py",
    "speed/long_use.py",
    "speed/refine.py --timing --budget 45",
    "speed/sphere.py",
    "speed/sphere_operators.py",
]
ACCURACY = [
    *(f"accuracy/run.py {task} --minutes 15" for task in ("darcy", "burgers", "navier_stokes")),
    "accuracy/learning.py --time",
    "accuracy/learning.py",
    "accuracy/learning.py --seeds",
    "accuracy/learning.py --rates",
    "accuracy/peers.py",
    "accuracy/search.py",
    "accuracy/ablation.py",
    "accuracy/physics.py",
    "accuracy/chaos.py",
    "accuracy/weather/storm_resolution.py",
]
WEATHER = ["speed/weather/engine.py", "accuracy/weather/spin_up.py run"]  # what takes a store is called by hand


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", action="store_true", help="the trainings as well")
    parser.add_argument("--weather", action="store_true", help="the numerical weather model as well")
    options = parser.parse_args()
    failed = 0
    for line in SPEED + (ACCURACY if options.accuracy else []) + (WEATHER if options.weather else []):
        script, *arguments = line.split()
        print(f"{time.strftime('%H:%M')} {line} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)
        failed += subprocess.run([sys.executable, str(HERE / script), *arguments], check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
