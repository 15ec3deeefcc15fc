"""A run in words: its summary, its best networks, an architecture line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from nanonas.analysis.record import Record
from nanonas.analysis.twins import head_start
from nanonas.core import Evaluation, Genome, Objective
from nanonas.engine.ranking import front_of, ranking
from nanonas.engine.storage.events import SESSION_ENDS
from nanonas.engine.storage.store import RunStore
from nanonas.networks.layout import drawing
from nanonas.networks.network import Network
from nanonas.predictors.audit import audited, audited_scores
from nanonas.report.rows import series
from nanonas.spaces.base import Space
from nanonas.text import count, duration, mebibytes, milliseconds, percent, sparkline


def summary(store: RunStore) -> str:
    """One paragraph: what was searched, how far it came, how it ended."""
    search = store.config["search"]
    evaluations = list(store.latest().values())
    states = Counter(evaluation.state.value for evaluation in evaluations)
    said = ", ".join(f"{number} {state}" for state, number in states.most_common()) or "none yet"
    busy = sum(evaluation.seconds for evaluation in evaluations)
    ended = [event for event in store.events() if event.kind in SESSION_ENDS]
    strategy = search["strategy"]
    if strategy == "screened":
        strategy = f"{search['screens']} screened by {search['predictor']}"
    lines = [
        f"{strategy} over the space {search['space']!r} on {search['data']}, seed "
        f"{search['seed']}, "
        f"{search['epochs']} epochs a candidate in {search['precision']}",
        f"{len(evaluations)} candidates: {said}; {duration(busy)} of training in all",
    ]
    if ended:
        lines.append(f"the search ended: {ended[-1].details.get('message', ended[-1].kind)}")
    return "\n".join(lines)


def best_table(store: RunStore, number: int) -> Table:
    """The best `number` candidates: accuracy on the validation images, costs, where they came from."""
    return _table(store, ranking(store.evaluations())[:number])


def front_table(store: RunStore, objectives: Sequence[Objective]) -> Table:
    """The candidates that no other dominates, the most accurate first; columns as in `best_table`."""
    return _table(store, front_of(ranking(store.evaluations()), objectives))


def audit_table(store: RunStore) -> Table:
    """How well each predictor, and the free scores, ordered the networks that were trained
    afterwards.

    Kendall's τ with its 95 % interval, and of how many; without rows while fewer than 3 were
    trained.
    """
    table, told = Table(box=None, show_header=False), store.told()
    for name, correlation in {
        **audited(told, Objective()),
        **audited_scores(told, Objective()),
    }.items():
        table.add_row(name, Text(str(correlation)))
    return table


def inheritance(store: RunStore) -> str | None:
    """What the candidates that inherited weights had of them, and what that did; None where none
    did.

    The head start and Kendall's τ are against the same networks from scratch, where 3 or more had
    such a twin.
    """
    told = store.told()
    shares = [
        e.metrics["inherited_share"]
        for c, e in told
        if c.proposal.inherits and "inherited_share" in e.metrics
    ]
    if not shares:
        return None
    said = f"{len(shares)} candidates began with their parents' weights, {sum(shares) / len(shares):.0%} of their own"
    start = head_start(told)
    if start is None:
        return f"{said}; fewer than 3 were trained from scratch, too"
    return f"{said}; against {start.correlation.n} of them from scratch: {start}"


def _table(store: RunStore, evaluations: Sequence[Evaluation]) -> Table:
    measured = {
        name: words
        for name, words in (("latency", milliseconds), ("memory", mebibytes))
        if any(name in evaluation.metrics for evaluation in evaluations)
    }
    candidates = store.candidates()
    heirs = (
        ["inherited"]
        if any(candidates[evaluation.number].proposal.inherits for evaluation in evaluations)
        else []
    )
    table = Table(
        "#",
        "accuracy",
        "parameters",
        "MACs",
        *measured,
        "state",
        "epochs",
        *heirs,
        "parents",
        box=None,
    )
    for evaluation in evaluations:
        proposal = candidates[evaluation.number].proposal
        resumed = proposal.resumes is not None and "inherited_share" in evaluation.metrics
        before = proposal.budget.begin if resumed and proposal.budget is not None else 0
        table.add_row(
            str(evaluation.number),
            f"{evaluation.accuracy:.2%}",
            count(evaluation.metrics["params"]),
            count(evaluation.metrics["macs"]),
            *(
                words(evaluation.metrics[m]) if m in evaluation.metrics else "–"
                for m, words in measured.items()
            ),
            evaluation.state.value,
            str(before + len(evaluation.curve)),
            *(
                [
                    f"{evaluation.metrics.get('inherited_share', 0):.0%}"
                    if proposal.inherits
                    else "–"
                ]
                if heirs
                else []
            ),
            " ".join(f"#{p}" for p in proposal.parents) or "–",
        )
    return table


def fitness(record: Record) -> Group:
    """How the search went, as two lines: the best so far and the median of the last ones, and where
    each led.
    """
    found = series.by_minute(record)
    lines = []
    for name in ("best so far", "median"):
        values = found[name]
        if values:
            ends = f"{percent(values[0])} → {percent(values[-1])}"
            lines.append(
                Text(
                    f"  {name:<12} {sparkline(values, 44)}  {ends}",
                    no_wrap=True,
                    overflow="ellipsis",
                )
            )
    return Group(*lines)


def architecture_tree(network: Network, title: str) -> Tree:
    """A network as a tree: its layers, with shapes and parameters, under the size of map that they
    work on.

    A layer that does not read the one before it, or not only that, says which ones it reads.
    """
    found = drawing(network)
    tree, size, branch = Tree(Text(title)), "", None
    for place, row in enumerate(found.rows):
        own = "×".join(map(str, row.shape[1:])) or "vectors"
        if branch is None or own != size:
            size, branch = own, tree.add(Text(own, style="dim"))
        sources = found.reads(place)
        read = f"  ← {', '.join(map(str, sources))}" if sources else ""
        params = count(row.params) if row.params else ""
        branch.add(
            Text(f"{place:>2}  {row.words:<32} → {row.shape[0]:>3} {params:>6}{read}".rstrip())
        )
    return tree


def architecture(space: Space, genome: Genome) -> Group:
    """A genome in words, one line a decision, then the network's counts."""
    network = space.decode(genome)
    lines: Sequence[str] = getattr(
        space, "describe", lambda genome: [str(node) for node in network.nodes]
    )(genome)
    counts = (
        f"{network.params:,} parameters · {network.macs:,} MACs · depth {network.depth} · "
        f"{'×'.join(map(str, network.input_shape))} → {network.classes}"
    )
    return Group(
        *(Text(f"  {number:>2}  {line}") for number, line in enumerate(lines, 1)),
        Text(f"  {counts}"),
    )
