"""nanonas from Python: modules as results, wherever the caller lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from nanonas import Result, build, load, nano_nas, search
from nanonas.config.files import read_yaml
from nanonas.config.trainings import make_data
from nanonas.core import rng_for
from nanonas.data import load as load_images
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, GenomeError, RunError
from nanonas.runs.folder import find
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.training.modules import NetworkModule
from nanonas.training.pictures import pictures
from nanonas.training.train import accuracy

CALL = (
    "nano_nas('evolution', population_size=2, generations=1, epochs=1, data='digits', channels=3, "
    "train_images=200, "
    "workers=1, device='cpu', precision='float32', quiet=True, out={out!r})"
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[NetworkModule, Path]:
    out = tmp_path_factory.mktemp("outputs")
    model: NetworkModule = eval(CALL.format(out=str(out)), {"nano_nas": nano_nas})
    return model, out


def test_a_search_returns_the_best_module_with_the_weights_of_its_evaluation(
    searched: tuple[NetworkModule, Path],
) -> None:
    model, out = searched
    run = find(out)
    config = read_yaml(run.config).search
    with RunStore.read(run.store) as store:
        best = ranking(store.told())[0].evaluation
        assert len(store.evaluations()) == 2
        candidate = store.candidates()[best.number]
    assert not model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert model.network.key == candidate.key
    assert sum(p.numel() for p in model.parameters()) == best.metrics["params"]
    assert accuracy(model, pictures(make_data(config.data, config.seed), "cpu")[1]) == best.accuracy


def test_the_module_of_a_run_can_be_loaded_and_trained_on(
    searched: tuple[NetworkModule, Path],
) -> None:
    model, out = searched
    for source in (out, str(find(out).path)):
        again = load(source)
        assert all(
            torch.equal(tensor, model.state_dict()[name])
            for name, tensor in again.state_dict().items()
        )
    again.train()
    again(torch.randn(4, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in again.parameters())


def test_there_has_to_be_a_run_to_load(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"'{tmp_path}' holds no run"):
        load(tmp_path)


def test_a_program_on_standard_input_is_not_run_again_by_its_workers(tmp_path: Path) -> None:
    load_images("digits")  # into the cache: what is said of decoding is not what is tested here
    program = (
        "print('begun')\nfrom nanonas import nano_nas\n"
        f"model = {CALL.format(out='runs')}\nprint(type(model))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=100,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["begun", "<class 'nanonas.training.modules.NetworkModule'>"]
    log = (find(tmp_path / "runs").log).read_text(encoding="utf-8")
    assert "begun" not in log


# --- modules of genomes that somebody wrote -------------------------------------------------------


def test_a_list_of_operations_is_a_module() -> None:
    model = build([0, 1, 2, 3], space="nano", channels=128, seed=0)
    assert sum(p.numel() for p in model.parameters()) == model.network.params >= 200_000
    assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model.network.key == NanoSpace(channels=128).decode([0, 1, 2, 3]).key
    again = build([0, 1, 2, 3], space="nano", channels=128, seed=0)
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items()
    )


def test_other_spaces_shapes_and_classes() -> None:
    genome = LayersSpace((1, 8, 12), 3).sample(rng_for(0, 0))
    model = build(genome, space="layers", input_shape=(1, 8, 12), classes=3).eval()
    assert model(torch.randn(2, 1, 8, 12)).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: build([0, 9]),
            GenomeError,
            "position 1 of a genome of the space 'nano' must be 0 to 7 (0 conv3x3, 1 conv1x1, 2 "
            "sep_conv3x3, "
            "3 sep_conv5x5, 4 maxpool, 5 avgpool, 6 skip, 7 zero), but is 9.",
        ),
        (
            lambda: build(cast(Any, 5)),
            GenomeError,
            "a genome must be a list of whole numbers, but is 5",
        ),
        (lambda: build(cast(Any, "0123")), GenomeError, None),
        (
            lambda: build(cast(Any, [0, 1.5])),
            GenomeError,
            "a genome must be a list of integers, but position 1 holds 1.5.",
        ),
        (lambda: build([0, 1], space="nona"), ConfigError, None),
        (lambda: build([0, 1], chanels=5), ConfigError, None),
        (lambda: build([0, 1], channels=0), ConfigError, None),
        (
            lambda: build([0, 1], classes=1),
            ConfigError,
            "classes must be a whole number of 2 or more, but is 1.",
        ),
        (lambda: build([0, 1], input_shape=(32, 32)), ConfigError, None),
        (lambda: nano_nas("evolve"), ConfigError, None),
        (lambda: nano_nas(population_size=1), ConfigError, None),
        (lambda: nano_nas(generations=0), ConfigError, None),
        (
            lambda: nano_nas(epoch=3),
            ConfigError,
            "nano_nas has an unknown key 'search.epoch'; did you mean 'epochs'?",
        ),
        (
            lambda: nano_nas(time="soon"),
            ConfigError,
            "--time is 'soon', but must be a duration above 0",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    call: Callable[[], object],
    error: type[Exception],
    message: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as raised:
        call()
    assert "\n" not in str(raised.value)
    assert message is None or str(raised.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    given = {"workers": 1, "device": "cpu", "precision": "float32", "max_params": "5k"}
    out = tmp_path_factory.mktemp("results")
    return search("digits", time="2s", quiet=True, out=str(out), **given)


def test_a_result_has_the_network_its_figures_and_its_page(result: Result) -> None:
    assert result.best.network.params <= 5_000
    final = json.loads((result.folder / "final" / "result.json").read_text(encoding="utf-8"))
    assert result.test_accuracy == final["test_accuracy"]
    assert list(result.history["#"]) == [0]
    assert list(result.front["#"]) == [0]
    assert result.report().read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert f"{final['test_images']} test images" in str(result)


def test_a_result_shows_itself_in_a_notebook(result: Result) -> None:
    page = result._repr_html_()
    assert "<svg" in page
    assert "<table" in page
    assert str(result.folder) in page


def test_a_result_can_be_trained_again(result: Result) -> None:
    again = result.train(1, quiet=True)
    assert again.record.final is not None
    assert again.record.final["epochs"] == 1
    with pytest.raises(ConfigError, match="epochs must be 1 or more, but is 0"):
        result.train(0)
