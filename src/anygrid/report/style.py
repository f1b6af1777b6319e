"""Looks of the report: one style sheet, one palette, one way to turn a matplotlib figure into inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["BASELINE", "CSS", "MAPS", "MARKERS", "SOLVER", "TRUTH", "drawing", "to_svg"]

# Mid-tone colours that keep a contrast of 3:1 on white and on near-black and differ in lightness for colour-blind readers;
# every series also differs by marker or dash.
MAPS = ("#d9480f", "#ae3ec9", "#2b8a3e", "#b08900", "#0b7285")
MARKERS = ("*", "D", "P", "X", "v")
SOLVER = "#1c7ed6"
BASELINE = "#868e96"
# Text and axes are drawn in this colour and then inherit the page's own, so that they turn light in dark mode.
_INK = "#010203"
TRUTH = _INK

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib settings of all figures; nothing outside the block is changed."""
    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "anygrid",  # the same report gives the same page
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.titleweight": "normal",
            "axes.labelsize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": _INK,
            "axes.labelcolor": _INK,
            "axes.facecolor": "none",
            "figure.facecolor": "none",
            "text.color": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "axes.linewidth": 0.7,
            "axes.grid": False,
            "grid.color": BASELINE,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.6,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
        }
    ):
        yield


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Inline SVG that scales with the page, with ids made unique by ``name`` and ``alt`` as its accessible name."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", dpi=130, transparent=True, bbox_inches="tight", pad_inches=0.05, metadata={"Date": None, "Creator": None}
    )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = text.replace(_INK, "currentColor").replace("'DejaVu Sans'", _FONT).replace("DejaVu Sans", _FONT)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


CSS = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d8dee4;--page:#fff;--card:#f6f8fa;--accent:#b5410f;
--good:#1a7f37;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#a3abb5;--line:#383e46;--page:#14171b;--card:#1d2127;--accent:#ff9a62;
--good:#56c271;--bad:#ff8a80}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:64rem;margin:0 auto;padding:2.2rem 1.2rem 4rem}
h1{font-size:1.85rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:1.22rem;margin:2.8rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.6rem 0 .4rem}
p,li{max-width:46rem}
.lead{color:var(--soft);margin:0 0 1.4rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin:1.3rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
.tile b{display:block;font-size:1.5rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tile span{display:block;color:var(--soft);font-size:.85rem;line-height:1.4}
.good b{color:var(--good)}.bad b{color:var(--bad)}
ul.verdict{padding-left:1.15rem;margin:.6rem 0 1.2rem}
ul.verdict li{margin:.35rem 0}
.scroll{overflow-x:auto;margin:.8rem 0 1.2rem}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;min-width:100%}
.caption{color:var(--soft);font-size:.88rem;line-height:1.45;margin:1.1rem 0 .2rem}
th,td{padding:.36rem .6rem .36rem 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th:first-child,td:first-child,th.text,td.text{text-align:left}
td.wrap{white-space:normal;min-width:16rem}
thead th{font-weight:600;color:var(--soft);border-bottom:1.5px solid var(--soft);vertical-align:bottom}
tr.map td{font-weight:600}
tr.map td small,td small{font-weight:400;color:var(--soft);font-size:.8rem}
tr.part td{border-top:1.5px solid var(--line)}
figure{margin:1.1rem 0 1.6rem}
figure svg{width:100%;height:auto;display:block;color:var(--ink);font-family:system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif}
figure.narrow{max-width:44rem}
figcaption{color:var(--soft);font-size:.88rem;line-height:1.45;max-width:46rem;margin-top:.45rem}
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.25rem 1.2rem;margin:.6rem 0;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:1rem 2rem}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.7rem .9rem;overflow-x:auto;
font:.85rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
sup{line-height:0;font-size:.72em}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem}
@media (max-width:40rem){main{padding:1.3rem .9rem 3rem}h1{font-size:1.5rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}
figure.wide{overflow-x:auto}figure.wide svg{width:46rem;max-width:none}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--page:#fff;--card:#fff;--good:#14662c;--bad:#9c1c15}
body{font-size:10.5pt}main{max-width:none;padding:0}
figure,tr,.tile{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}th,td{white-space:normal;padding-right:.5rem}}
"""
