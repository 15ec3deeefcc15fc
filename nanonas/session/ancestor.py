"""The trained network that all of a search begins with: whether it can, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanonas.config.schema import BODY_LR, Config, SpaceOptions
from nanonas.data.found import say
from nanonas.errors import ConfigError, GenomeError
from nanonas.files import in_full
from nanonas.runs.genome import space_options
from nanonas.runs.origin import Origin, origin_at
from nanonas.text import percent

if TYPE_CHECKING:
    from nanonas.networks.network import Network
    from nanonas.session.setup import Setup


def with_ancestor(config: Config) -> tuple[Config, Origin | None]:
    """The trained network that a configuration names, and the configuration with its space, where
    that is left to it; None where all begins from scratch.

    Raises:
        RunError: there is none, or its weights are gone or damaged.
        ConfigError: another space is given than the one that it is of, or a learning rate for
            weights that nothing begins with.
    """
    fidelity = config.search.fidelity
    named = fidelity.ancestor
    if named is None:
        if fidelity.body_lr != BODY_LR:
            raise ConfigError(
                f"body_lr is {fidelity.body_lr:g}, but nothing begins with the weights of another "
                "network: name it with --ancestor, or leave --body-lr out"
            )
        return config, None
    if not named.strip():
        raise ConfigError(
            "ancestor is empty; name a run's folder, one that `nanonas train` has written, or a "
            "bundle"
        )
    origin = origin_at(in_full(Path(named)))
    space = replace(config.search.space, **_of_its_space(config.search.space, origin))
    if space != config.search.space:
        say(f"searches the space {space.space}, which is that of the ancestor {origin.name}")
    return replace(config, search=replace(config.search, space=space)), origin


def _of_its_space(given: SpaceOptions, origin: Origin) -> Mapping[str, Any]:
    """The options that a search needs to have a network in its space. What is at its default is
    taken for what nobody has given.
    """
    usual = {field.name: field.default for field in fields(SpaceOptions)}
    # as the space has them where the genome's file has none
    its = {"space": origin.genome.space, **space_options(SpaceOptions(origin.genome.space))}
    its |= origin.genome.options
    for name, value in its.items():
        found = getattr(given, name)
        if found not in (value, usual[name]):
            raise ConfigError(
                f"{name} is {found}, but the ancestor {origin.name} was found with {name} "
                f"{value}: leave --{name} out, or name another --ancestor"
            )
    return its


def require_fitting(setup: Setup) -> None:
    """Raises `ConfigError` where the network that all begins with cannot be built for the images of
    a search, or is beyond its limits on counts.
    """
    origin = setup.origin
    if origin is None:
        return
    try:
        network = _network(setup, origin)
    except GenomeError as error:
        raise ConfigError(
            f"the network of the ancestor {origin.name} cannot be built for images of "
            f"{'×'.join(map(str, setup.space.input_shape))}: {str(error).rstrip('.')}; scale them "
            "with --image-size, or name another --ancestor"
        ) from None
    if setup.limits.excess(network) > 1:
        larger = setup.space.input_shape[1] > origin.genome.input_shape[1]
        size = f", scale the images with --image-size {origin.genome.input_shape[1]}"
        raise ConfigError(
            f"the ancestor {origin.name} has {setup.limits.costs(network)} on these images, where "
            f"{setup.limits} are allowed: raise that{size if larger else ''}, or name another "
            "--ancestor"
        )


def ancestor_share(setup: Setup) -> float:
    """Of the parameters of the ancestor's own network, as it is for a search's images, the share
    that begins with its weights, in [0, 1].
    """
    assert setup.origin is not None
    assert setup.pretrained is not None
    return setup.pretrained.share(_network(setup, setup.origin))


def beginning_in_words(name: str, share: float) -> str:
    """What all trainings begin with."""
    return (
        f"all networks begin with the weights of {name}, as far as they fit; its own network, the "
        f"first candidate, has {percent(share)} of its parameters from there"
    )


def _network(setup: Setup, origin: Origin) -> Network:
    return setup.space.decode(origin.genome.genome)
