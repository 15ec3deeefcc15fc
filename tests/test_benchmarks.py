"""The benchmarks run; what they find is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nanonas import cli
from nanonas.bench.bench import SHIPPED

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def benchmark(name: str, *arguments: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_throughput_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "throughput.json"
    tiny = [
        "--networks",
        "plain_61k",
        "--final",
        "plain_61k",
        "--seconds",
        "0.1",
        "--repetitions",
        "1",
        "--warm-up",
        "1",
        "--images",
        "600",
    ]
    said = benchmark("throughput.py", *tiny, "--out", str(out))
    assert "plain_61k" in said

    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["hardware"]["cores"] >= 1
    assert result["versions"]["torch"]
    assert result["settings"]["repetitions"] == 1
    row = result["networks"]["plain_61k"]
    rates = {label: rate["median"] for label, rate in row["images_per_second"].items()}
    assert {"nanonas float32", "loop, 0 workers", "loop, 2 workers"} <= set(rates)
    assert min(rates.values()) > 0
    assert row["best_loop"] == max(
        (label for label in rates if label.startswith("loop")), key=rates.__getitem__
    )
    best = rates[row["best_loop"]]
    assert row["times_as_fast"]["nanonas float32"]["of_medians"] == pytest.approx(
        rates["nanonas float32"] / best
    )
    share = (
        rates["nanonas float32"]
        * 6
        * row["macs"]
        / (1e9 * result["peak_gflops"]["float32"]["median"])
    )
    assert row["share_of_peak"]["nanonas float32"] == pytest.approx(share, abs=1e-4)

    row = result["final"]["networks"]["plain_61k"]
    assert {"bare steps, 1 thread", "training, 1 thread"} <= set(row["images_per_second"])
    assert row["fastest"].startswith("training")
    assert row["times_one_process"] > 0


def test_report_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "report.json"
    benchmark("report.py", "--candidates", "150", "--out", str(out))
    (run,) = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert run["candidates"] == 150
    assert run["pictures"] >= 5
    assert run["page"]["cpu_seconds"] > 0
    assert run["megabytes"] < 6


def test_dashboard_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "dashboard.json"
    benchmark("dashboard.py", "--candidates", "60", "--out", str(out))
    (run,) = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert run["candidates"] == 60
    assert run["update_processor_seconds"] > 0


@pytest.mark.slow
def test_inheritance_runs_from_end_to_end_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "results" / "inheritance.json"
    tiny = [
        "--data",
        "digits",
        "--spaces",
        "nano",
        "--train-images",
        "100",
        "--epochs",
        "2",
        "--workers",
        "1",
    ]
    benchmark("inheritance.py", *tiny, "--pairs", "2", "--out", str(out))
    first = json.loads(out.read_text(encoding="utf-8"))["nano, digits"]["pairs"]
    benchmark("inheritance.py", *tiny, "--pairs", "3", "--out", str(out))
    entry = json.loads(out.read_text(encoding="utf-8"))["nano, digits"]
    assert entry["pairs"][:2] == first
    ways = [pair["ways"] for pair in entry["pairs"]]
    gains = [way["inherited, half"]["accuracy"] - way["scratch"]["accuracy"] for way in ways]
    assert entry["summary"]["against_scratch"]["inherited, half"][0] == pytest.approx(
        sum(gains) / 3
    )
    assert all(0 < way["inherited, half"]["inherited_share"] <= 1 for way in ways)


@pytest.mark.slow
def test_fidelity_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "fidelity.json"
    tiny = [
        "--data",
        "digits",
        "--train-images",
        "100",
        "--epochs",
        "4",
        "--networks",
        "5",
        "--workers",
        "1",
    ]
    benchmark("fidelity.py", *tiny, "--out", str(out))
    entry = json.loads(out.read_text(encoding="utf-8"))["layers, digits"]
    networks, judged = entry["networks"], entry["judged"]
    assert len(networks) == 5
    promoted = [network for network in networks if "successive halving" in network["ways"]]
    assert 0 < len(promoted) < 5
    cheap = "small images, half the epochs"
    spent = sum(network["ways"][cheap]["cpu"] for network in networks)
    assert judged[cheap]["cpu_seconds"] == pytest.approx(spent / 5, abs=0.01)
    spent += sum(network["ways"]["successive halving"]["cpu"] for network in promoted)
    assert judged["successive halving, one of 4"]["cpu_seconds"] == pytest.approx(
        spent / 5, abs=0.01
    )
    assert judged["scratch"]["against_scratch"] == 0


@pytest.mark.slow
def test_cost_runs_from_end_to_end_and_keeps_what_others_said(tmp_path: Path) -> None:
    out = tmp_path / "results" / "cost.json"
    tiny = ["--networks", "3", "--rounds", "1", "--seconds", "0", "--batch-size", "4"]
    small = ["--max-params", "20000", "--max-macs", "2000000", "--precision", "float32"]
    for space in ("stages", "layers"):
        said = benchmark("cost.py", "--spaces", space, *tiny, *small, "--out", str(out))
        assert f"{space}, float32, 3 networks" in said
    entries = json.loads(out.read_text(encoding="utf-8"))
    assert list(entries) == ["stages, float32", "layers, float32"]
    for entry in entries.values():
        assert entry["versions"]["torch"]
        assert min(entry["microseconds"]) > 0
        errors = [p / t - 1 for p, t in zip(entry["predicted"], entry["microseconds"], strict=True)]
        median = sorted(map(abs, errors))[1]
        assert entry["calibrated"]["median_error"] == pytest.approx(median, abs=0.01)
        assert -1 <= entry["MACs"]["spearman"] <= 1


def test_damaged_images_are_read_right_or_refused_by_name() -> None:
    said = benchmark("images.py", "--exif", "24", "--files", "48")
    assert "EXIF: 24 read right" in said
    assert "WRONG" not in said


@pytest.mark.slow
def test_recipe_runs_from_end_to_end_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "results" / "recipe.jsonl"
    tiny = ["--data", "digits", "--seconds", "0.2", "--networks", "plain_61k", "found_on_digits"]
    tiny += ["--variants", "base", "muon", "--out", str(out)]
    benchmark("recipe.py", *tiny, "--seeds", "1")
    first = out.read_text(encoding="utf-8").splitlines()
    said = benchmark("recipe.py", *tiny, "--seeds", "2")
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[: len(first)] == first
    heads = [row for row in map(json.loads, lines) if "settings" in row]
    assert heads[0]["hardware"]["cores"] >= 1
    rows = [row for row in map(json.loads, lines) if "variant" in row]
    pairs = {(row["network"], row["variant"], row["seed"]): row for row in rows}
    assert len(pairs) == len(rows) == 8
    assert all(0 < row["cpu_seconds"] < 2 for row in rows)
    assert all("optimizer='muon'" in row["recipe"] for row in rows if row["variant"] == "muon")
    gains = [
        100 * (row["accuracy"] - pairs[network, "base", seed]["accuracy"])
        for (network, variant, seed), row in pairs.items()
        if variant == "muon"
    ]
    assert f"{sum(gains) / 4:+.2f} ± " in said
    assert "'muon' " in said


@pytest.mark.slow
def test_verdict_runs_from_end_to_end_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "results" / "verdict.json"
    tiny = ["--data", "digits", "--time", "5s", "--workers", "1", "--runs", str(tmp_path / "runs")]
    limits = ["--max-params", "3k", "--max-macs", "1M", "--limit", "3k"]
    benchmark("verdict.py", *tiny, *limits, "--only", "search", "--seed", "0", "--out", str(out))
    said = benchmark(
        "verdict.py", *tiny, *limits, "--only", "plain", "--seed", "0", "--out", str(out)
    )
    assert "one seed cannot tell whether the search was worth its time" in said
    entry = json.loads(out.read_text(encoding="utf-8"))["digits, 5s"]
    assert entry["versions"]["torch"]
    (limit,) = entry["limits"]
    assert (limit["limit"], limit["seconds"]) == ("params-3000", 5.0)
    assert [row["contender"] for row in limit["rows"]] == ["search", "plain"]
    assert len(list((tmp_path / "runs").glob("*/*/study.db"))) == 1


@pytest.mark.slow
def test_halvings_runs_from_end_to_end_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "halvings.json"
    tiny = ("--data", "digits", "--max-macs", "20k", "--seconds", "0.05", "--out", str(out))
    said = benchmark("halvings.py", *tiny, "--only", "plain")
    assert said.count("20,000 MACs, plain") == 2
    assert "what a search begins with" in said
    said = benchmark("halvings.py", *tiny, "--only", "plain", "residual")
    assert "plain" not in said
    rows = json.loads(out.read_text())["digits"]["networks"]
    assert [row["name"] for row in rows] == 2 * ["plain"] + 2 * ["residual"]


@pytest.mark.slow
def test_first_generation_runs_from_end_to_end_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "first_generation.json"
    tiny = ["--data", "digits", "--networks", "2", "--seconds", "0.1", "--long", "0.2"]
    tiny += ["--max-params", "10k", "--out", str(out)]
    benchmark("first_generation.py", *tiny, "--seeds", "1")
    [first] = json.loads(out.read_text(encoding="utf-8"))["digits, 10k"]["seeds"]
    said = benchmark("first_generation.py", *tiny, "--seeds", "2")
    kept, second = json.loads(out.read_text(encoding="utf-8"))["digits, 10k"]["seeds"]
    assert kept == first
    gains = [
        100 * (row["defaults"]["after"] - row["random layers"]["after"]) for row in (kept, second)
    ]
    assert f"long: {sum(gains) / 2:+.2f} ± " in said
    assert [row["made"] for row in kept["defaults"]["networks"]] == ["residual", "plain"]
    assert not any(row["made"] for row in kept["random layers"]["networks"])


def test_acquisition_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "acquisition.json"
    tiny = ["--table", str(SHIPPED), "--objective", "val_acc", "--seeds", "2", "--queries", "9"]
    tiny += ["--choices", "bound", "improvement", "improvement a second"]
    said = benchmark("acquisition.py", *tiny, "--out", str(out))
    figures = json.loads(out.read_text(encoding="utf-8"))
    for choice in ("bound", "improvement a second"):
        runs = figures[choice]["runs"]
        assert [run["seed"] for run in runs] == [0, 1]
        times = [run["spent"] if run["time"] is None else run["time"] for run in runs]
        assert figures[choice]["time_to_best"]["mean"] == pytest.approx(sum(times) / 2, abs=1e-3)
        assert f"{choice:<31} best after " in said
    spent = {choice: figures[choice]["runs"][0]["spent"] for choice in figures if choice[0] in "bi"}
    assert spent["improvement a second"] < spent["improvement"]  # it prefers what is quick


@pytest.mark.slow
def test_hypervolume_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "hypervolume.json"
    tiny = ["--costs", "params", "--seeds", "2", "--queries", "25", "--screened-queries", "25"]
    tiny += ["--strategies", "screened", "nsga2"]
    said = benchmark("hypervolume.py", "--table", str(SHIPPED), *tiny, "--out", str(out))
    figures = json.loads(out.read_text(encoding="utf-8"))
    for name in ("screened", "nsga2"):
        assert name in said
        entry = figures[f"{name}, params"]
        for corner in ("from the median", "from the worst"):
            assert 0 < entry[corner]["25"]["mean"] <= 100
    assert len(figures["nsga2, params"]["runs"]) == 2


def test_store_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "store.json"
    tiny = ["--seconds", "0.02", "--repetitions", "1", "--folder", str(tmp_path)]
    said = benchmark("store.py", *tiny, "--out", str(out))
    result = json.loads(out.read_text(encoding="utf-8"))
    assert {"OFF", "NORMAL", "FULL"} < set(result["per_second"])
    assert all(rate["median"] > 0 for rate in result["per_second"].values())
    assert all(name in said for name in result["per_second"])


@pytest.mark.slow
def test_half_an_hour_is_entered_also_of_a_run_that_is_there(tmp_path: Path) -> None:
    out = tmp_path / "results" / "cifar10.json"
    run = tmp_path / "runs" / "kept"
    search = f"search --data digits --max-params 10k --time 6s --out {run.parent} --name {run.name}"
    assert cli.main(search.split()) == 0
    benchmark("cifar10.py", "--run", str(run), "--out", str(out))
    [entry] = json.loads(out.read_text(encoding="utf-8"))
    result = json.loads((run / "final" / "result.json").read_text(encoding="utf-8"))
    assert (entry["data"], entry["max_params"], entry["seed"]) == ("digits", 10_000, 0)
    assert entry["test_accuracy"] == result["test_accuracy"]
    assert entry["wall_seconds"] >= entry["final_seconds"]


@pytest.mark.slow
def test_time_to_accuracy_stops_as_soon_as_the_accuracy_is_there(tmp_path: Path) -> None:
    out = tmp_path / "results" / "time.json"
    tiny = ["--data", "digits", "--max-params", "10k", "--time", "8s", "--seeds", "1"]
    said = benchmark("time_to_accuracy.py", *tiny, "--whole", "8s", "--out", str(out))
    [row] = json.loads(out.read_text(encoding="utf-8"))["digits, 10k"]["seeds"]
    plain, ours = row["plain evolution"], row["defaults"]
    assert plain["better"][-1] == [plain["seconds"], plain["accuracy"]]
    if ours["accuracy"] >= plain["accuracy"]:
        assert all(accuracy < plain["accuracy"] for _, accuracy in ours["better"][:-1])
    assert f"alike: {100 * ours['accuracy']:.1f} % after {ours['seconds']:.0f} s" in said
    assert 0.3 < row["whole"]["8s"] <= 1
    assert "digits, 10k: a whole run of 8s is " in said
    before = out.read_bytes()
    benchmark("time_to_accuracy.py", *tiny, "--whole", "8s", "--out", str(out))
    assert out.read_bytes() == before


@pytest.mark.slow
def test_front_compares_at_equal_time_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "results" / "front.json"
    tiny = ["--data", "digits", "--time", "20s", "--max-params", "20k", "--networks", "2"]
    tiny += ["--styles", "plain", "--runs", str(tmp_path / "runs"), "--out", str(out)]
    said = benchmark("front.py", *tiny)
    [seed] = json.loads(out.read_text(encoding="utf-8"))["digits, 20s, 20k"]["seeds"]
    found = [one for one in seed["networks"] if one["contender"] == "nanonas"]
    plain = [one for one in seed["networks"] if one["contender"] == "plain"]
    assert 1 <= len(found) == len(plain) <= 2  # one where there was no time for a search
    assert all(
        ours["params"] >= theirs["params"] for ours, theirs in zip(found, plain, strict=True)
    )
    assert sum(one["seconds"] for one in plain) <= 25
    assert said.count("nanonas: ") == len(found)
    before = out.read_bytes()
    benchmark("front.py", *tiny)
    assert out.read_bytes() == before


@pytest.mark.slow
def test_microcontroller_compares_at_equal_time_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "results" / "microcontroller.json"
    tiny = ["--data", "digits", "--time", "10s", "--runs", str(tmp_path / "runs")]
    benchmark("microcontroller.py", *tiny, "--out", str(out))
    entry = json.loads(out.read_text(encoding="utf-8"))["digits, 10s"]
    ours, theirs, alone = entry["seeds"][0]["networks"]
    assert (ours["network"], theirs["network"]) == ("nanonas", "ResNet-8")
    assert (alone["params"], alone["ram"]) == (ours["params"], ours["ram"])
    assert ours["ram"] <= theirs["ram"]
    assert ours["flash"] <= theirs["flash"]
    assert abs(ours["int8_accuracy"] - ours["float_accuracy"]) < 0.05
    assert all(one["board"] in (None, {"images": 100, "equal": True}) for one in (ours, theirs))
    before = out.read_bytes()
    benchmark("microcontroller.py", *tiny, "--out", str(out))
    assert out.read_bytes() == before


@pytest.mark.slow
def test_growth_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "growth.json"
    said = benchmark("growth.py", "--evaluations", "30", "60", "--page", "30", "--out", str(out))
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    names = {(run["strategy"], run["evaluations"]) for run in runs}
    assert names == {(name, size) for name in ("screened", "evolution") for size in (30, 60)}
    for run in runs:
        assert {"open", "resume", "ask, first", "a candidate", "show"} < set(run["steps"])
        assert all(one["seconds"] > 0 < one["mebibytes"] for one in run["steps"].values())
        paged = (run["strategy"], run["evaluations"]) == ("screened", 30)
        assert ("page" in run["steps"]) == paged
    assert "exponents" in said
    benchmark("growth.py", "--evaluations", "--leak", "100", "--out", str(out))
    values = json.loads(out.read_text(encoding="utf-8"))
    assert values["runs"] == runs
    assert set(values["leak"]["worked"]) == set(values["leak"]["resumed"]) == {"1000", "1100"}


@pytest.mark.slow
def test_cluster_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "cluster.json"
    tiny = ["--slots", "4", "--rounds", "5", "--spread", "0.5", "1", "--served", "5"]
    tiny += ["--screened", "3", "--counted", "4", "--folder", str(tmp_path)]
    said = benchmark("cluster.py", *tiny, "--out", str(out))
    found = json.loads(out.read_text(encoding="utf-8"))
    for shares in (found["busy"]["0.5"]["4"], found["busy"]["1.0"]["4"]):
        assert all(0 < share < 1 + 1e-9 for share in shares.values())
        assert shares["aging, lag 32"] == pytest.approx(1)  # as many as there are: none waits
        assert all(name in said for name in shares)
    for strategy, parts in found["milliseconds_an_evaluation"].items():
        assert parts["all"] == pytest.approx(parts["breed"] + parts["commit"] + parts["rest"])
        assert found["candidates_a_second"][strategy] == pytest.approx(1000 / parts["all"])


@pytest.mark.slow
def test_fuzz_runs_from_end_to_end_and_keeps_other_formats(tmp_path: Path) -> None:
    out = tmp_path / "results" / "fuzz.json"
    for name in ("request", "genome"):
        said = benchmark("fuzz.py", "--cases", "5", "--formats", name, "--out", str(out))
        assert "none of the formats failed" in said
    formats = json.loads(out.read_text(encoding="utf-8"))["formats"]
    assert list(formats) == ["request", "genome"]
    assert all(one["read"] + one["refused"] >= 5 for one in formats.values())


@pytest.mark.slow
def test_weights_on_the_disk_are_counted_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "disk.json"
    said = benchmark("disk.py", "--evaluations", "20", "40", "--out", str(out))
    searches = json.loads(out.read_text(encoding="utf-8"))["searches"]
    assert set(searches) <= {line[:28].strip() for line in said.splitlines()}
    for name, found in searches.items():
        assert found["most"]["20"] <= found["most"]["40"] <= 40
        assert name.startswith("nsga2") or found["most"]["40"] <= found["bound"]


@pytest.mark.slow
def test_transfer_runs_from_end_to_end(tmp_path: Path) -> None:
    out, folder = tmp_path / "transfer.json", tmp_path / "trainings"
    tiny = [
        "--data",
        "digits",
        "--few",
        "5",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--source-epochs",
        "1",
        "--search",
        "3",
        "--max-params",
        "5000",
    ]
    said = benchmark("transfer.py", *tiny, "--folder", str(folder), "--out", str(out))
    assert "the first half: " in said
    found = json.loads(out.read_text(encoding="utf-8"))["results"]
    results, searches = found["1 epochs"], found["3 s of search"]
    assert list(results) == ["from scratch", "body at 0.3", "frozen body"]
    assert list(searches) == ["from scratch", "search with an ancestor"]
    assert all(one["candidates"] >= 1 for one in searches.values())
    for one in results.values():
        gains = [
            own - scratch
            for own, scratch in zip(
                one["accuracies"], results["from scratch"]["accuracies"], strict=True
            )
        ]
        assert one["minus_scratch"][0] == pytest.approx(sum(gains) / 2)
