"""How neural architecture search works, in one file: read it from top to bottom.

    python examples/one_file_nas.py                    # handwritten digits, on one core
    python examples/one_file_nas.py --strategy random  # the baseline that evolution has to beat
    python examples/one_file_nas.py --help             # every setting is a flag

It needs torch and numpy alone. Its steps are those of docs/tutorial.md.

Digits, seeds 0 to 2, mean ± standard deviation in %; torch 2.13, one core of an AMD EPYC:
    evolution  search 97.6 ± 0.4  from scratch 98.5 ± 0.2  test 98.0 ± 0.2  CPU 33 ± 5 s
    random     search 95.4 ± 0.6  from scratch 97.8 ± 0.8  test 98.7 ± 0.4  CPU 30 ± 3 s
Six conv3x3, which nobody searched for: test 98.2 ± 0.4. So evolution wins the search, where heirs
have trained for longer, but not the test: one of its 359 images is 0.3 points.
"""

from __future__ import annotations

import argparse
import math
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

# --- 0. Settings and images -----------------------------------------------------------------------

DATA = "digits"  # or CIFAR-10: cifar-10-binary.tar.gz, or the folder that is in it
SEED = 0  # the same seed gives the same search, to the last digit
STRATEGY = "evolution"  # or "random"
BUDGET = 120  # epochs that all candidates together may train for: what the search costs
TRAIN_IMAGES = 719  # that candidates learn from
VALID_IMAGES = 719  # that judge them; with few of them luck decides
CHANNELS = 8  # of layer 1; layer 2 has twice as many
LENGTH = 6  # operations in a network
POPULATION = 10  # the best so far, who may be parents
TOURNAMENT = 3  # of them compete to be one
CROSSOVER = 0.5  # of the children have two parents
POOL = 16  # children are bred for each one that is trained; 1: no predictor
INHERIT = 1  # children begin with their parents' weights; 0: they do not
EPOCHS = 4  # of a candidate that begins with random weights
HEIR_EPOCHS = 2  # of one that begins with its parents'
KILL = 0.25  # of the candidates are given up half-way
FINALISTS = 3  # are trained again, from scratch and for longer
FINAL_EPOCHS = 16
BATCH = 32
LR = 0.1  # at its highest
SETTINGS = {name: value for name, value in globals().items() if name.isupper() and name != "F"}

Genome = tuple[int, ...]  # a network as a list of numbers: places in the table of operations
Child = tuple[Genome, list[int]]  # a genome and its parents: their places among all candidates
Images = tuple[Tensor, Tensor]  # (N, C, H, W) uint8 and their classes, (N,) int64


def configure(argv: list[str]) -> None:
    """Lets the command line replace the settings above, as in `--channels 16`."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name, value in SETTINGS.items():
        flag = "--" + name.lower().replace("_", "-")
        choices = ["evolution", "random"] if name == "STRATEGY" else None
        parser.add_argument(flag, dest=name, type=type(value), default=value, choices=choices)
    for name, value in vars(parser.parse_args(argv)).items():
        least = {"SEED": 0, "INHERIT": 0, "LENGTH": 2}.get(name, 1)
        if type(value) is int and value < least:
            parser.error(f"{name} must be {least} or more, but is {value}")
        globals()[name] = value


def read(part: str) -> Images:
    """The images of "train" or "test": apart, so that nothing sees the test set before its time."""
    if DATA == "digits":
        with np.load(Path(__file__).resolve().parent.parent / "nanonas/data/digits.npz") as arrays:
            x, y = arrays[f"x_{part}"][:, None], arrays[f"y_{part}"]  # grey: one channel
        return torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] if part == "train" else ["test_batch.bin"]
    try:
        if Path(DATA).is_dir():
            content = b"".join((Path(DATA) / name).read_bytes() for name in names)
        else:
            with tarfile.open(DATA) as archive:
                files = [archive.extractfile(f"cifar-10-batches-bin/{name}") for name in names]
                content = b"".join(file.read() for file in files if file is not None)
        # A record is a byte for the class, then the red, green and blue planes of 32×32 pixels.
        records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, 1 + 3 * 32 * 32)
    except (OSError, EOFError, KeyError, RuntimeError, ValueError, tarfile.TarError) as error:
        raise SystemExit(f"{DATA!r} is no cifar-10-binary.tar.gz: {error}") from None
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].long()


# --- 1. What is searched --------------------------------------------------------------------------
#     image → stem (C channels) → layer 1: the first half of the genome
#           → reduction (2C channels, half the side) → layer 2: the second half
#           → mean over the map → classifier
#
# Whatever a genome says, the shapes fit. 8 operations in 6 places: 262,144 networks.


def conv(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Without a bias, which the norm that follows would take away again."""
    return nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)


OPERATIONS: dict[str, Callable[[int], list[nn.Module]]] = {
    "conv3x3": lambda c: [conv(c, c, 3)],
    "conv1x1": lambda c: [conv(c, c, 1)],
    # one filter for each channel, then 1×1 to mix them: a fraction of the weights
    "sep_conv3x3": lambda c: [conv(c, c, 3, groups=c), conv(c, c, 1)],
    "sep_conv5x5": lambda c: [conv(c, c, 5, groups=c), conv(c, c, 1)],
    "maxpool": lambda c: [nn.MaxPool2d(3, 1, 1)],
    "avgpool": lambda c: [nn.AvgPool2d(3, 1, 1, count_include_pad=False)],
    "skip": lambda c: [],  # nothing but the residual around it: x + x
    "zero": lambda c: [],  # not even that: the place stays empty
}
NAMES = list(OPERATIONS)


class Residual(nn.Sequential):
    """x → relu(x + operation(x)): deep networks train, since each operation may do little."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + super().forward(x))  # type: ignore[no-untyped-call]


def build(genome: Genome, channels: int) -> nn.Sequential:
    """The network of a genome for images of so many channels: (B, C, H, W) → (B, 10) logits.
    A part is called after its place and its operation, as in "3 conv1x1". Step 5 lives on that.
    """
    net = nn.Sequential()
    net.add_module("pixels", nn.BatchNorm2d(channels, affine=False))  # brings all to one scale
    for place, name in enumerate(NAMES[number] for number in genome):
        if place in (0, len(genome) // 2):  # a layer begins: with the stem, with the reduction
            stride = 1 if place == 0 else 2
            first, channels = conv(channels, stride * CHANNELS, 3, stride), stride * CHANNELS
            entry = nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU())
            net.add_module(f"entry {stride}", entry)
        if name != "zero":
            norm = [] if name == "skip" else [nn.BatchNorm2d(channels)]
            net.add_module(f"{place} {name}", Residual(*OPERATIONS[name](channels), *norm))
    net.add_module("mean", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    net.add_module("classifier", nn.Linear(channels, 10))
    return net


def words(genome: Genome) -> str:
    """Equal for genomes of one network: where a zero stands makes no difference."""
    halves = genome[: len(genome) // 2], genome[len(genome) // 2 :]
    names = [[NAMES[number] for number in half if NAMES[number] != "zero"] for half in halves]
    return " | ".join(" ".join(half) or "nothing" for half in names)


# --- 2. Random search, and why a baseline matters -------------------------------------------------
# The plainest search draws genomes blindly, trains each network for a little, and keeps the best.
# That rises with every draw, as in any search, so a rising line proves nothing. All that follows
# has to beat this one with the same budget: `--strategy random`.


def augment(x: Tensor) -> Tensor:
    """Each image moved by up to an eighth of its side, and every other one mirrored if it has
    colours: what is never seen twice cannot be learnt by heart. (A mirrored digit is no digit.)
    """
    (b, c, h, w), reach = x.shape, max(1, x.shape[-1] // 8)
    x = F.pad(x, [reach] * 4, mode="reflect")
    top, left = torch.randint(2 * reach + 1, (2, b, 1))
    rows, columns = top + torch.arange(h), left + torch.arange(w)  # (B, H), (B, W)
    if c == 3:
        columns = torch.where(torch.rand(b, 1) < 0.5, columns.flip(1), columns)
    moved = x[torch.arange(b)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # (B, H, W, C) → (B, C, H, W)


def train(net: nn.Module, x: Tensor, y: Tensor, epochs: int) -> Iterator[int]:
    """Trains, and says after each epoch how many are done, so that the caller may look and stop."""
    steps = max(1, len(x) // BATCH)  # in an epoch
    sgd = torch.optim.SGD(net.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
    for epoch in range(epochs):
        net.train()
        for step, rows in enumerate(torch.randperm(len(x)).tensor_split(steps)):
            # One cycle: up, lest the first steps break something, then down to 0, where what the
            # batches disagree on averages out. So even a short training comes to its end.
            done = (epoch + step / steps) / epochs
            cosine = (1 + math.cos(math.pi * (done - 0.2) / 0.8)) / 2
            sgd.param_groups[0]["lr"] = LR * (0.05 + 0.95 * done / 0.2 if done < 0.2 else cosine)
            loss = F.cross_entropy(net(augment(x[rows] / 255)), y[rows], label_smoothing=0.1)
            sgd.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            sgd.step()
        yield epoch + 1


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of images that are put into the right class."""
    net.eval()
    classes = torch.cat([net(batch / 255).argmax(1) for batch in torch.split(x, 500)])
    return float((classes == y).float().mean())


# --- 3. Evolution ---------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A network that was trained, and what came of it."""

    genome: Genome
    parents: list[int]  # their places among all candidates
    guess: float | None  # by how much better than its parent, as the predictor said beforehand
    accuracy: float  # on the validation images
    params: int
    weights: dict[str, Tensor]


def best(tried: list[Candidate], n: int) -> list[int]:
    """The places of the n most accurate."""
    return sorted(range(len(tried)), key=lambda place: -tried[place].accuracy)[:n]


def select(tried: list[Candidate], rng: np.random.Generator) -> int:
    """The best of a few that are drawn: the good breed often, yet the best not all the time."""
    population = best(tried, POPULATION)  # the best first
    return population[int(rng.integers(len(population), size=TOURNAMENT).min())]


def breed(tried: list[Candidate], rng: np.random.Generator) -> Child:
    """A genome and its parents."""
    if STRATEGY == "random" or len(tried) < POPULATION:  # so there is nobody to breed: draw
        return tuple(int(number) for number in rng.integers(len(NAMES), size=LENGTH)), []
    a, b = select(tried, rng), select(tried, rng)
    parents = [a] if a == b or rng.random() > CROSSOVER else [a, b]
    # Crossover: the beginning of one and the end of the other, for what each of them does well.
    cut = int(rng.integers(1, LENGTH))
    genome = [*tried[parents[0]].genome[:cut], *tried[parents[-1]].genome[cut:]]
    # Mutation: one operation becomes another. A small step, for what is good has good neighbours;
    # were it not so, nothing could beat drawing blindly.
    place = int(rng.integers(LENGTH))
    genome[place] = (genome[place] + int(rng.integers(1, len(NAMES)))) % len(NAMES)
    return tuple(genome), parents


# --- 4. A predictor chooses -----------------------------------------------------------------------
# Training costs, a guess is free: many children are bred, and only the one that promises most is
# trained. The guess is written down first, and held against what comes out.


def features(genome: Genome) -> NDArray[np.float64]:
    """Which operation is in which place, and how many of each are in a layer: (8 LENGTH + 16,).
    The counts are nothing new, but let the predictor believe of all places what it saw in one.
    """
    places, half = np.eye(len(NAMES))[list(genome)], len(genome) // 2  # (LENGTH, 8)
    return np.concatenate([places.ravel(), places[:half].sum(0), places[half:].sum(0)])


def predict(tried: list[Candidate], genomes: list[Genome]) -> NDArray[np.float64]:
    """What to expect of each genome, (n,), by ridge regression. Higher is better. It learns ranks,
    because by how much the worst failed says nothing about the good ones.
    """
    x = np.array([features(each.genome) for each in tried])
    ranks = np.argsort(np.argsort([each.accuracy for each in tried])) / len(tried)
    x, mean = x - x.mean(0), x.mean(0)
    # The ones on the diagonal keep weights small: at first there are more of them than networks.
    weights = np.linalg.solve(x.T @ x + np.eye(len(mean)), x.T @ (ranks - ranks.mean()))
    return np.asarray((np.array([features(genome) for genome in genomes]) - mean) @ weights)


def audit(tried: list[Candidate]) -> float:
    """Kendall's tau-b of the last 20 guesses: pairs in the right order minus pairs that are not, 1
    where all are right, 0 by chance. They are of what a child has over its parent: accuracies rise
    as a search goes on, and whatever rises with them would look like foresight.
    """
    asked = [each for each in tried if each.guess is not None][-20:]
    judged = [(each.guess, each.accuracy - tried[each.parents[0]].accuracy) for each in asked]
    a, b = (np.sign(np.subtract.outer(values, values)) for values in np.array(judged).T)
    return float((a * b).sum() / max(1, math.sqrt((a**2).sum() * (b**2).sum())))


def propose(tried: list[Candidate], rng: np.random.Generator) -> tuple[Child, float | None]:
    """What to train next, and the predictor's guess."""
    seen = {words(each.genome) for each in tried}
    bred = [breed(tried, rng) for _ in range(100)]
    pool = [child for child in bred if words(child[0]) not in seen][:POOL] or bred[:1]
    if not pool[0][1] or POOL == 1:  # nothing to choose by yet, or nothing to choose from
        return pool[0], None
    guesses = predict(tried, [genome for genome, _ in pool])
    # A predictor that is no better than chance has no say, until it is.
    chosen = int(guesses.argmax()) if len(tried) < 2 * POPULATION or audit(tried) > 0 else 0
    parent = predict(tried, [tried[pool[chosen][1][0]].genome])[0]
    return pool[chosen], float(guesses[chosen] - parent)


# --- 5. Cheaper candidates ------------------------------------------------------------------------


def inherit(net: nn.Module, parents: list[Candidate]) -> None:
    """Takes the weights of all parts that a parent has in the same place: all but what is new has
    learnt already. An heir's accuracy is borrowed in part, therefore; see step 7.
    """
    known = {name: value for each in reversed(parents) for name, value in each.weights.items()}
    own = net.state_dict()
    net.load_state_dict({name: known.get(name, value) for name, value in own.items()})


def search(learn: Images, judge: Images) -> list[Candidate]:
    """All of it together: propose, train, judge, remember, until the budget is spent."""
    rng = np.random.default_rng(SEED)
    tried: list[Candidate] = []
    half_way: dict[int, list[float]] = {EPOCHS: [], HEIR_EPOCHS: []}  # heirs know more by then
    spent = 0
    while spent < BUDGET:
        (genome, parents), guess = propose(tried, rng)
        torch.manual_seed(1000 * SEED + len(tried))
        net, epochs = build(genome, learn[0].shape[1]), EPOCHS
        if parents and INHERIT:
            inherit(net, [tried[parent] for parent in parents])
            epochs = HEIR_EPOCHS
        for done in train(net, *learn, epochs):
            spent += 1
            if done == epochs // 2:
                others = half_way[epochs]
                others.append(accuracy(net, *judge))
                # Who is behind most by now is given up: wrongly at times, but that trains others.
                if len(others) > 4 and others[-1] < np.quantile(others, KILL):
                    break
        right, params = accuracy(net, *judge), sum(weight.numel() for weight in net.parameters())
        tried.append(Candidate(genome, parents, guess, right, params, net.state_dict()))
        note = " × ".join(f"#{parent}" for parent in parents) or "drawn"
        note = f"{note}, killed" if done < epochs else note
        print(f"#{len(tried) - 1:<3} {right:6.1%} {params:7,}  {words(genome)}  ({note})")
        if len(tried) % POPULATION == 0:
            median = np.median([each.accuracy for each in tried[-POPULATION:]])
            tau = f"; tau of the predictor {audit(tried):+.2f}" if guess is not None else ""
            print(f"     half are above {median:.1%}; the best is #{best(tried, 1)[0]}{tau}\n")
    return tried


# --- 6. Several objectives: fronts ----------------------------------------------------------------


def front(tried: list[Candidate]) -> list[int]:
    """The candidates that none of the others beats in accuracy and in size: from small to large."""
    members: list[int] = []
    for place in sorted(best(tried, len(tried)), key=lambda place: tried[place].params):
        if not members or tried[place].accuracy > tried[members[-1]].accuracy:
            members.append(place)
    return members


# --- 7. Did it work? ------------------------------------------------------------------------------


def from_scratch(genome: Genome, learn: Images, judge: Images) -> float:
    """The accuracy of the network of a genome after a training that is worth the name."""
    torch.manual_seed(SEED)
    net = build(genome, learn[0].shape[1])
    list(train(net, *learn, FINAL_EPOCHS))
    return accuracy(net, *judge)


def main(argv: list[str]) -> None:
    configure(argv)
    began = time.process_time()
    x, y = read("train")
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))
    valid, rest = shuffled[:VALID_IMAGES], shuffled[VALID_IMAGES:][:TRAIN_IMAGES]
    learn, judge = (x[rest], y[rest]), (x[valid], y[valid])
    if not len(rest):
        raise SystemExit(f"VALID_IMAGES is {VALID_IMAGES}, which leaves none of {len(x)} to learn")
    tried = search(learn, judge)

    print("the front, from small to large:")
    for place in front(tried):
        print(f"#{place:<3} {tried[place].accuracy:6.1%} {tried[place].params:7,}")

    # The best of many noisy figures flatters, and an heir's is borrowed in part. So the best few
    # begin anew, and train for long enough to show what they are.
    print(f"\nthe best {FINALISTS} from scratch, for {FINAL_EPOCHS} epochs:")
    results: dict[int, float] = {}
    for place in best(tried, FINALISTS):
        results[place] = from_scratch(tried[place].genome, learn, judge)
        print(f"#{place:<3} {results[place]:6.1%}  ({tried[place].accuracy:.1%} in the search)")
    winner = max(results, key=lambda place: results[place])

    # All is decided, so the winner may learn from all images, and the test set is opened, once.
    # Beside it a network that nobody searched for: if it is as good, the search was for nothing.
    test = read("test")
    print(f"\ntrained on all {len(x)} images, right on how many of {len(test[0])} test images:")
    for name, genome in ((f"#{winner}", tried[winner].genome), ("conv3x3 only", (0,) * LENGTH)):
        right = from_scratch(genome, (x, y), test)
        print(f"{name:12} {right:.2%} ± {1.96 * math.sqrt(right * (1 - right) / len(test[0])):.2%}")
    print(f"{time.process_time() - began:.0f} seconds of one core")


if __name__ == "__main__":
    torch.set_num_threads(1)  # maps so small are not worth dividing
    main(sys.argv[1:])
