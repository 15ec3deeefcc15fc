"""A run in words: its summary, its best networks, an architecture line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nanonas.core import Genome, SearchSpace
from nanonas.engine.store import RunStore
from nanonas.engine.study import ranking
from nanonas.results.text import count, duration


def summary(store: RunStore) -> str:
    """One paragraph: what was searched, how far it came, how it ended."""
    search = store.config["search"]
    evaluations = list(store.latest().values())
    states = Counter(evaluation.state.value for evaluation in evaluations)
    said = ", ".join(f"{number} {state}" for state, number in states.most_common()) or "none yet"
    busy = sum(evaluation.seconds for evaluation in evaluations)
    ended = [event for event in store.events() if event.kind in ("ended", "interrupted", "given up")]
    lines = [
        f"{search['strategy']} over the space {search['space']!r} on {search['data']}, seed {search['seed']}, "
        f"{search['epochs']} epochs a candidate in {search['precision']}",
        f"{len(evaluations)} candidates: {said}; {duration(busy)} of training in all",
    ]
    if ended:
        lines.append(f"the search ended: {ended[-1].details.get('message', ended[-1].kind)}")
    return "\n".join(lines)


def best_table(store: RunStore, number: int) -> Table:
    """The best `number` candidates: accuracy on the validation images, costs, where they came from."""
    table = Table("#", "accuracy", "parameters", "MACs", "state", "epochs", "parents", box=None)
    candidates = store.candidates()
    for evaluation in ranking(store.evaluations())[:number]:
        parents = candidates[evaluation.number].proposal.parents
        table.add_row(
            str(evaluation.number),
            f"{evaluation.accuracy:.2%}",
            count(evaluation.metrics["params"]),
            count(evaluation.metrics["macs"]),
            evaluation.state.value,
            str(len(evaluation.curve)),
            " ".join(f"#{p}" for p in parents) or "–",
        )
    return table


def architecture(space: SearchSpace, genome: Genome) -> Group:
    """A genome in words, one line a decision, then the network's counts."""
    network = space.decode(genome)
    lines: Sequence[str] = getattr(space, "describe", lambda genome: [str(node) for node in network.nodes])(genome)
    counts = (
        f"{network.params:,} parameters · {network.macs:,} MACs · depth {network.depth} · "
        f"{'×'.join(map(str, network.input_shape))} → {network.classes}"
    )
    return Group(*(Text(f"  {number:>2}  {line}") for number, line in enumerate(lines, 1)), Text(f"  {counts}"))
