"""What training a network costs: work counted by kind, and weighed in seconds.

Multiply-accumulates alone say little of it: on a CPU a value that a norm reads and writes takes as
long as tens of them, and one of a 5×5 depthwise convolution forty times as long as one of a plain
convolution. So work is counted apart where it runs at its own speed, and `fitted` learns the speeds
from a few networks that were timed (`training.measuring.speed.calibrate`).

A kind of work is a path, such as "values/norm/layer_norm": what is counted, the family of the
operation, the operation. One that a model does not know costs what its parent does,
"values/norm" here, so new operations need no entry.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.errors import ConfigError
from nanonas.networks.network import Network
from nanonas.networks.ops import Node

# Channels that convolutions compute at once, where fewer take as long; and that norms and pools
# read at once, before they go on one by one.
BLOCK, READ_AT_ONCE = 16, 32

# Of `cost_power`: its value after so many images, and what it loses when they are e times as many.
POWER, POWER_IMAGES, POWER_FALLS = 0.87, 7000, 0.2
MOST_ALLOWED = (1 / 4, 4.0)  # the least factor and the greatest

# Kinds that every model knows: what others fall back on.
ROOTS = frozenset({"macs", "rows", "values", "windows", "rest", "step"})

# Nanoseconds of one unit of work in bfloat16 and in float32, where a fit starts: one thread of an
# EPYC (Zen 5), torch 2.13, batches of 128; fitted to 385 random networks of `stages` and `layers`.
_NANOSECONDS: dict[str, tuple[float, float]] = {
    "macs": (0.082, 0.082),
    "macs/conv": (0.025, 0.049),
    "macs/conv/1x1": (0.01, 0.051),
    "macs/conv/1x1/strided": (0.014, 0.021),
    "macs/conv/depthwise": (0.66, 0.37),
    "macs/conv/depthwise/3": (0.11, 0.05),
    "macs/conv/depthwise/3/strided": (0.91, 0.7),
    "macs/conv/depthwise/5": (0.89, 0.4),
    "macs/conv/depthwise/7": (0.36, 0.28),
    "macs/conv/depthwise/7/strided": (0.5, 0.51),
    "macs/conv/grouped": (0.25, 0.49),
    "macs/conv/image": (0.03, 0.034),
    "macs/conv/kxk": (0.023, 0.041),
    "macs/conv/kxk/strided": (0.037, 0.069),
    "macs/dense/dense": (0.085, 0.082),
    "macs/other/channel_attention": (0.082, 0.082),
    "macs/other/spatial_attention": (0.08, 0.074),
    "macs/other/squeeze_excite": (0.082, 0.078),
    "rest": (3.3, 1.2),
    "rest/norm/group_norm": (13, 1.1),
    "rest/norm/layer_norm": (18, 5.9),
    "rest/norm/norm": (0.5, 0.3),
    "rest/pool/avgpool": (0.44, 0.72),
    "rest/pool/globalmaxpool": (4.3, 1.3),
    "rest/pool/globalpool": (0.32, 0.32),
    "rest/pool/maxpool": (1.1, 0.1),
    "rest/pool/space_to_depth": (0.55, 0.51),
    "rows": (8.2, 3.3),
    "rows/conv/depthwise": (16, 4.1),
    "rows/conv/depthwise/3": (0.81, 0.86),
    "rows/conv/depthwise/3/strided": (150, 4.6),
    "rows/conv/depthwise/5": (15, 2.9),
    "rows/conv/depthwise/5/strided": (140, 4.1),
    "rows/conv/depthwise/7": (14, 5.3),
    "rows/conv/depthwise/7/strided": (150, 5.0),
    "step": (41000, 41000),
    "step/layers": (210000, 230000),
    "step/nodes": (190000, 110000),
    "step/once": (660000, 960000),
    "step/params": (8.8, 9.1),
    "step/products": (0.02, 0.039),
    "values": (0.82, 0.82),
    "values/act": (0.66, 0.82),
    "values/act/gelu": (1.4, 1.4),
    "values/act/hardswish": (0.29, 0.39),
    "values/act/leaky_relu": (0.31, 0.47),
    "values/act/relu": (0.35, 0.5),
    "values/act/silu": (0.92, 0.61),
    "values/conv": (1.3, 1.7),
    "values/dense/dense": (0.83, 0.83),
    "values/image": (1.8, 0.86),
    "values/join": (0.57, 0.58),
    "values/join/add": (0.14, 0.15),
    "values/join/concat": (1.0, 1.1),
    "values/norm/group_norm": (0.76, 1.0),
    "values/norm/layer_norm": (0.14, 0.43),
    "values/norm/norm": (0.33, 0.56),
    "values/other": (1.6, 1.6),
    "values/other/channel_attention": (4.1, 3.8),
    "values/other/dropout": (4.0, 3.8),
    "values/other/slice": (2.1, 1.4),
    "values/other/spatial_attention": (9.9, 7.8),
    "values/other/squeeze_excite": (4.5, 3.0),
    "values/pool": (0.66, 0.66),
    "values/pool/avgpool": (0.44, 0.66),
    "values/pool/globalmaxpool": (0.68, 0.67),
    "values/pool/globalpool": (0.96, 0.65),
    "values/pool/maxpool": (1.2, 1.2),
    "values/pool/space_to_depth": (3.2, 3.7),
    "windows": (0.33, 0.33),
    "windows/pool/avgpool": (0.27, 0.34),
    "windows/pool/maxpool": (0.04, 0.14),
}
DEFAULTS: Mapping[str, Mapping[str, float]] = {  # seconds by kind of work, by precision
    precision: {kind: 1e-9 * pair[place] for kind, pair in _NANOSECONDS.items()}
    for place, precision in enumerate(("bfloat16", "float32"))
}

# Standard deviations, both relative: of a coefficient around its default, once the machine's own
# speed is taken out, and of a prediction around what was measured.
SPREAD, NOISE = 0.5, 0.1


def counts(network: Network) -> dict[str, float]:
    """The work of training a network, by kind.

    For each image:

    - "macs": multiply-accumulates of the forward pass, with channels rounded up to whole blocks of
      16 in convolutions that mix them. Convolutions by how they are computed: "1x1", "kxk",
      "grouped", "image" (what reads the image has no gradient to pass on), "depthwise" and its
      kernel; those with a stride apart.
    - "rows": of depthwise kernels on rows of a channel, which some libraries call one by one.
    - "values": numbers that operations other than depthwise convolutions read and write.
    - "windows": what pools read, each value as often as it lies in a window.
    - "rest": values that norms and pools read in channels beyond whole blocks of 32.

    For each step: "step/once" is 1; "step/nodes", "step/layers" (of weights), "step/params"; and
    "step/products", the products of weight matrices with themselves that an optimizer such as Muon
    needs.
    """
    found: Counter[str] = Counter({"values/image": math.prod(network.input_shape), "step/once": 1})
    unlearnt = {"input"}  # what is computed of the image without weights, and needs no gradient
    for node in network.nodes:
        first = unlearnt.issuperset(node.inputs)
        if first and not node.params:
            unlearnt.add(node.name)
        if node.traits.family == "conv":
            found.update(_convolution(node, first))
            found["step/products"] += _products(node)
        else:
            found.update(_other(node))
    found["step/nodes"] = len(network.nodes)
    found["step/layers"] = sum(node.traits.is_layer for node in network.nodes)
    found["step/params"] = network.params
    return {kind: float(number) for kind, number in found.items() if number}


def _convolution(node: Node, first: bool) -> dict[str, int]:
    read, written = node.input_shapes[0][0], node.shape[0]
    strided = "/strided" if node.stride > 1 else ""
    if node.channelwise:
        kind = f"conv/depthwise/{node.kernel}{strided}"
        rows = read * node.input_shapes[0][1] * node.kernel
        return {f"macs/{kind}": node.macs, f"rows/{kind}": rows}
    if node.grouped:
        return {"macs/conv/grouped": node.macs, "values/conv": _values(node)}
    if first:
        kind, blocks = "image", read
    else:
        kind, blocks = ("kxk" if node.kernel > 1 else "1x1") + strided, _in_blocks(read)
    macs = node.macs // (read * written) * blocks * _in_blocks(written)
    return {f"macs/conv/{kind}": macs, "values/conv": _values(node)}


def _other(node: Node) -> dict[str, int]:
    kind = f"{node.traits.family}/{node.values.get('kind', node.op)}"
    work = {f"macs/{kind}": node.macs, f"values/{kind}": _values(node)}
    if node.traits.family == "pool" and node.kernel > 1:
        work[f"windows/{kind}"] = math.prod(node.shape) * node.kernel**2
    if node.traits.family in ("norm", "pool"):
        channels, *sides = node.input_shapes[0]
        work[f"rest/{kind}"] = channels % READ_AT_ONCE * math.prod(sides)
    return work


def _values(node: Node) -> int:
    """How many numbers it reads and writes for an image."""
    return sum(map(math.prod, (*node.input_shapes, node.shape)))


def _in_blocks(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def _products(node: Node) -> int:
    """Multiply-accumulates, about half of them, that make a step with its weights orthogonal: by
    products of an (m, n) matrix, m ≤ n, with itself, then of (m, m) matrices.
    """
    if node.grouped:
        return 0
    columns = node.input_shapes[0][0] * node.kernel**2
    small, large = sorted((node.shape[0], columns))
    return small**2 * (large + 9 * small)


@dataclass(frozen=True)
class CostModel:
    """Seconds for each kind of work: how long a network trains on one device, with one recipe.

    `dataclasses.asdict` makes JSON of it, and `CostModel(**…)` a model of that.

    Raises:
        ConfigError: a coefficient is negative or no number, "macs" or another kind that others
            fall back on is missing, or the batch has no image.
    """

    coefficients: Mapping[str, float] = field(hash=False)  # seconds, by kind of work
    batch_size: int = 128  # images in one step

    def __post_init__(self) -> None:
        for kind, seconds in self.coefficients.items():
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigError(
                    f"the coefficient of {kind!r} must be 0 s or more, but is {seconds}; "
                    "calibrate the cost model again"
                )
        if missing := sorted(ROOTS - set(self.coefficients)):
            raise ConfigError(
                f"a cost model needs coefficients of {', '.join(missing)}; calibrate it again"
            )
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, but is {self.batch_size}")

    def seconds(self, network: Network) -> float:
        """Of one training image: forward, backward, and its share of a step."""
        return float(sum(self.by_kind(network).values()))

    def by_kind(self, network: Network) -> dict[str, float]:
        """The same, by kind of work."""
        return {
            kind: number * _coefficient(self.coefficients, kind)
            for kind, number in per_image(network, self.batch_size).items()
        }


def cost_power(images: float) -> float:
    """The power of its cost that a network's seconds of training grow with, so that its accuracy
    compares with those of others: from 1, equal epochs, where trainings are short, down to 0, equal
    seconds, where they are as long as a winner's.

    A doubling of a training is worth the less the longer it is already. What a dear network loses
    to a cheap one when both train for as long as the winner must be what it loses in a short
    training. Fitted by eye to the powers at which the order of networks after 7 to 20 seconds was
    free of their cost against that after 90 (benchmarks/ranking.py, CIFAR-10, 250,000 parameters),
    and at which candidates of 50,000 and 100,000 parameters were against the finalists.

    Args:
        images: that a network of typical cost trains on, in whole size.
    """
    power = POWER - POWER_FALLS * math.log(max(images, 1.0) / POWER_IMAGES)
    return min(1.0, max(0.0, power))


def allowance(each: float, typical: float | None, seconds: float) -> float:
    """How many times as long as a typical network one trains, to be compared with it fairly: see
    `cost_power`.

    Args:
        each: seconds of training an image, of the network.
        typical: those of a typical one; None: all networks train for as long.
        seconds: of a typical one's training.

    Returns:
        a factor within `MOST_ALLOWED`.
    """
    if typical is None:
        return 1.0
    least, most = MOST_ALLOWED
    return float(min(most, max(least, (each / typical) ** cost_power(seconds / typical))))


def per_image(network: Network, batch_size: int) -> dict[str, float]:
    """`counts`, with the image's share of what each step does."""
    return {
        kind: number / batch_size if kind.startswith("step/") else number
        for kind, number in counts(network).items()
    }


def _coefficient(coefficients: Mapping[str, float], kind: str) -> float:
    """Of a kind of work, or of the nearest of its parents that is known."""
    while kind not in coefficients:
        kind, _, _ = kind.rpartition("/")
    return coefficients[kind]


def fitted(
    work: Sequence[Mapping[str, float]],
    seconds: Sequence[float],
    batch_size: int,
    prior: Mapping[str, float],
) -> CostModel:
    """The model that explains measured times, and that stays near a prior where they say little.

    Non-negative least squares of the relative errors, with a ridge: each coefficient is drawn to
    its prior, times the factor by which this machine is slower altogether. Lawson & Hanson 1974,
    chapter 23.

    Args:
        work: of each network, by kind: `per_image`.
        seconds: of a training image, likewise; above 0.
        batch_size: images in one step.
        prior: seconds by kind of work; the `ROOTS` are among them.
    """
    from scipy.optimize import nnls

    kinds = sorted({*prior, *(kind for each in work for kind in each)})
    start = np.array([_coefficient(prior, kind) for kind in kinds])
    # shares of the measured time that the prior would give to each kind
    shares = np.array([[each.get(kind, 0.0) for kind in kinds] for each in work]) * start
    shares /= np.array(seconds)[:, None]
    slower = 1 / np.median(shares.sum(axis=1))
    # in standard deviations: first the networks, then the coefficients
    rows = np.vstack([slower * shares / NOISE, np.eye(len(kinds)) / SPREAD])
    wanted = np.concatenate([np.full(len(work), 1 / NOISE), np.full(len(kinds), 1 / SPREAD)])
    factors, _ = nnls(rows, wanted)
    return CostModel(dict(zip(kinds, (slower * start * factors).tolist(), strict=True)), batch_size)
