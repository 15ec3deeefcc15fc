"""A run on a terminal: its summary, its best networks, an architecture line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Entry, Record
from nanonas.config.parts import STRATEGIES
from nanonas.config.schema import EPOCHS
from nanonas.core import Genome
from nanonas.engine.ranking import front_of
from nanonas.engine.storage.events import SESSION_ENDS
from nanonas.networks.layout import drawing
from nanonas.networks.network import Network
from nanonas.report.charts.progress import by_minute
from nanonas.report.rows.sheet import MISSING
from nanonas.report.rows.tables import trained_front
from nanonas.spaces.base import Space
from nanonas.text import (
    by_number,
    count,
    duration,
    kilobytes,
    mebibytes,
    milliseconds,
    number_of,
    percent,
    sparkline,
)

_MEASURED = {  # in a table where any candidate has it
    "latency": milliseconds,
    "memory": mebibytes,
    "flash": kilobytes,
    "ram": kilobytes,
}
_WIDTH = 44  # of a line of blocks, in letters


def summary(record: Record) -> str:
    """A few lines: what was searched, how far it came, how it ended."""
    search = record.search
    evaluations = [entry.evaluation for entry in record.trained if entry.evaluation is not None]
    states = Counter(evaluation.state.value for evaluation in evaluations).most_common()
    counted = ", ".join(f"{number} {state}" for state, number in states) or "none yet"
    busy = sum(evaluation.seconds for evaluation in evaluations)
    strategy = search["strategy"]
    if strategy in STRATEGIES and STRATEGIES[strategy].screens:
        strategy = f"{search['screens']} screened by {search['predictor']}"
    seconds, epochs = search.get("candidate_seconds"), search["epochs"]
    length = f"{seconds:.3g} s" if seconds else number_of(epochs or EPOCHS, "epoch")
    lines = [
        f"{strategy} over the space {search['space']!r} on {search['data']}, seed "
        f"{search['seed']}, {length} a candidate in {search['precision']}",
        f"{number_of(len(evaluations), 'candidate')}: {counted}; {duration(busy)} of training in "
        "all",
    ]
    if record.ancestor is not None:
        lines.append(f"all began with the weights of {record.ancestor}, as far as they fit")
    ends = [event for event in record.events if event.kind in SESSION_ENDS]
    if ends:
        lines.append(f"the search ended: {ends[-1].details.get('message', ends[-1].kind)}")
    return "\n".join(lines)


def best_table(record: Record, number: int) -> Table:
    """The best candidates: accuracy on the validation images, costs, where they came from."""
    return _table(record.ranked[:number], record.measure)


def front_table(record: Record) -> Table:
    """The candidates that no other dominates, the most accurate first."""
    told = [entry.told for entry in record.ranked if entry.told is not None]
    front = front_of(told, record.objectives)
    return _table([record.entries[member.number] for member in front], record.measure)


def trained_front_table(findings: Findings) -> Table:
    """The networks of the front that were finally trained, each with its test accuracy and the ends
    of its 95 % interval; without rows where it was none but the winner.
    """
    sheet = trained_front(findings)
    columns = [Column(name, justify="right") for name in sheet.names]
    table = Table(*columns, box=None, pad_edge=False)
    for row in sheet.said():
        table.add_row(*row)
    return table


def audit_table(findings: Findings) -> Table:
    """How well each predictor, and the free scores, ordered the networks that were trained
    afterwards.

    Kendall's τ with its 95 % interval, and of how many; without rows while fewer than 3 were
    trained.
    """
    table = Table(box=None, show_header=False)
    for name, trust in {**findings.predictors, **findings.free_scores}.items():
        table.add_row(name, Text(str(trust)))
    return table


def inheritance(findings: Findings) -> str | None:
    """How much of the parents' weights the candidates began with, and what that did; None where
    none inherited.

    The head start and Kendall's τ are against the same networks from scratch, where 3 or more had
    such a twin.
    """
    heirs = [entry for entry in findings.record.trained if entry.proposal.inherits]
    shares = [e.metrics["inherited_share"] for e in heirs if "inherited_share" in e.metrics]
    if not shares:
        return None
    mean = sum(shares) / len(shares)
    candidates, their = number_of(len(shares), "candidate"), by_number(len(shares), "its", "their")
    words = f"{candidates} began with {their} parents' weights, {mean:.0%} of {their} own"
    start = findings.head_start
    if start is None:
        return f"{words}; fewer than 3 were trained from scratch, too"
    return f"{words}; against {start.correlation.n} of them from scratch: {start}"


def _table(entries: Sequence[Entry], measure: str) -> Table:
    measured = {
        name: words
        for name, words in _MEASURED.items()
        if any(name in entry.metrics for entry in entries)
    }
    heirs = any(entry.proposal.inherits for entry in entries)
    names = ["#", measure, "parameters", "MACs", *measured, "state", "epochs"]
    table = Table(*names, *(["inherited"] if heirs else []), "parents", box=None)
    for entry in entries:
        proposal, metrics = entry.proposal, entry.metrics
        row = [str(entry.number), f"{metrics['accuracy']:.2%}"]
        row += [count(metrics["params"]), count(metrics["macs"])]
        for name, words in measured.items():
            row.append(words(metrics[name]) if name in metrics else MISSING)
        row += [entry.state, str(_epochs(entry))]
        if heirs:
            share = f"{metrics.get('inherited_share', 0):.0%}"
            row.append(share if proposal.inherits else MISSING)
        parents = " ".join(f"#{parent}" for parent in proposal.parents)
        others = "another run" if proposal.recalled else MISSING
        row.append(parents or proposal.ancestor or others)
        table.add_row(*row)
    return table


def _epochs(entry: Entry) -> int:
    """How long a network has been trained, in all."""
    assert entry.evaluation is not None
    proposal = entry.proposal
    went_on = proposal.resumes is not None and "inherited_share" in entry.metrics
    before = proposal.budget.begin if went_on and proposal.budget is not None else 0
    return before + len(entry.evaluation.curve)


def fitness(findings: Findings) -> Group:
    """How the search went, as two lines: the best so far and the median of the last ones, and where
    each led.
    """
    sheet = by_minute(findings)
    lines = []
    for name in ("best so far", "median"):
        values = sheet[name]
        if values:
            ends = f"{percent(values[0])} → {percent(values[-1])}"
            words = f"  {name:<12} {sparkline(values, _WIDTH)}  {ends}"
            lines.append(Text(words, no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def architecture_tree(network: Network, title: str) -> Tree:
    """A network as a tree: its layers, with shapes and parameters, under the size of map that they
    work on.

    A layer that does not read the one before it, or not only that, says which ones it reads.
    """
    layers = drawing(network)
    tree, size, branch = Tree(Text(title)), "", None
    for place, row in enumerate(layers.rows):
        map_size = "×".join(map(str, row.shape[1:])) or "vectors"
        if branch is None or map_size != size:
            size, branch = map_size, tree.add(Text(map_size, style="dim"))
        sources = layers.reads(place)
        read = f"  ← {', '.join(map(str, sources))}" if sources else ""
        params = count(row.params) if row.params else ""
        words = f"{place:>2}  {row.words:<32} → {row.shape[0]:>3} {params:>6}{read}"
        branch.add(Text(words.rstrip()))
    return tree


def architecture(space: Space, genome: Genome) -> Group:
    """A genome in words, one line a decision, then the network's counts."""
    network = space.decode(genome)
    lines = space.describe(genome)
    shape = "×".join(map(str, network.input_shape))
    counts = (
        f"{network.params:,} parameters · {network.macs:,} MACs · depth {network.depth} · "
        f"{shape} → {network.classes}"
    )
    numbered = [Text(f"  {number:>2}  {line}") for number, line in enumerate(lines, 1)]
    return Group(*numbered, Text(f"  {counts}"))
