"""The other device that measures latency for a run, where there is one: the same until its end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nanonas.engine.storage.events import MEASURES, noted
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError
from nanonas.runs.folder import RunFolder

if TYPE_CHECKING:
    from nanonas.training.measuring.agent import Agent


def met(url: str | None, wanted: Collection[str]) -> Agent | None:
    """The agent at an address, once it has answered; None where there is no address.

    Args:
        wanted: the metrics that are measured or limited.

    Raises:
        ConfigError: nothing asks for latency, or the extra "onnx" is not installed.
        DeviceError: no agent answers, or it does not take the token.
    """
    if url is None:
        return None
    from nanonas.training.graphs import require_extra
    from nanonas.training.measuring import agent

    if "latency" not in wanted:
        raise ConfigError(
            f"--latency-from is {url}, but nothing asks for a latency; give --max-latency-ms, or "
            "--objectives accuracy latency"
        )
    require_extra()
    return agent.Agent(url, patience=agent.PATIENCE).met()


def device_notes(agent: Agent) -> dict[str, Any]:
    """What a run's store keeps of an agent that has answered: not its address, which may change
    from session to session, nor its token.
    """
    assert agent.device is not None
    return asdict(agent.device)


def require_same_device(agent: Agent | None, store: RunStore, folder: RunFolder) -> None:
    """Raises `RunError` where a run would be continued with latencies of another device.

    Args:
        agent: that it would be continued with.
    """
    from nanonas.training.measuring.agent import Device

    measures = noted(store.events(), MEASURES)
    before = None if measures is None else Device(**measures)
    now = None if agent is None else agent.device
    if before == now:
        return
    run = f"the latencies of the run in {folder.path} were measured"
    if before is None:
        raise RunError(
            f"{run} by its workers, and those of {now} cannot be compared with them; leave out "
            "--latency-from, or begin a new run"
        )
    if agent is None:
        raise RunError(f"{run} on {before}; name its agent with --latency-from")
    raise RunError(
        f"{run} on {before}, but the agent at {agent.url} measures on {now}; begin the one from "
        "before there"
    )
