"""Write src/anygrid/land_110m.npz: outlines of land, from npm's world-atlas 2.0.2 (`npm pack world-atlas`, unpacked).

python benchmarks/make_coastlines.py package/land-110m.json src/anygrid/land_110m.npz

The data are Natural Earth 1:110m land (naturalearthdata.com), which is in the public domain; world-atlas packs them as TopoJSON (ISC).
Coordinates are stored in hundredths of a degree, lines one after another, `length` points each.
"""

import json
import sys

import numpy as np


def main(source, target):
    with open(source, encoding="utf-8") as file:  # noqa: PTH123
        topology = json.load(file)
    scale, shift = np.array(topology["transform"]["scale"]), np.array(topology["transform"]["translate"])
    lines = []
    for arc in topology["arcs"]:
        degrees = np.cumsum(np.array(arc), axis=0) * scale + shift
        # Polygons are cut along the date line and closed along the south pole: no coast is there.
        seam = (np.abs(degrees[:, 0]) > 179.99) | (degrees[:, 1] < -89.9)
        inner = ~(seam[1:] & seam[:-1])
        for part in np.split(np.arange(len(degrees)), np.flatnonzero(~inner) + 1):
            if len(part) > 1:
                lines.append(degrees[part])
    points = np.concatenate(lines)
    np.savez_compressed(
        target,
        lon=np.round(points[:, 0] * 100).astype(np.int16),
        lat=np.round(points[:, 1] * 100).astype(np.int16),
        length=np.array([len(line) for line in lines], dtype=np.int16),
    )
    print(f"{len(lines)} lines, {len(points)} points")


if __name__ == "__main__":
    main(*sys.argv[1:])
