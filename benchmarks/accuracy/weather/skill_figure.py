"""RMSE, fair CRPS and spread-skill ratio by lead out of skill.json.

python benchmarks/accuracy/weather/skill_figure.py      # writes docs/figures/weather.png
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
SHOWN = (
    ("z500 (m2 s-2)", "geopotential at 500 hPa (m² s⁻²)"),
    ("t850 (K)", "temperature at 850 hPa (K)"),
    ("t2m (K)", "near-surface temperature (K)"),
)
DAYS = np.arange(1, 11)


def curve(rows: dict, score: str) -> np.ndarray:
    return np.array([rows[score][str(d)] for d in DAYS])


def main() -> None:
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "anygrid"})
    scores = json.loads((HERE / "skill.json").read_text())["scores"]
    reference = next(name for name in scores if name.startswith("SPEEDY"))
    lines = (
        ("random", "rmse", "mean of the members", "#1b6ca8", "-"),
        ("one member", "rmse", "one member", "#1b6ca8", ":"),
        ("deterministic", "rmse", "deterministic", "#d1495b", "-"),
        (reference, "rmse", "SPEEDY's own ensemble", "#2a9d4b", "-"),
        ("random", "persistence rmse", "persistence", "0.6", "--"),
        ("random", "climatology rmse", "climatology", "0.3", "--"),
    )
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), sharex=True, layout="constrained")
    for k, (name, title) in enumerate(SHOWN):
        for kind, score, label, colour, dash in lines:
            found = curve(scores[kind][name], score)
            axes[0, k].plot(DAYS, found[:, 0], dash, color=colour, label=label, lw=1.5)
            if score == "rmse":
                axes[0, k].fill_between(DAYS, found[:, 1], found[:, 2], color=colour, alpha=0.15, lw=0)
        axes[0, k].set_title(title, fontsize=9)
        axes[0, k].set_ylim(0)
        ratio = curve(scores["random"][name], "spread-skill ratio")
        axes[1, k].axhspan(0.9, 1.1, color="0.93")
        axes[1, k].axhline(1, color="0.6", lw=0.8)
        axes[1, k].plot(DAYS, ratio[:, 0], color="#1b6ca8", lw=1.5)
        axes[1, k].fill_between(DAYS, ratio[:, 1], ratio[:, 2], color="#1b6ca8", alpha=0.15, lw=0)
        axes[1, k].set_ylim(0.5, 1.5)
        axes[1, k].set_xlabel("lead (days)")
    axes[0, 0].set_ylabel("RMSE")
    axes[1, 0].set_ylabel("spread-skill ratio")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    figure.savefig(HERE.parents[2] / "docs" / "figures" / "weather.png", dpi=130)


if __name__ == "__main__":
    main()
