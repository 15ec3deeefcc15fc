"""A search by balanced accuracy, from its flag to its page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from toys.session import InProcess

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.config.files import configure
from nanonas.deploy.card import model_card
from nanonas.deploy.subject import subject_at
from nanonas.deploy.verdicts import Verdict
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.maths.intervals import mean_of_shares
from nanonas.report.charts.figures import all_charts
from nanonas.report.rows.tables import table
from nanonas.report.words.verdict import cards, headline, verdict
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import read_genome
from nanonas.runs.reading import read_record
from nanonas.runs.source import open_source
from nanonas.session import session as session_module
from nanonas.session.compare import Comparison, Contender
from nanonas.session.start import begin, resume
from nanonas.session.verdict import verdict_of
from nanonas.training.final import read_result

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")


def uneven(path: Path) -> str:
    """Stripes of three classes, most of them of the first: noisy, so that few are right."""
    rng = np.random.default_rng(0)

    def images(*counts: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(3), counts)
        x = rng.integers(0, 200, (len(y), 9, 9), dtype=np.uint8)
        for place, label in enumerate(y):
            x[place, 3 * label : 3 * label + 3] += 40
        return x, y

    x, y = images(160, 30, 20)
    x_test, y_test = images(80, 12, 6)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    root = tmp_path_factory.mktemp("metric")
    config = configure(
        data=uneven(root / "stripes.npz"),
        valid_share=0.3,
        metric="balanced_accuracy",
        space="nano",
        channels=4,
        length=3,
        population=3,
        strategy="random",
        epochs=3,
        batch_size=16,
        precision="float32",
        evaluations=5,
        final_epochs=2,
        workers=1,
        device="cpu",
        doctor=False,
        out=root / "outputs",
        name="run",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "WorkerPool", InProcess)
        yield begin(config).folder


def test_the_winner_is_the_best_by_the_metric(run: RunFolder) -> None:
    with RunStore.read(run.store) as store:
        told = store.told()
    best = ranking(told)[0]
    assert best.evaluation.accuracy == max(one.evaluation.accuracy or 0.0 for one in told)
    plain = [one.evaluation.metrics["plain_accuracy"] for one in told]
    assert plain != [one.evaluation.accuracy for one in told]
    known = read_genome(run.best_genome).known
    assert (known["metric"], known["accuracy"]) == ("balanced_accuracy", best.evaluation.accuracy)


def test_the_test_set_is_told_by_both(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_record(run)
    judged, final = Findings(record).judgement, json.loads((run.final / "result.json").read_text())
    assert judged is not None
    assert final["balanced_accuracy"] == pytest.approx(judged.balanced_accuracy)
    assert final["test_accuracy"] == judged.accuracy.value
    assert cli.main(["show", str(run.path)]) == 0
    out = capsys.readouterr().out
    both = f"test accuracy {judged.accuracy.value:.2%} (balanced {judged.balanced_accuracy:.2%})"
    assert both in out
    assert "balanced accuracy" in out


def test_the_page_names_the_metric(run: RunFolder) -> None:
    record = read_record(run)
    findings = Findings(record)
    assert (record.metric, record.measure) == ("balanced_accuracy", "balanced accuracy")
    shown = dict(cards(findings))
    assert {"balanced test accuracy", "test accuracy", "validation balanced accuracy"} <= set(shown)
    low, high = findings.judgement.balanced_interval  # type: ignore[union-attr]
    assert f"is {100 * low:.2f} % to {100 * high:.2f} % with" in headline(findings)[-1]
    # 48, 9 and 6 images validate: 3² / (1/48 + 1/9 + 1/6)
    assert record.noise_images == pytest.approx(9 / (1 / 48 + 1 / 9 + 1 / 6))
    words = " ".join(argument.words for argument in verdict(findings))
    assert "come from 63 images and, balanced, are as noisy as accuracies on 30, so" in words
    charts = all_charts(findings)
    assert charts["fitness-generation"].y.title == "validation balanced accuracy (%)"
    assert charts["curves"].sheet.names[2] == "balanced accuracy"


def test_the_card_gives_both(run: RunFolder) -> None:
    subject, final = subject_at(run.path), json.loads((run.final / "result.json").read_text())
    own = Verdict("nanonas", ("model.safetensors",), 1)  # nothing was compared anew
    _, front, text = model_card(subject, own, [], "no images").split("---\n", 2)
    (result,) = yaml.safe_load(front)["model-index"][0]["results"]
    values = {one["type"]: one["value"] for one in result["metrics"]}
    assert values == {
        "accuracy": pytest.approx(final["test_accuracy"], abs=1e-6),
        "balanced_accuracy": pytest.approx(final["balanced_accuracy"], abs=1e-6),
    }
    share = f"**{100 * final['balanced_accuracy']:.2f} %**, by which it was chosen"
    assert f"with each class counting the same, {share}" in text


def test_a_comparison_is_by_the_metric(run: RunFolder) -> None:
    """The same network, right on as many images, is the better one where it is so in each class."""
    final = read_result(run.final)
    assert final is not None
    source = open_source(run.path)
    comparison = Comparison(source, 1, None, 1, 0, "cpu")
    contender = Contender("found", source.genome.network(), 1.0, 1.0, 1)
    rows = {
        name: asdict(
            comparison._row(
                replace(contender, name=name),
                [replace(final, test_accuracy=plain, balanced_accuracy=balanced)],
            )
        )
        for name, plain, balanced in (("found", 0.7, 0.6), ("baseline", 0.8, 0.5))
    }
    assert (rows["found"]["test_accuracy"], rows["found"]["metric"]) == (0.6, "balanced_accuracy")
    record = replace(read_record(run), comparison=tuple(rows.values()))
    words = " ".join(argument.words for argument in verdict(Findings(record)))
    assert "Against baseline: +10.00 points of balanced accuracy" in words
    assert table(Findings(record), "comparison").names[1] == "balanced test accuracy"
    whole = verdict_of(replace(source, images=None)).whole
    assert whole is not None
    assert (whole.test_accuracy, whole.metric) == (final.balanced_accuracy, "balanced_accuracy")


def test_the_metric_is_the_runs_own(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    text = run.config.read_text()
    try:
        run.config.write_text(text.replace("metric: balanced_accuracy", "metric: accuracy"))
        with pytest.raises(RunError, match="metric"):
            resume(run.path)
    finally:
        run.config.write_text(text)


def test_the_interval_of_a_mean_of_shares_covers_it() -> None:
    rng, counts = np.random.default_rng(0), np.array([200, 12, 6])
    truth = np.array([0.9, 0.7, 0.6])
    drawn = rng.binomial(counts, truth, (2000, 3)) / counts
    ends = [mean_of_shares(shares, counts) for shares in drawn]
    covered = np.mean([low <= truth.mean() <= high for _, low, high in ends])
    assert 0.92 <= covered <= 0.98
    mean, low, high = mean_of_shares(np.ones(3), counts)  # nothing was wrong, which may be luck
    assert (mean, high) == (1.0, 1.0)
    assert 0.8 < low < 0.95
