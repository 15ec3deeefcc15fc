"""What is read that may come from a stranger: a valid file of each kind, how it may be changed, and
who reads it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from nanonas.data.preprocessing import Preprocessing
from nanonas.data.sources import Depth
from toys.hostile.mutations import archives, as_json, changed, odd, tensors
from toys.images import labels, pixels

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"
RUN = FIXTURES / "halving_run"
NAMES = tuple("0123456789")
RULE = Preprocessing((1, 8, 8), (0.3,), (0.35,), NAMES, Depth(4095, 1))

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        cases: its bytes, changed in any way.
        read: has the project read them, as whatever a command has it do; must be of no use to a
            stranger.
        seeds: valid ones, which `read` takes without an error.
    """

    cases: st.SearchStrategy[bytes]
    read: Read
    seeds: list[bytes]


def reader(path: Path, read: Callable[[Path], object]) -> Read:
    def written(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return written


def json_format(values: list[Any], path: Path, read: Callable[[Path], object]) -> Format:
    seeds = [as_json(one) for one in values]
    return Format(st.one_of(odd(values).map(as_json), changed(seeds)), reader(path, read), seeds)


# --- texts ----------------------------------------------------------------------------------------


def genome(work: Path) -> Format:
    """genome.json, and what a command does with it first."""
    from nanonas.runs.genome import read_genome

    known = json.loads((RUN / "best_genome.json").read_text(encoding="utf-8"))
    with_rule = {**known, "preprocessing": RULE.to_json()}
    nano = {
        **{key: known[key] for key in ("format", "data", "class_names", "input_shape")},
        "space": "nano",
        "options": {"channels": 4, "length": 2},
        "genome": [0, 1],
    }

    def read(path: Path) -> object:
        file = read_genome(path)
        file.write(path.with_name("again.json"))
        return file.network().key, file.make_space().describe(file.genome)

    return json_format([known, with_rule, nano], work / "genome.json", read)


_YAML = st.sampled_from(
    [
        b"a: &a [x, x]\nb: &b [*a, *a]\nsearch: {data: [*b, *b]}\n",
        b"search: !!python/object/apply:os.system ['touch hostile']\n",
        b"!!python/object/new:os.system ['touch hostile']\n",
        b"search: {seed: !!int ''}\n",
        b"search: {seed: !!bool x, lr: !!timestamp x}\n",
        b"search: {seed: 2001-99-99}\n",
        b"search: {seed: 1:1:1:1:1:1}\n",
        b"search: {seed: !!binary '====', lr: !!set {a, b}}\n",
        b"search: {seed: 0x, lr: .inf, cost: [.nan]}\n",
        b"[" * 3000,
        b"{" * 3000,
        b"search: " + b"[" * 900 + b"]" * 900,
        b"? [a, b]\n: {c: d}\n",
        b"search:\n  <<: {seed: 3}\n",
        b"run: {out: '~nobody-at-all/x', time: 1e400}\n",
        b"run: {time: 99999999999999999999h, evaluations: 1e99}\n",
    ]
)


def config(work: Path) -> Format:
    """config.yaml."""
    import yaml

    from nanonas.config.files import read_yaml, to_yaml

    own = (RUN / "config.yaml").read_bytes()
    short = b"search: {space: nano, channels: 16, seed: 3}\nrun: {time: 10m, workers: 2}\n"
    values = [yaml.safe_load(own), yaml.safe_load(short)]
    as_yaml = odd(values).map(as_json)  # which is YAML
    return Format(
        st.one_of(changed([own, short]), as_yaml, _YAML),
        reader(work / "config.yaml", lambda path: to_yaml(read_yaml(path))),
        [own, short],
    )


def request(work: Path) -> Format:
    """requests/*.json, and what the page posts."""
    from nanonas.engine.requests import RequestFiles

    folder = work / "requests"
    folder.mkdir()
    values = [
        {"what": "pause"},
        {"what": "ban", "operation": "conv5x5"},
        {"what": "plant", "genome": [0, 1, 2, 3]},
    ]

    def read(path: Path) -> object:
        return [str(one) for _, one in RequestFiles(folder).waiting()]

    return json_format(values, folder / "1.json", read)


def posted(work: Path) -> Format:
    """What is posted to a dashboard, by its own page."""
    import asyncio

    from nanonas.serving.guard import HEADER, Guard
    from nanonas.serving.live import LivePage
    from nanonas.serving.server import make_app

    guard = Guard("127.0.0.1", 1, ("127.0.0.1",))
    values = [{"what": "pause"}, {"what": "ban", "word": "conv5x5"}, {"what": "plant", "word": "1"}]
    app = make_app(LivePage(lambda: None), lambda what, word: f"{what}", guard)  # type: ignore[arg-type, return-value]
    headers = [(b"host", b"127.0.0.1"), (HEADER.lower().encode(), guard.token.encode())]

    async def answered(body: bytes) -> int:
        said: list[int] = []
        parts = [body[:100], body[100:]]

        async def receive() -> dict[str, Any]:
            part = parts.pop(0) if parts else b""
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            said.append(message.get("status", 0))

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/requests",
            "raw_path": b"/requests",
            "query_string": b"",
            "headers": headers,
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 1),
            "client": ("127.0.0.1", 2),
        }
        await app(scope, receive, send)
        if said[0] not in (200, 400):
            raise AssertionError(said)
        return said[0]

    seeds = [as_json(one) for one in values]
    return Format(
        st.one_of(odd(values).map(as_json), changed(seeds)),
        lambda body: asyncio.run(answered(body)),
        seeds,
    )


def results(work: Path) -> Format:
    """final/result.json, compare/table.json and compare/equal-time.json of a run."""
    from nanonas.analysis import equal_time
    from nanonas.files import read_json
    from nanonas.runs.folder import RunFolder
    from nanonas.runs.reading import read_final, read_record

    run = work / "run"
    shutil.copytree(RUN, run)
    (run / "final").mkdir()
    (run / "compare").mkdir()
    final = {
        "test_accuracy": 0.5,
        "epochs": 3.0,
        "train_images": 10,
        "test_images": 10,
        "params": 10,
        "macs": 10,
        "latency_ms": 1.0,
        "seconds": 3.0,
        "seed": 0,
        "lr": 0.1,
        "device": "cpu",
        "hardware": "2 cores",
        "torch": "2",
    }
    row = {"network": "found", "test_accuracy": 0.4, "spread": 0.1, "params": 3, "macs": 3}
    row |= {"trainings": [{"seconds": 3.0}], "epochs": 3.0, "latency_ms": 1.0}
    one = {"contender": "search", "seed": 0, "test_accuracy": 0.5, "params": 3, "macs": 3}
    one |= {"epochs": 3.0, "seconds": 4.0}
    timed = {"seconds": 60.0, "limits": "", "hand_made": ["resnet"], "notes": ["a"]}
    timed["trained"] = [one, {**one, "contender": "resnet"}, {**one, "seed": 1}]
    rows = [row, {**row, "network": "random 1"}, {**row, "network": "resnet18"}]

    def read(content: bytes) -> object:
        from nanonas.report.words import verdict

        part, _, text = content.partition(b"\n")
        places = {b"f": "final/result.json", b"t": "compare/table.json"}
        path = run / places.get(part, "compare/equal-time.json")
        for other in ("final/result.json", "compare/table.json", "compare/equal-time.json"):
            (run / other).unlink(missing_ok=True)
        path.write_bytes(text)
        folder = RunFolder(run)
        if part == b"f":
            return read_final(folder, NAMES)
        if part == b"t":
            from nanonas.analysis.findings import Findings
            from nanonas.report.rows.tables import comparison, times

            findings = Findings(read_record(folder))
            verdict.cards(findings)
            return verdict.headline(findings), comparison(findings), times(findings)
        said = equal_time.from_values(read_json(path))
        return said and (said.sentence, said.remarks, said.to_values())

    every = [(b"f\n", final), (b"t\n", rows), (b"e\n", timed)]
    seeds = [head + as_json(values) for head, values in every]
    cases = [_behind(head, odd([values])) for head, values in every]
    return Format(st.one_of(*cases, changed(seeds)), read, seeds)


def _behind(head: bytes, values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda one: head + as_json(one))


# --- numbers --------------------------------------------------------------------------------------


def weights(work: Path) -> Format:
    """model.safetensors, loaded into its network."""
    from nanonas.spaces.nano import NanoSpace
    from nanonas.training.modules import build_module
    from nanonas.training.weights import load_weights, save_weights

    module = build_module(NanoSpace((1, 8, 8), 10, channels=4, length=2).decode((0, 1)))
    save_weights(module, work / "seed.safetensors", {"genome": "[0, 1]"})
    seeds = [(work / "seed.safetensors").read_bytes()]
    return Format(
        st.one_of(changed(seeds), tensors(seeds)),
        reader(work / "model.safetensors", lambda path: load_weights(module, path)),
        seeds,
    )


def checkpoint(work: Path) -> Format:
    """final/checkpoint.safetensors, as far as a training goes on from it."""
    import torch

    from nanonas.training.checkpoint import CHECKPOINT, read_checkpoint, save_checkpoint

    state = {"0": {"momentum_buffer": torch.ones(3)}, 1: {"step": torch.tensor(2.0)}}
    training = {
        "epoch": 2,
        "epochs": 3.5,
        "module": {"weight": torch.arange(6.0).reshape(2, 3)},
        "optimizer": {"state": state, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
    }
    identity = {"seed": 1, "key": "a"}
    kept = {"identity": identity, "training": training, "spent": 3.0, "asked": 3}
    save_checkpoint(work, {**kept, "threads": 1, "processes": 1, "on": ["cpu", 2]})
    seeds = [(work / CHECKPOINT).read_bytes()]
    return Format(
        st.one_of(changed(seeds), tensors(seeds)),
        reader(
            work / CHECKPOINT, lambda path: read_checkpoint(work, identity, torch.device("cpu"))
        ),
        seeds,
    )


def answers(work: Path) -> Format:
    """final/predictions.npz and final/pictures.npz."""
    from nanonas.analysis.answers import Judgement
    from nanonas.data.answers import Answers, read_answers
    from nanonas.data.thumbnails import Thumbnails, read_thumbnails
    from nanonas.errors import DataError

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 3)).astype(np.float32)
    Answers(logits, labels(6, 3), tuple("abcdef")).write(work / "seed1.npz")
    few, none = pixels(2, 6, 6, 3), np.arange(2)
    Thumbnails(few, none, few, few, none, (8, 8), "mirrored").write(work / "seed2.npz")
    seeds = [(work / f"seed{number}.npz").read_bytes() for number in (1, 2)]

    def read(path: Path) -> object:
        try:
            return read_thumbnails(path)
        except DataError:
            judged = Judgement(read_answers(path), tuple("abc"))
            return judged.accuracy, judged.confidence

    names = ("format", "logits", "labels", "names", "errors", "plain", "full_size", "augmentation")
    return Format(
        st.one_of(changed(seeds), archives(seeds, names)),
        reader(work / "predictions.npz", read),
        seeds,
    )


def every() -> dict[str, Callable[[Path], Format]]:
    """The formats of this module and of `toys.hostile.pictures`, by name."""
    from toys.hostile import pictures, stores

    own = (genome, config, request, posted, results, weights, checkpoint, answers)
    every_one = (*own, stores.store, stores.cells, *pictures.FORMATS)
    return {make.__name__: make for make in every_one}
