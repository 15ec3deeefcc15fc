"""What a network may cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from nanonas.errors import ConfigError
from nanonas.networks.arena import flash, ram
from nanonas.networks.integer import undeployable
from nanonas.networks.network import Network

KILOBYTE = 1024  # bytes
TARGETS = ("mcu",)

# What is measured: the metric, its limit's field in `Limits`, its unit, its flag.
_MEASURED = (
    ("latency", "max_latency_ms", "ms", "--max-latency-ms"),
    ("memory", "max_memory_mb", "MiB", "--max-memory-mb"),
)


@dataclass(frozen=True)
class Count:
    """What is counted on a network, and limited."""

    metric: str
    field: str  # the limit's field in `Limits`
    words: str  # of a number of them
    of: Callable[[Network], float]  # in the limit's unit
    format: str  # of the number

    @property
    def flag(self) -> str:
        """That of its limit."""
        return "--" + self.field.replace("_", "-")

    def in_words(self, number: float) -> str:
        """A number of them, as in "24,100 parameters"."""
        return f"{number:{self.format}} {self.words}"


COUNTED = (
    Count("params", "max_params", "parameters", lambda network: network.params, ","),
    Count("macs", "max_macs", "MACs", lambda network: network.macs, ","),
    Count(
        "flash", "max_flash_kb", "KB of flash", lambda network: flash(network) / KILOBYTE, ",.4g"
    ),
    Count("ram", "max_ram_kb", "KB of RAM", lambda network: ram(network) / KILOBYTE, ",.4g"),
)
_WHOLE = ("max_params", "max_macs")  # limits that are whole numbers


@dataclass(frozen=True)
class Limits:
    """What a network may cost at most; None = no limit.

    Parameters, MACs, flash and RAM are counted, so a study checks them before it asks for a
    training. Latency and memory are measured on the device that trains, so a trial checks them.

    Raises:
        ConfigError: a limit of 0 or less, or a target that is none of `TARGETS`.
    """

    max_params: int | None = None
    max_macs: int | None = None  # multiply-accumulates for one image
    max_latency_ms: float | None = None  # for one image
    max_memory_mb: float | None = None  # MiB of inference, for one image
    max_flash_kb: float | None = None  # KB of 1024 bytes: of constants, see `arena.flash`
    max_ram_kb: float | None = None  # of the arena of all tensors, see `arena.ram`
    target: str | None = None  # "mcu": what has no form in 8-bit integers is beyond the limits

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if field.name == "target" or limit is None:
                continue
            least = 1 if field.name in _WHOLE else 0
            if limit < least or limit <= 0:
                expected = "1 or more" if least else "above 0"
                raise ConfigError(
                    f"{field.name} must be {expected}, but is {limit}; leave it out for no limit"
                )
        if self.target not in (None, *TARGETS):
            raise ConfigError(
                f"target must be {' or '.join(TARGETS)}, but is {self.target!r}; leave it out for "
                "networks that run anywhere else"
            )

    @property
    def on_counts(self) -> bool:
        """Whether parameters, MACs, flash or RAM are limited."""
        return bool(self.counted)

    @property
    def deployable(self) -> bool:
        """Whether a network must have a form in 8-bit integers; flash and RAM are of that form."""
        return self.target == "mcu" or not (self.max_flash_kb is self.max_ram_kb is None)

    @property
    def counted(self) -> list[tuple[Count, float]]:
        """What is counted and limited, with its limit."""
        limits = [(count, getattr(self, count.field)) for count in COUNTED]
        return [(count, limit) for count, limit in limits if limit is not None]

    @property
    def on_measurements(self) -> frozenset[str]:
        """The metrics that have to be measured to be checked: of "latency" and "memory"."""
        return frozenset(
            metric for metric, name, _, _ in _MEASURED if getattr(self, name) is not None
        )

    def excess(self, network: Network) -> float:
        """The factor by which the network breaks the limit on counts that it breaks most; at most 1
        when it meets all of them. Infinite where it should have a form in integers and has none.
        """
        if self.deployable and undeployable(network):
            return math.inf
        return max((count.of(network) / limit for count, limit in self.counted), default=0.0)

    def times(self, factor: float) -> Limits:
        """With all limits on counts times a factor, those on parameters and MACs rounded down."""
        counts: dict[str, float] = {}
        for count, limit in self.counted:
            counts[count.field] = factor * limit
            if count.field in _WHOLE:
                counts[count.field] = max(1, int(factor * limit))
        return replace(self, **counts)  # type: ignore[arg-type]

    def costs(self, network: Network) -> str:
        """What a network costs of what may be limited, for a sentence: parameters and MACs, and
        flash and RAM where they are limited.
        """
        missing = undeployable(network) if self.deployable else ()
        words = [
            count.in_words(count.of(network))
            for count in COUNTED
            if count.metric in ("params", "macs")
            or (getattr(self, count.field) is not None and not missing)
        ]
        if missing:
            words.append(f"{', '.join(missing)}, which microcontrollers cannot run")
        return f"{', '.join(words[:-1])} and {words[-1]}"

    def exceeded(self, metrics: Mapping[str, float]) -> str | None:
        """A sentence about the limit that a measurement breaks; None when it meets them.

        Args:
            metrics: those of `on_measurements`, "latency" in ms and "memory" in MiB.
        """
        for metric, name, unit, flag in _MEASURED:
            limit = getattr(self, name)
            if limit is not None and metrics[metric] > limit:
                return (
                    f"the {metric} of {metrics[metric]:.4g} {unit} is above the limit of "
                    f"{limit:g} {unit} ({flag})"
                )
        return None

    def __str__(self) -> str:
        """The limits on counts, for a sentence."""
        limits = [f"at most {count.in_words(limit)}" for count, limit in self.counted]
        if self.target is not None:
            limits.append(f"only what --target {self.target} allows")
        return " and ".join(limits) or "no limits"
