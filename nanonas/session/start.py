"""Begin a run, or continue one."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from loguru import logger

from nanonas.config.files import BEFORE, GONE, to_values, to_yaml
from nanonas.config.parts import STRATEGIES, Past, begins_without
from nanonas.config.schema import Config, RunConfig
from nanonas.data.found import say
from nanonas.data.images import changed_message
from nanonas.data.sources import path_of
from nanonas.engine.controls import copy_requests
from nanonas.engine.evaluators.joining import Cluster, joined
from nanonas.engine.storage.events import ANCESTOR, EXPERIENCE, IMAGES, MEASURES, noted
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, DataError, Exhausted, RunError
from nanonas.files import write_text
from nanonas.predictors.experience import PastRun
from nanonas.runs import origin as origins
from nanonas.runs.backbones import keep_backbone
from nanonas.runs.experience import (
    begun_with,
    experience_file,
    experience_for,
    judgement,
    keep_copy,
    task_of,
)
from nanonas.runs.folder import RunFolder, find, fingerprint_of, read_config, search_seconds
from nanonas.runs.genome import space_options
from nanonas.session.agents import device_notes, require_same_device
from nanonas.session.ancestor import ancestor_share, beginning_in_words, with_ancestor
from nanonas.session.checkup import warn
from nanonas.session.listener import Listener
from nanonas.session.schedule import scheduled
from nanonas.session.session import Outcome, Session
from nanonas.session.setup import Setup, cluster_slots, located, resolved
from nanonas.text import number_of


def begin(config: Config, listener: Listener | None = None, *, final: bool = True) -> Outcome:
    """Begins a run and sees it through.

    Args:
        listener: hears what happens; without one, nothing is printed.
        final: whether the winner gets its final training, as far as the configuration asks for it.

    Raises:
        NanonasError: what cannot be done, in one sentence.
        KeyboardInterrupt: Ctrl-C; the folder can be resumed.
    """
    start = time.monotonic()
    with joined(config.run.cluster) as cluster:
        return _begin(config, listener or Listener(), start, final, cluster)


def _begin(
    config: Config, listener: Listener, start: float, final: bool, cluster: Cluster | None
) -> Outcome:
    config, origin = with_ancestor(config)
    source = config.run.requests_of
    repeated = None if source is None else _repeatable(source, config)
    slots = cluster_slots(config, cluster)
    config = resolved(config, slots)
    setup = Setup(config, slots=slots, origin=origin)
    setup.check()
    if config.run.doctor:
        warn(setup)
    if config.run.name:
        RunStore.require_new(RunFolder(config.run.out / config.run.name).store)
    config, schedule = scheduled(setup)
    if schedule is not None:
        say(str(schedule))
    notes, runs = setup.image_notes(), _experience(config)
    run = config.run
    folder = RunFolder(run.out / run.name if run.name else _new(run.out, config.search.data.data))
    config = _beginning_with(config, folder, runs)
    past = None if runs is None else Past(runs, task_of(config.search, notes))
    setup = Setup(config, setup.images, slots=slots, past=past, origin=origin)
    try:
        with RunStore.begin(folder.store, to_values(config)) as store:
            write_text(folder.config, to_yaml(config))
            if runs is not None:
                worth = None if setup.prior is None else setup.prior.worth
                foretold = None if worth is None else judgement(worth)
                store.event(EXPERIENCE, {**keep_copy(folder, runs), "foretold": foretold})
                if foretold is not None and foretold["left_out"]:
                    say(f"what other runs have shown does not foretell itself ({worth}): left out")
            if origin is not None:
                share = ancestor_share(setup)
                digest = origins.keep_copy(folder, origin)
                store.event(ANCESTOR, {"name": origin.name, "digest": digest, "share": share})
                say(beginning_in_words(origin.name, share))
            store.event(IMAGES, notes)
            keep_backbone(setup.images, folder.path)
            if setup.agent is not None:
                store.event(MEASURES, device_notes(setup.agent))
            if setup.images.broken:
                write_text(folder.broken, "".join(f"{line}\n" for line in setup.images.broken))
            if repeated is not None:
                with RunStore.read(repeated.store) as other:
                    copy_requests(other, store)
            session = Session(
                setup, store, folder, listener, start=start, final=final, cluster=cluster
            )
            return session.run()
    except Exhausted:  # before a single candidate: nothing is worth keeping
        folder.remove()
        raise


def resume(
    source: Path,
    run: RunConfig | None = None,
    listener: Listener | None = None,
    *,
    more_time: bool = False,
    final: bool = True,
    data: str | None = None,
) -> Outcome:
    """Continues the run at `source` (see `find`).

    Args:
        run: another "run" half of the configuration; None: the one that it has.
        listener: hears what happens; without one, nothing is printed.
        more_time: the time budget counts from here; else it is the whole run's, and what the search
            took is gone.
        final: whether the winner gets its final training, as far as the configuration asks for it.
        data: where the images are now, if they were moved; None: where they were.

    Raises:
        NanonasError: as `begin`; also when config.yaml says another "search" half than the run was
            begun with, or when the images are others.
    """
    start = time.monotonic()
    folder = find(source)
    config = read_config(folder)
    run = replace(run or config.run, out=folder.path.parent, name=folder.path.name)
    config = replace(config, run=run)
    moved = config if data is None else _with_data(config, data)
    spent = 0.0 if more_time else search_seconds(folder)
    with RunStore.read(folder.store) as store:
        known = fingerprint_of(store) is not None
    if data is not None and not known:
        raise RunError(
            f"the run in {folder.path} kept no fingerprint of its images, so that none can be "
            "taken instead; bring them back to where they were, and leave out --data"
        )
    # images are the same by their fingerprint, wherever they lie
    ignored = {*GONE, "data"} if known else GONE
    with (
        joined(run.cluster) as cluster,
        RunStore.resume(
            folder.store, to_values(config), defaults=counted(), ignored=ignored
        ) as store,
    ):
        holds_nothing = noted(store.events(), IMAGES) is None and not store.candidates()
        if holds_nothing:
            _require_nothing_lost(config, folder)
        past = begun_with(folder, store, config.search)
        origin = origins.begun_with(folder, store)
        slots = cluster_slots(moved, cluster)
        setup = Setup(moved, slots=slots, past=past, origin=origin, kept_backbone=folder.backbone)
        if holds_nothing:
            store.event(IMAGES, setup.image_notes())
        _require_same_images(setup, store, folder)
        require_same_device(setup.agent, store, folder)
        if not folder.config.exists() or moved != config:
            write_text(folder.config, to_yaml(moved))
        session = Session(
            setup,
            store,
            folder,
            listener or Listener(),
            start=start - spent,
            more_time=more_time,
            final=final,
            cluster=cluster,
        )
        return session.run()


def _require_nothing_lost(config: Config, folder: RunFolder) -> None:
    """Raises `RunError` where a run that was killed while it began may not have kept what it begins
    with.
    """
    if config.search.strategy.experience or config.search.fidelity.ancestor is not None:
        raise RunError(
            f"the run in {folder.path} was stopped while it began, and holds nothing yet: remove "
            "it, and begin it again"
        )


def _experience(config: Config) -> tuple[PastRun, ...] | None:
    """What other runs have learnt, for this one to begin with; None where it begins with nothing.

    Raises `ConfigError` for a file that nothing begins with, and `RunError` where the one that the
    configuration names cannot be read; the user's own is no reason not to search.
    """
    options = config.search.strategy
    if options.experience_from is not None and not options.experience:
        raise ConfigError(
            f"search.experience_from is {options.experience_from!r:.80} (--experience-from), but "
            "the search begins without experience; add --experience"
        )
    if not options.experience:
        return None
    if not STRATEGIES[options.strategy].breeds:
        say("begins without experience: a random search is what others are compared with")
        return None
    if options.experience_from is None and experience_file() is None:
        say("begins without experience: NANONAS_EXPERIENCE is off, or there is no home folder")
        return None
    try:
        runs = experience_for(config.search)
    except RunError as error:
        if options.experience_from is not None:
            raise
        logger.warning("{}", error)
        return None
    networks = number_of(sum(len(one.networks) for one in runs), "network")
    if runs:
        lacks = begins_without(options.strategy, options.predictor, options.objectives)
        but = "" if lacks is None else f"; {lacks}"
        say(f"begins with what {networks} of {number_of(len(runs), 'other run')} have shown{but}")
    else:
        say(f"no other run over the space {config.search.space.space!r} is known: this one will be")
    return runs


def _beginning_with(config: Config, folder: RunFolder, runs: Sequence[PastRun] | None) -> Config:
    """The configuration that names the run's own copies, so that it can be repeated."""
    place = None if runs is None else str(folder.experience.absolute())
    options = replace(config.search.strategy, experience=runs is not None, experience_from=place)
    fidelity = config.search.fidelity
    if fidelity.ancestor is not None:
        fidelity = replace(fidelity, ancestor=str(folder.ancestor.absolute()))
    return replace(config, search=replace(config.search, strategy=options, fidelity=fidelity))


def counted() -> dict[str, Any]:
    """What counts for the keys that a run was begun without."""
    values = to_values(Config())
    return {**values, "search": values["search"] | BEFORE}


def _with_data(config: Config, source: str) -> Config:
    """The configuration with another place of the images."""
    data = replace(config.search.data, data=located(source))
    return replace(config, search=replace(config.search, data=data))


def _require_same_images(setup: Setup, store: RunStore, folder: RunFolder) -> None:
    """Raises `RunError` when the images are others than those that the run was begun with, and
    `DataError` when they cannot be loaded.
    """
    source = path_of(setup.config.search.data.data)
    if source is not None and not source.exists():
        raise DataError(
            f"the images of the run in {folder.path} are not in {str(source)!r} any more; where "
            "they were moved, name their new place with --data"
        )
    if fingerprint_of(store) not in (None, setup.images.fingerprint):
        _require_same_backbone(setup, store, folder)
        raise RunError(changed_message(setup.config.search.data.data, folder.path))


def _require_same_backbone(setup: Setup, store: RunStore, folder: RunFolder) -> None:
    """Raises `RunError` when the backbone has other weights than when the run was begun."""
    backbone = setup.images.backbone
    before = (noted(store.events(), IMAGES) or {}).get("backbone")
    if backbone is not None and before is not None and before["digest"] != backbone.digest:
        raise RunError(
            f"the backbone {backbone.name} has other weights (digest {backbone.digest}) than those "
            f"that the run in {folder.path} was begun with ({before['digest']}); bring back its "
            f"{folder.backbone.name}, or begin a new run"
        )


def _repeatable(source: Path, config: Config) -> RunFolder:
    """The run whose requests are to be made again.

    Raises `RunError` where there is none, or one over another space.
    """
    folder = find(source)
    theirs, ours = read_config(folder).search.space, config.search.space
    if (theirs.space, space_options(theirs)) != (ours.space, space_options(ours)):
        raise RunError(
            f"--requests-of {source} is a run over the space {theirs.space} "
            f"{space_options(theirs) or ''}, whose "
            f"genomes are none of {ours.space} {space_options(ours) or ''}; "
            "repeat its own search"
        )
    return folder


def _new(out: Path, data: str) -> Path:
    """A new folder for a run, made here: so it is this run's, whatever else begins now."""
    words = re.sub(r"[^a-zA-Z0-9]+", "-", Path(data).stem).strip("-") or "run"
    name = f"{datetime.now():%Y-%m-%d_%H%M%S}_{words}"
    for number in itertools.count(1):
        path = out / (name if number == 1 else f"{name}_{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if out.is_dir():
                continue
        except OSError:
            pass  # the store cannot make it either, and says so
        break
    return path
