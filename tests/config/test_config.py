"""The configuration: the same values from YAML, from flags and from Python, and one sentence for
each that is wrong.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from loguru import logger

from nanonas.commands.arguments import configured
from nanonas.commands.search import Search
from nanonas.config import files
from nanonas.config.duration import Duration, seconds
from nanonas.config.files import (
    RUN_KEYS,
    SEARCH_KEYS,
    checked,
    configure,
    nearest,
    read_yaml,
    to_values,
    to_yaml,
    validated,
)
from nanonas.config.keep import kept_number
from nanonas.config.parts import (
    PREDICTORS,
    SPACES,
    STRATEGIES,
    make_objectives,
    make_space,
    make_strategy,
)
from nanonas.config.schema import (
    Config,
    RunConfig,
    SearchConfig,
    SpaceOptions,
    StrategyOptions,
    TrainingOptions,
)
from nanonas.config.trainings import make_budget, with_schedule
from nanonas.core import Budget, rng_for
from nanonas.errors import ConfigError

ROOT = Path(__file__).parents[2]

OTHER: dict[str, Any] = {  # every value of the configuration, none at its default
    "data": "digits",
    "image_size": 16,
    "backbone": "test_convnext.r160_in1k",
    "skip_broken": True,
    "groups": "^(.)",
    "train_images": 500,
    "valid_share": 0.25,
    "flip": False,
    "crop": 2,
    "cutout": 4,
    "space": "nano",
    "channels": 12,
    "ancestors": False,
    "length": 5,
    "add_rate": 0.5,
    "remove_rate": 0.25,
    "change_rate": 3.0,
    "skip_rate": 0.0,
    "fill": False,
    "max_params": 1000,
    "max_macs": 2000,
    "max_latency_ms": 5.0,
    "max_memory_mb": 64.0,
    "max_flash_kb": 256.0,
    "max_ram_kb": 64.5,
    "target": "mcu",
    "strategy": "aging",
    "objectives": ("accuracy",),
    "metric": "balanced_accuracy",
    "population": 7,
    "parents_share": 0.5,
    "crossover_rate": 0.75,
    "screens": "local",
    "predictor": "lstm",
    "halving": 3,
    "rungs": 2,
    "rung_epochs": 1,
    "rung_share": 0.5,
    "rung_image_size": 12,
    "experience": True,
    "experience_from": "elsewhere.jsonl",
    "ancestor": "outputs/things",
    "body_lr": 0.1,
    "inherit": True,
    "inherit_epochs": 1,
    "inherit_audit": 0.2,
    "finalists": 2,
    "lag": 3,
    "seed": 9,
    "epochs": 2,
    "candidate_seconds": 4.5,
    "typical_cost": 0.002,
    "candidate_image_size": 12,
    "finalist_seconds": 45.0,
    "cost": ("macs=1e-12", "values=1e-10"),
    "stop_epoch": 1,
    "stop_margin": 0.01,
    "batch_size": 32,
    "lr": 0.2,
    "warmup": 0.3,
    "optimizer": "sgd",
    "muon_lr": 0.04,
    "bias_lr": 2.0,
    "schedule": "linear",
    "average": 0.9,
    "whiten": True,
    "dirac": True,
    "alternate_flip": False,
    "small_images": 0.25,
    "momentum": 0.8,
    "weight_decay": 0.001,
    "label_smoothing": 0.0,
    "clip_norm": 0.0,
    "balance": "weights",
    "precision": "float32",
    "deterministic": True,
    "time": Duration("90s"),
    "evaluations": 40,
    "generations": 4,
    "final_share": 0.1,
    "front": 1,
    "final_epochs": 0,
    "workers": 3,
    "device": "cpu",
    "worker_memory_mb": 900.0,
    "latency_from": "http://127.0.0.1:8765",
    "cluster": "local:3",
    "cluster_gpus": 0.25,
    "hang_seconds": 10.0,
    "candidate_timeout": 600.0,
    "doctor": False,
    "explain": True,
    "keep": "top:2",
    "out": Path("elsewhere"),
    "name": "mine",
    "requests_of": Path("earlier"),
}
NAMES = {"search": SEARCH_KEYS, "run": RUN_KEYS}


BESIDE = "epochs"  # which cannot be given beside `candidate_seconds`


def other() -> Config:
    def filled(options: Any) -> Any:
        """The options with the other values, at whatever depth they stand."""
        return type(options)(
            **{
                field.name: filled(value) if dataclasses.is_dataclass(value) else OTHER[field.name]
                for field in dataclasses.fields(options)
                if field.name != BESIDE
                for value in [getattr(options, field.name)]
            }
        )

    made: Config = filled(Config())
    return made


def flags(name: str) -> list[str]:
    """A value as a flag and the words behind it; that of a yes or no is the flag alone."""
    value, flag = OTHER[name], "--" + name.replace("_", "-")
    if isinstance(value, bool) and name != "flip":
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, *value] if isinstance(value, tuple) else [flag, str(value)]


def parsed(*flags: str) -> Config:
    return configured(Search, "search", flags)


# --- the same values everywhere -------------------------------------------------------------------


def test_no_name_appears_twice_and_this_test_knows_them_all() -> None:
    names = [*NAMES["search"], *NAMES["run"]]
    assert len(set(names)) == len(names)
    assert set(names) == set(OTHER)
    assert {name for half in to_values(Config()).values() for name in half} == set(names)
    default = to_values(Config())
    assert all(
        value != default[half][name]
        for half in NAMES
        for name, value in to_values(other())[half].items()
        if name != BESIDE
    )


@pytest.mark.parametrize("config", [Config(), other()], ids=["default", "other"])
def test_yaml_and_plain_values_keep_every_value(config: Config, tmp_path: Path) -> None:
    assert validated(to_values(config)) == config
    assert validated(yaml.safe_load(to_yaml(config))) == config
    (tmp_path / "c.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert read_yaml(tmp_path / "c.yaml") == config


@pytest.mark.parametrize("name", OTHER)
def test_every_value_is_a_flag_of_its_own_name(name: str) -> None:
    values = to_values(Config())
    values["search" if name in NAMES["search"] else "run"][name] = OTHER[name]
    assert to_values(parsed(*flags(name))) == to_values(validated(values))


def test_all_flags_at_once() -> None:
    assert parsed(*(word for name in OTHER if name != BESIDE for word in flags(name))) == other()


def test_epochs_or_seconds_bind_a_training_and_not_both() -> None:
    with pytest.raises(ConfigError, match="only one of them can bind"):
        parsed("--epochs", "3", "--candidate-seconds", "2")


def test_several_networks_are_trained_where_there_is_a_front() -> None:
    both = ("--strategy", "nsga2", "--objectives", "accuracy", "params")
    assert parsed(*both, "--front", "3").run.front == 3
    assert parsed("--strategy", "nsga2", "--front", "3").run.front == 3  # it has two of its own
    message = (
        r"run\.front is 3 \(--front\), which needs two objectives or more; add "
        "{}--objectives accuracy params"
    )
    with pytest.raises(ConfigError, match=message.format("")):
        parsed("--objectives", "accuracy", "--front", "3")
    with pytest.raises(ConfigError, match=message.format("--strategy nsga2 ")):
        parsed("--front", "3", "--strategy", "aging")
    for off in (("--final-epochs", "0"), ("--time", "1h", "--final-share", "0")):
        with pytest.raises(ConfigError, match="but nothing is trained at the end"):
            parsed(*both, "--front", "3", *off)


@pytest.mark.parametrize(
    ("flags", "cost"),
    [
        ((), "params"),
        (("--max-params", "250k"), "params"),
        (("--max-macs", "1M", "--max-ram-kb", "64"), "macs"),
        (("--max-latency-ms", "5"), "latency"),
        (("--max-memory-mb", "5"), "memory"),
        (("--max-flash-kb", "64"), "flash"),
        (("--max-ram-kb", "64"), "ram"),
    ],
)
def test_a_front_is_of_accuracy_and_what_is_limited(flags: Sequence[str], cost: str) -> None:
    assert parsed(*flags, "--front", "3").search.strategy.objectives == ("accuracy", cost)
    assert parsed(*flags).search.strategy.objectives == ()
    assert configure(front="3", objectives=["accuracy", "ram"]).search.strategy.objectives == (
        "accuracy",
        "ram",
    )


def test_a_run_with_one_objective_has_no_front_later() -> None:
    begun = replace(Config(), run=replace(Config().run, front=3))
    with pytest.raises(ConfigError, match="this run has one objective and so no front; begin an"):
        checked(begun, begun=True)


@pytest.mark.parametrize(
    "address",
    ["auto", "local", "local:16", "head.local:6379", "ray://10.0.0.5:10001", "[fe80::1]:6379"],
)
def test_an_address_of_a_cluster(address: str) -> None:
    assert parsed("--cluster", address).run.cluster == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "local:0",
        "local:x",
        "10.0.0.5",
        "http://a:1",
        "ray://a",
        "a:65536",
        "a:0",
        "ray://a b:1",
    ],
)
def test_what_is_no_address_of_a_cluster(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--cluster is .*, but must be auto, local, local:N"):
        configure(cluster=address)


def test_a_cluster_is_taken_back_by_none() -> None:
    assert parsed("--cluster", "none").run.cluster is None
    assert configure(cluster=None).run.cluster is None


def test_a_file_says_only_what_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for content, expected in {
        "": Config(),
        "search:\nrun:\n": Config(),
        "search: {population: 4}": configure(population=4),
        "run: {out: there, generations: null}": Config(
            run=RunConfig(out=Path("there"), generations=None)
        ),
        "search: {max_params: 1_000_000, lr: '0.5'}": configure(max_params=1_000_000, lr=0.5),
    }.items():
        path.write_text(content, encoding="utf-8")
        assert read_yaml(path) == expected


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_the_configurations_that_come_along_can_be_read(path: Path) -> None:
    config = read_yaml(path)
    assert make_space(config.search.space, (3, 32, 32), 10)
    assert config != Config()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "search: {populaton: 3}",
            "{path} has an unknown key 'search.populaton'; did you mean 'population'?",
        ),
        ("run: {population: 3}", None),
        ("serach: {population: 3}", "{path} has an unknown key 'serach'; did you mean 'search'?"),
        ("population: 3", "{path} has the key 'population' at the top; it belongs under 'search:'"),
        (
            "search: {population: many}",
            "{path}: search.population is 'many', but must be a valid integer, unable to parse "
            "string as an "
            "integer (--population)",
        ),
        (
            "search: {population: 1}",
            "{path}: search.population is 1, but must be greater than or equal to 2 (--population)",
        ),
        (
            "search: {valid_share: 1.0}",
            "{path}: search.valid_share is 1.0, but must be less than 1 (--valid-share)",
        ),
        (
            "search: {seed: -1}",
            "{path}: search.seed is -1, but must be greater than or equal to 0 (--seed)",
        ),
        (
            "search: {space: nona}",
            "{path}: search.space is 'nona', which is unknown (--space); did you mean 'nano'?",
        ),
        (
            "search: {objectives: [accuracy, parameters], strategy: nsga2}",
            (
                "{path}: search.objectives has 'parameters', which is unknown (--objectives); did "
                "you "
                "mean 'params'?"
            ),
        ),
        (
            "search: {objectives: [accuracy, macs, macs], strategy: nsga2}",
            "{path}: search.objectives has 'macs' twice (--objectives); name it once",
        ),
        (
            "search: {objectives: [params, macs], strategy: nsga2}",
            (
                "{path}: search.objectives is params, macs (--objectives), but accuracy must be "
                "among "
                "them"
            ),
        ),
        (
            "search: {objectives: [accuracy, params], screens: aging}",
            "{path}: search.objectives is accuracy, params (--objectives), but the strategy "
            "'aging' has one; for several take --screens nsga2",
        ),
        (
            "search: {objectives: [accuracy, params], strategy: aging}",
            "{path}: search.objectives is accuracy, params (--objectives), but the strategy "
            "'aging' has one; for several take --strategy nsga2 or screened",
        ),
        (
            "search: {objectives: [accuracy], strategy: nsga2}",
            "{path}: search.objectives is accuracy (--objectives), but the strategy 'nsga2' needs "
            "two or more; give "
            "for instance accuracy params",
        ),
        ("search: {objectives: accuracy}", None),
        (
            "search: {predictor: lsmt}",
            (
                "{path}: search.predictor is 'lsmt', which is unknown (--predictor); did you mean "
                "'lstm'?"
            ),
        ),
        (
            "search: {screens: agin}",
            "{path}: search.screens is 'agin', which is unknown (--screens); did you mean 'aging'?",
        ),
        (
            "search: {screens: screened}",
            "{path}: search.screens is 'screened', which cannot be screened (--screens); known "
            "are random, evolution, "
            "aging, local, nsga2",
        ),
        (
            "search: {screens: nsga2, objectives: [accuracy]}",
            "{path}: search.objectives is accuracy (--objectives), but the strategy 'nsga2' needs "
            "two or more; give for instance accuracy params",
        ),
        (
            "search: {halving: 1}",
            (
                "{path}: search.halving is 1, but one of 2 or more is promoted; 0 is for none "
                "(--halving)"
            ),
        ),
        (
            "search: {halving: -1}",
            "{path}: search.halving is -1, but must be greater than or equal to 0 (--halving)",
        ),
        (
            "search: {rungs: 1}",
            "{path}: search.rungs is 1, but must be greater than or equal to 2 (--rungs)",
        ),
        (
            "search: {rung_share: 0}",
            "{path}: search.rung_share is 0, but must be greater than 0 (--rung-share)",
        ),
        (
            "search: {rung_share: 1.5}",
            "{path}: search.rung_share is 1.5, but must be less than or equal to 1 (--rung-share)",
        ),
        (
            "search: {rung_image_size: 7}",
            (
                "{path}: search.rung_image_size is 7, but must be greater than or equal to 8 "
                "(--rung-image-size)"
            ),
        ),
        (
            "search: {inherit: 2}",
            (
                "{path}: search.inherit is 2, but must be a valid boolean, unable to interpret "
                "input "
                "(--inherit)"
            ),
        ),
        (
            "search: {inherit: true, strategy: random}",
            "{path}: search.inherit is on (--inherit), but the strategy 'random' has no children "
            "that could inherit; "
            "take another --strategy",
        ),
        (
            "search: {inherit_epochs: 0}",
            (
                "{path}: search.inherit_epochs is 0, but must be greater than or equal to 1 "
                "(--inherit-epochs)"
            ),
        ),
        (
            "search: {inherit_audit: 1.1}",
            (
                "{path}: search.inherit_audit is 1.1, but must be less than or equal to 1 "
                "(--inherit-audit)"
            ),
        ),
        (
            "search: {finalists: -1}",
            "{path}: search.finalists is -1, but must be greater than or equal to 0 (--finalists)",
        ),
        (
            "search: {max_latency_ms: 0}",
            "{path}: search.max_latency_ms is 0, but must be greater than 0 (--max-latency-ms)",
        ),
        (
            "search: {max_memory_mb: -1}",
            "{path}: search.max_memory_mb is -1, but must be greater than 0 (--max-memory-mb)",
        ),
        (
            "run: {keep: top}",
            "{path}: run.keep is 'top', but must be front, top:N (such as top:20) or all (--keep)",
        ),
        (
            "search: {experience: true, experience_from: 5}",
            "{path}: search.experience_from is 5, but must be the path of a file, in quotes where "
            "that is a number (--experience-from)",
        ),
        ("run: {keep: top:0}", None),
        ("run: {keep_weights: 0}", None),
        ("search: {max_memory_mb: .nan}", None),
        ("search: {max_latency_ms: much}", None),
        ("[1, 2]", "{path} must hold 'search:' and 'run:' with keys below them, but holds [1, 2]"),
        ("words", "{path} must hold 'search:' and 'run:' with keys below them, but holds 'words'"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(
    tmp_path: Path, content: str, message: str | None
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)
    if message is not None:
        assert str(error.value) == message.format(path=path)


def test_a_key_in_the_wrong_half_is_refused(tmp_path: Path) -> None:
    for half, others in (("search", "run"), ("run", "search")):
        for name in NAMES[half]:
            with pytest.raises(ConfigError, match=f"has an unknown key '{others}.{name}'"):
                validated({others: {name: OTHER[name]}})


@pytest.mark.parametrize(
    "content", [b"search: [", b"search: {a: b: c}", b"\xff\xfe\x00", b"\tsearch: {}", b"a: &b *c"]
)
def test_what_is_no_yaml_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path} is not valid YAML: ")) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "no.yaml"
    with pytest.raises(ConfigError) as error:
        read_yaml(missing)
    assert (
        str(error.value) == f"there is no configuration file '{missing}'; see configs/ for examples"
    )
    with pytest.raises(
        ConfigError, match=re.escape(f"the configuration file '{tmp_path}' cannot be read: ")
    ):
        read_yaml(tmp_path)


@pytest.mark.parametrize("half", ["search", "run"])
@pytest.mark.parametrize("value", [[1], "words", 3, {"a": {"b": 1}}, {1: 2}])
def test_halves_that_are_no_mappings_are_one_sentence(half: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        validated({half: value})
    assert "\n" not in str(error.value)
    assert half in str(error.value)


def test_the_nearest_word_is_named_or_all_of_them() -> None:
    assert nearest("evolve", ["evolution", "random"]) == "; did you mean 'evolution'?"
    assert nearest("xyz", ["evolution", "random"]) == "; known are evolution, random"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90s", 90),
        (" 30M ", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1h0m5s", 3605),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0h", "-5m", "soon", "5d", "30m1h", "1:30", "nan", "h"])
def test_what_is_no_duration_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        seconds(text, "--time-per-network")
    assert (
        str(error.value)
        == f"--time-per-network is {text!r}, but must be a duration above 0 such as 90s, 30m or "
        "1h30m"
    )


def test_a_duration_is_seconds_that_remember_how_they_were_written(tmp_path: Path) -> None:
    run = configure(time="1h30m").run
    assert run.time == 5400.0
    assert f"{run.time}" == to_values(Config(run=run))["run"]["time"] == "1h30m"
    assert pickle.loads(pickle.dumps(run)) == run
    assert parsed("--time", "90").run.time == 90.0
    sentence = r"^--time is 'soon', but must be a duration above 0"
    with pytest.raises(ConfigError, match=sentence):
        configure(time="soon")
    with pytest.raises(ConfigError, match=sentence):
        parsed("--time", "soon")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250k", 250_000),
        ("250 K", 250_000),
        ("2.5M", 2_500_000),
        ("2.3m", 2_300_000),
        ("1e6", 1_000_000),
        ("1.5E+3", 1500),
        ("0.4G", 400_000_000),
        ("1B", 10**9),
        ("250_000", 250_000),
        ("7", 7),
    ],
)
@pytest.mark.parametrize("key", ["max_params", "max_macs"])
def test_amounts_are_read_as_people_write_them(
    tmp_path: Path, key: str, text: str, expected: int
) -> None:
    (tmp_path / "a.yaml").write_text(f"search: {{{key}: {text}}}")
    flag = f"--{key.replace('_', '-')}"
    for config in (
        configure(**{key: text}),
        parsed(flag, text),
        read_yaml(tmp_path / "a.yaml"),
        parsed("--config", str(tmp_path / "a.yaml")),
    ):
        assert config == configure(**{key: expected})
        stored = to_values(config)["search"][key]
        assert (stored, type(stored)) == (expected, int)
        assert validated(yaml.safe_load(to_yaml(config))) == config


@pytest.mark.parametrize("text", ["many", "1.5", "0.2", "0", "-3k", "k", "1e999", "nan", "5 x", ""])
def test_what_is_no_amount_is_one_sentence(text: str) -> None:
    makers: tuple[Callable[[], Config], ...] = (
        lambda: configure(max_params=text),
        lambda: parsed(f"--max-params={text}"),
    )
    for make in makers:
        with pytest.raises(ConfigError) as error:
            make()
        assert (
            f"search.max_params is {text!r}, but must be a whole number, 1 or more, such as "
            in (str(error.value))
        )


def test_data_may_be_a_path() -> None:
    config = configure(data=Path("a") / "b.npz")
    assert config == configure(data=str(Path("a") / "b.npz"))
    assert type(config.search.data.data) is str


def test_flags_are_held_to_the_ranges_of_files() -> None:
    with pytest.raises(ConfigError) as error:
        parsed("--population", "1")
    assert str(error.value) == (
        "the command line: search.population is 1, but must be greater than or equal to 2 "
        "(--population)"
    )


# --- from strings to objects ----------------------------------------------------------------------


def test_every_name_of_a_space_and_a_strategy_makes_one() -> None:
    for space_name in SPACES:
        space = make_space(SpaceOptions(space_name), (1, 8, 8), 3)
        assert (space.name, space.input_shape, space.classes) == (space_name, (1, 8, 8), 3)
        for strategy_name in STRATEGIES:
            strategy = make_strategy(SearchConfig(strategy=StrategyOptions(strategy_name)), space)
            space.decode(strategy.ask(0, rng_for(0, 0), []).genome)


@pytest.mark.parametrize(
    ("field", "table"), [("space", SPACES), ("strategy", STRATEGIES), ("predictor", PREDICTORS)]
)
def test_the_configuration_takes_exactly_the_names_in_the_tables(
    field: str, table: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as error:
        validated({"search": {field: "0"}})
    assert str(error.value).endswith(f"which is unknown (--{field}); known are {', '.join(table)}")
    for name in table:
        assert to_values(validated({"search": {field: name}}))["search"][field] == name


def test_settings_reach_what_is_made() -> None:
    nano = make_space(SpaceOptions("nano", channels=5, length=9), (1, 8, 8), 3)
    assert (nano.channels, nano.length) == (5, 9)  # type: ignore[attr-defined]
    layers = make_space(
        SpaceOptions("layers", add_rate=1, remove_rate=2, change_rate=3, skip_rate=4), (1, 8, 8), 3
    )
    assert layers.rates == (1, 2, 3, 4)  # type: ignore[attr-defined]
    chosen = configure(strategy="evolution", population=9, parents_share=0.5, crossover_rate=0.1)
    evolution: Any = make_strategy(chosen.search, nano)
    assert (evolution.population_size, evolution.parents_share, evolution.crossover_rate) == (
        9,
        0.5,
        0.1,
    )
    aging: Any = make_strategy(configure(strategy="aging", population=9, lag=4).search, nano)
    assert (aging.population_size, aging.lag) == (9, 4)
    local: Any = make_strategy(configure(strategy="local", population=9, lag=4).search, nano)
    assert (local.population_size, local.lag) == (9, 4)
    nsga2: Any = make_strategy(
        configure(strategy="nsga2", population=9, crossover_rate=0.1, lag=4).search, nano
    )
    assert (nsga2.population_size, nsga2.crossover_rate, nsga2.lag) == (9, 0.1, 4)
    random: Any = make_strategy(configure(strategy="random", population=9).search, nano)
    assert random.population_size == 9


def test_halving_is_around_inheriting_is_around_the_strategy() -> None:
    nano = make_space(SpaceOptions("nano"), (1, 16, 16), 3)
    settings: dict[str, Any] = {
        "strategy": "screened",
        "lag": 7,
        "epochs": 8,
        "inherit": True,
        "inherit_epochs": 3,
        "inherit_audit": 0.2,
        "halving": 2,
        "rungs": 3,
        "rung_share": 0.25,
        "rung_image_size": 8,
        "stop_epoch": 1,
    }
    halving: Any = make_strategy(configure(**settings).search, nano)
    stop = 1 / 3 + TrainingOptions().stop_margin
    assert halving.rungs == (
        Budget(2, 1, stop, share=0.25, image_size=8),
        Budget(4, begin=2, share=0.5, image_size=11),
        Budget(8, begin=4),
    )
    assert (halving.eta, halving.lag) == (2, 7)
    inheriting = halving.strategy
    assert (inheriting.budget, inheriting.audit_share) == (Budget(3, 1, stop), 0.2)
    assert inheriting.strategy.opening == 5
    changed = {**settings, "halving": 0, "inherit_epochs": None, "epochs": 5}
    plain: Any = make_strategy(configure(**changed).search, nano)
    assert plain.budget == Budget(3, 1, stop)  # half of them, rounded up
    changed = {**settings, "strategy": "nsga2", "objectives": ("accuracy", "macs")}
    several: Any = make_strategy(configure(**changed).search, nano)
    assert [objective.name for objective in several.objectives] == ["accuracy", "macs"]


@pytest.mark.parametrize(
    ("strategy", "given", "expected"),
    [
        ("evolution", (), ["accuracy"]),
        ("evolution", ("accuracy",), ["accuracy"]),
        ("screened", (), ["accuracy"]),
        ("screened", ("macs", "accuracy"), ["macs", "accuracy"]),
        ("nsga2", (), ["accuracy", "params"]),
        ("nsga2", ("accuracy", "macs"), ["accuracy", "macs"]),
    ],
)
def test_the_objectives_are_those_given_or_the_strategys_own(
    strategy: str, given: tuple[str, ...], expected: list[str]
) -> None:
    config = configure(strategy=strategy, objectives=given, ancestors=False).search
    objectives = make_objectives(config.strategy)
    assert [objective.name for objective in objectives] == expected
    assert [objective.maximize for objective in objectives] == [
        name == "accuracy" for name in expected
    ]
    made: Any = make_strategy(config, make_space(config.space, (1, 8, 8), 3))
    assert strategy != "nsga2" or made.objectives == objectives


def test_keys_that_are_gone_are_ignored_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("search: {acquisition: ucb, warm_pool: 0, seed: 3}", encoding="utf-8")
    assert (notes_of(path), read_yaml(path)) == ([], configure(seed=3))
    path = tmp_path / "other.yaml"
    path.write_text("search: {acquisition: ei, warm_pool: 40, seed: 3}", encoding="utf-8")
    warm, acquisition = sorted(notes_of(path), reverse=True)
    assert f"{path} has search.warm_pool = 40, which this version of nanonas ignores: " in warm
    assert f"{path} has search.acquisition = ei, which this version of nanonas" in acquisition
    assert read_yaml(path) == configure(seed=3)


def test_how_many_weights_stay_is_read_by_its_old_name(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("run: {keep_weights: 7}", encoding="utf-8")
    assert (notes_of(path), read_yaml(path)) == ([], configure(keep="top:7"))
    assert configure(keep_weights=7) == configure(keep="top:7")
    assert validated({"run": {"keep_weights": 7, "keep": "all"}}) == configure(keep="all")


@pytest.mark.parametrize(
    ("words", "number"), [("front", 1), ("top:1", 1), ("top:20", 20), ("all", None)]
)
def test_whose_weights_stay(words: str, number: int | None) -> None:
    assert parsed("--keep", words).run.keep == words
    assert kept_number(words) == number


def notes_of(path: Path) -> list[str]:
    heard: list[str] = []
    handler = logger.add(heard.append, format="{message}", level="WARNING")
    try:
        read_yaml(path)
        read_yaml(path)  # says nothing again
    finally:
        logger.remove(handler)
    return heard


@pytest.mark.parametrize(
    ("epochs", "stop_epoch", "expected"),
    [
        (10, 3, Budget(10, 3, 0.25 + 0.05)),
        (10, 0, Budget(10)),
        (3, 3, Budget(3)),  # nothing is saved by stopping after the last epoch
        (2, 3, Budget(2)),
    ],
)
def test_the_stop_rule_is_chance_and_a_margin(
    epochs: int, stop_epoch: int, expected: Budget
) -> None:
    assert make_budget(TrainingOptions(epochs=epochs, stop_epoch=stop_epoch), classes=4) == expected


# --- the recipe, and what it was before there was a choice ----------------------------------------


def test_a_configuration_of_a_run_without_a_newer_key_means_what_was_done_then(
    tmp_path: Path,
) -> None:
    values = to_values(configure(lr=0.2, warmup=0.1))
    del values["search"]["optimizer"]
    stored = tmp_path / "stored.yaml"
    stored.write_text(yaml.safe_dump(values))
    assert read_yaml(stored).search.training.optimizer == "sgd" == files.BEFORE["optimizer"]
    del values["search"]["clip_norm"]  # a user's, who leaves most to the defaults
    stored.write_text(yaml.safe_dump(values))
    assert read_yaml(stored).search.training.optimizer == TrainingOptions().optimizer == "muon"


def test_what_was_done_before_is_the_recipe_of_then() -> None:
    before = replace(TrainingOptions(), **files.RECIPE_BEFORE)  # type: ignore[arg-type]
    assert (before.optimizer, before.schedule, before.small_images) == ("sgd", "cosine", 0.0)
    assert (before.whiten, before.dirac, before.alternate_flip) == (False, False, False)
    assert (before.average, before.bias_lr) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"optimizer": "sgd"}, (0.2, "cosine")),
        ({"optimizer": "muon"}, (0.1, "linear")),
        ({"optimizer": "muon", "warmup": 0.0, "schedule": "cosine"}, (0.0, "cosine")),
        ({}, (0.1, "linear")),
    ],
)
def test_a_schedule_that_is_not_given_is_that_of_the_optimizer(
    given: dict[str, Any], expected: tuple[float, str]
) -> None:
    filled = with_schedule(configure(**given).search.training)
    assert (filled.warmup, filled.schedule) == expected
