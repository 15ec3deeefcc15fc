"""What a search keeps of its candidates while it runs: the genome of the best, the front, and
weights.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from nanonas.core import Candidate, Objective, State, Told
from nanonas.engine.ranking import front_of, place, ranking
from nanonas.files import weights_in
from nanonas.runs.folder import RunFolder, find
from nanonas.runs.genome import GenomeFile


class Keeper:
    """Keeps best_genome.json and front/ up to date, and the weights of the best candidates, of the
    front, and of those that are needed only.

    Args:
        describe: a candidate and what is known of it, as a genome file.
        number: of how many of the best the weights stay; None: of all.
        heard: what earlier sessions evaluated.
        objectives: of the front; fewer than two have none.
    """

    def __init__(
        self,
        folder: RunFolder,
        describe: Callable[[Candidate, Mapping[str, Any]], GenomeFile],
        number: int | None,
        heard: Iterable[Told] = (),
        objectives: Sequence[Objective] = (),
    ) -> None:
        self.folder, self.describe, self.number = folder, describe, number
        self.objectives = objectives if len(objectives) > 1 else ()
        self.front: list[Told] = []  # the most accurate first
        self._ranks = ranking(heard)
        self._judged = {told.number: told for told in self._ranks}
        # the candidates of which weights may be there, and may go
        there = {path.stem for path in folder.weights.glob("*.safetensors")}
        self._there = {n for n in self._judged if str(n) in there}
        self._written: Told | None = None  # what best_genome.json says
        self._update()

    def hear(self, told: Told) -> None:
        """Takes in an evaluation. A later one of the same candidate replaces the earlier."""
        if told.number in self._judged:
            self._ranks.remove(self._judged.pop(told.number))
        if told.judged:
            insort(self._ranks, told, key=place)
            self._judged[told.number] = told
            self._there.add(told.number)
        self._update()

    def restored(self, numbers: Iterable[int]) -> None:
        """Weights that were gone are there again."""
        self._there.update(numbers)

    def prune(self, needed: Collection[int] | None = ()) -> None:
        """Deletes all other weights.

        Args:
            needed: the candidates whose weights later ones may begin with; None: any, so that none
                are deleted.
        """
        if self.number is None or needed is None:
            return
        best = [*self.front, *self._ranks[: self.number], *self._lasting(self.number)]
        kept = {told.number for told in best}.union(needed)
        for number in self._there - kept:
            weights_in(self.folder.weights, number).unlink(missing_ok=True)
        self._there &= kept

    def _lasting(self, number: int) -> list[Told]:
        """The best and the front of those that were not cut: one that was is trained again, and may
        come to less.
        """
        lasting = (told for told in self._ranks if told.evaluation.state is not State.CUT)
        if not self.objectives:
            return list(islice(lasting, number))
        ranks = list(lasting)
        return [*ranks[:number], *front_of(ranks, self.objectives)]

    def _update(self) -> None:
        ranks = self._ranks
        if self.objectives:
            self._update_front(front_of(ranks, self.objectives))
        if ranks and ranks[0] != self._written:
            self._written = ranks[0]
            write_best(self.folder, self._file(ranks[0]))

    def _update_front(self, members: list[Told]) -> None:
        self.folder.front.mkdir(exist_ok=True)
        names = {f"{member.number}.json" for member in members}
        for path in self.folder.front.glob("*.json"):
            if path.stem.isdigit() and path.name not in names:
                path.unlink()
        for member in members:
            if member not in self.front:
                self._file(member).write(self.folder.front / f"{member.number}.json")
        self.front = members

    def _file(self, told: Told) -> GenomeFile:
        return self.describe(told.candidate, dict(told.evaluation.metrics))


def write_best(folder: RunFolder, file: GenomeFile) -> None:
    """Writes a run's best_genome.json, and that of the folder of runs where this is its newest."""
    file.write(folder.best_genome)
    if find(folder.path.parent) == folder:
        file.write(folder.path.parent / "best_genome.json")
