r"""What a training step of an FNO costs on many processes: arithmetic, memory traffic, bytes and messages, counted layer by layer.

.. math::

    t = \frac{F_s / d + F_r}{\text{flop/s}} + \frac{M_s / d + M_r}{\text{bytes/s}}
        + \sum_{\text{sums}} \Big( 2 \lceil \log_2 r \rceil \alpha + 2\,\frac{r - 1}{r}\,\frac{b}{\beta} \Big)

with what is shared (:math:`s`) between the :math:`d` ranks of a domain and what each repeats (:math:`r`: mixing of coefficients, the
optimiser), latency :math:`\alpha` and link :math:`\beta`. Nothing overlaps: arithmetic, memory and messages follow each other, so times are
from above where the machine keeps its rates. Bytes of a sum are those of a ring (Patarasuk and Yuan 2009), its messages those of a tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One step of an FNO on ``points`` with ``batch`` samples."""

    points: tuple[int, int]
    batch: int
    inputs: int
    outputs: int
    width: int
    depth: int
    modes: tuple[int, int]
    head: int
    item: int = 4

    @property
    def kept(self) -> int:
        """Complex coefficients of a layer and channel."""
        return self.modes[0] * (self.modes[1] // 2 + 1)

    @property
    def parameters(self) -> int:
        """Weights, of which those of the spectral layers are nearly all."""
        layer = 2 * self.kept * self.width**2 + self.width**2 + self.width
        lift, head = self.width * (self.inputs + 4) + self.width, self.head * (self.width + 1 + self.outputs) + self.outputs
        return self.depth * layer + lift + head


@dataclass(frozen=True)
class Machine:
    """Rates of one process: operations and bytes of memory a second, seconds of a message, bytes a second between processes."""

    name: str
    flops: float
    memory: float
    latency: float
    link: float


def layer(case: Case) -> dict[str, float]:
    """One spectral layer and its pointwise path, forward and backward, for the batch: shared and repeated work, bytes of its sums."""
    (n1, n2), b, w = case.points, case.batch, case.width
    half = case.modes[1] // 2 + 1
    transform = 2 * b * n1 * w * 2 * half * n2 + 2 * b * half * w * 2 * case.modes[0] * 2 * n1
    return {
        # Analysis, synthesis and the transposes of both; the pointwise map and its two gradients.
        "shared_flops": 4 * transform + 6 * b * n1 * n2 * w**2,
        "repeated_flops": 24 * b * case.kept * w**2,
        # Forward 7 passes over the field (activation 2, analysis 1, map 2, synthesis onto it 2), backward 12.
        "shared_memory": 19 * b * n1 * n2 * w * case.item,
        "repeated_memory": 6 * case.kept * w**2 * case.item,
        "bytes": 2 * b * 2 * case.kept * w * case.item,
        "messages": 2,
    }


def step(case: Case) -> dict[str, float]:
    """A whole step: the layers, what lies around them, the optimiser."""
    b, n, w = case.batch, case.points[0] * case.points[1], case.width
    total = {key: case.depth * value for key, value in layer(case).items()}
    total["shared_flops"] += 6 * b * n * ((case.inputs + 4) * w + w * case.head + case.head * case.outputs)
    total["shared_memory"] += (4 * w + 12 * case.head) * b * n * case.item
    total["repeated_memory"] += 12 * case.parameters * case.item  # gradient, clipping, AdamW
    total["bytes"] += 2 * 2 * b * case.item  # two norms of the loss
    total["messages"] += 2
    total["gradient_bytes"] = case.parameters * case.item
    return total


def transposed_bytes(case: Case, ranks: int, *, pruned: bool) -> float:
    """What a rank sends in a step for the same layers by an FFT over slabs: two transposes a layer forward and two backward.

    A transpose moves all but its own block of a rank's rows, complex (Pekurovsky 2012, section 3); ``pruned`` drops the modes that are not
    kept before the transpose (Grady et al. 2023).
    """
    columns = case.modes[1] // 2 + 1 if pruned else case.points[1] // 2 + 1
    rows = case.points[0] / ranks
    return 4 * case.depth * case.batch * rows * columns * case.width * 2 * case.item * (ranks - 1) / ranks


def summed(bytes_: float, messages: float, ranks: int, machine: Machine) -> float:
    """Seconds of some sums over ranks."""
    if ranks == 1:
        return 0.0
    return messages * 2 * math.ceil(math.log2(ranks)) * machine.latency + 2 * (ranks - 1) / ranks * bytes_ / machine.link


def seconds(case: Case, domain: int, data: int, machine: Machine, wide: Machine | None = None) -> dict[str, float]:
    """Time of a step of ``case.batch`` samples on ``domain * data`` processes; ``wide`` are the links between domains."""
    own = step(Case(**{**case.__dict__, "batch": case.batch // data}))
    whole = domain * data
    far = wide if wide and whole > domain else machine
    parts = {
        "arithmetic": (own["shared_flops"] / domain + own["repeated_flops"]) / machine.flops,
        "memory": (own["shared_memory"] / domain + own["repeated_memory"]) / machine.memory,
        "coefficients": summed(own["bytes"], own["messages"], domain, machine),
        "gradients": summed(own["gradient_bytes"], 1, whole, far),
    }
    return parts | {"total": sum(parts.values())}


# Data sheets: NVIDIA H100 SXM (TF32 dense on tensor cores 494.7 Tflop/s, HBM3 3.35 TB/s, NVLink 900 GB/s to and fro, so 450 each way),
# NVIDIA ConnectX-7 (400 Gbit/s a port). Assumed, on no data sheet: 40 % of the peak in these products, 70 % of all bandwidths, one port for
# each of a node's eight GPUs and all eight at work in a sum over nodes, 5 microseconds a message within a node and 10 between nodes.
H100 = Machine("H100 SXM, NVLink", 0.4 * 494.7e12, 0.7 * 3.35e12, 5e-6, 0.7 * 450e9)
NODE = 8
WIDE = Machine("H100 SXM, 8 x 400 Gbit/s between nodes", H100.flops, H100.memory, 10e-6, 0.7 * NODE * 50e9)
# 0.25 degrees, 69 variables (five at the surface, five on 13 levels less one), and their next state.
GLOBE = Case((721, 1440), 64, 69, 69, 128, 8, (49, 49), 256)


def projections() -> list[dict[str, object]]:
    """Steps of the globe at 25 km to 1024 GPUs: samples shared, rows shared, both, and a batch that grows with the GPUs."""
    rows: list[dict[str, object]] = []
    for gpus in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        one = Case(**{**GLOBE.__dict__, "batch": 1})
        ways = {
            "data": (GLOBE, 1, gpus) if gpus <= GLOBE.batch else None,
            "domain of one sample": (one, gpus, 1) if gpus <= GLOBE.points[0] else None,
            "domain in a node, data between": (GLOBE, min(gpus, NODE), max(1, gpus // NODE)) if gpus <= NODE * GLOBE.batch else None,
            "domain over two nodes, data between": (GLOBE, 2 * NODE, gpus // (2 * NODE)) if gpus >= 2 * NODE else None,
            "data, 8 samples a GPU": (Case(**{**GLOBE.__dict__, "batch": 8 * gpus}), 1, gpus),
        }
        for way, plan in ways.items():
            if plan is None:
                continue
            case, domain, data = plan
            machine = H100 if domain <= NODE else WIDE
            found = seconds(case, domain, data, machine, WIDE if domain * data > NODE else None)
            alone = seconds(case, 1, 1, H100)["total"]
            efficiency = alone / (gpus * found["total"])
            rows.append({"gpus": gpus, "way": way, "batch": case.batch, **found, "efficiency": efficiency})
    return rows
