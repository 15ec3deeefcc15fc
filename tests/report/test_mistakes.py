"""What a trained network gets wrong: in words, as figures, as pictures in the page."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys.page import EVIL, Reader
from toys.report import CLASSES, answers, entries, record, thumbnails, toy_run

from nanonas import cli
from nanonas.analysis.answers import Judgement
from nanonas.analysis.findings import Findings
from nanonas.data.answers import PREDICTIONS, Answers
from nanonas.data.thumbnails import PICTURES, Thumbnails
from nanonas.report import page
from nanonas.report.charts.chart import Cells, Intervals
from nanonas.report.charts.figures import all_charts
from nanonas.report.charts.plotly import figure
from nanonas.report.rows import mistakes as rows
from nanonas.report.words.mistakes import mistakes
from nanonas.runs.reading import read_record

KEYS = ("class-accuracy", "confusion", "reliability", "refusing")
NAMES = ("cat", "dog", EVIL, "owl")


def found(
    given: Answers, names: tuple[str, ...] = NAMES, kept: Thumbnails | None = None
) -> Findings:
    final = {
        "test_accuracy": 0.9,
        "test_images": len(given),
        "epochs": 5,
        "latency_ms": 0.2,
        "seconds": 3.0,
    }
    return Findings(
        record(entries(12), answers=given, thumbnails=kept, class_names=names, final=final)
    )


@cache
def whole(side: int = 8, channels: int = 1) -> tuple[Findings, str]:
    made = answers(names=tuple(f"{EVIL}/{n}.png" for n in range(400)))
    findings = found(made, kept=thumbnails(made, side, channels))
    return findings, page.render(findings)


# --- words ----------------------------------------------------------------------------------------


def answered(*counts: tuple[int, int, int], classes: int = 4) -> Answers:
    """So many answers (class, taken for, number), all of one confidence."""
    labels = np.repeat([c[0] for c in counts], [c[2] for c in counts])
    taken = np.repeat([c[1] for c in counts], [c[2] for c in counts])
    return Answers((3 * np.eye(classes)[taken]).astype(np.float32), labels)


def test_it_says_what_is_confused_with_what_and_how_sure_it_was() -> None:
    made = answered((0, 0, 86), (0, 1, 14), (1, 1, 95), (1, 0, 5), (2, 2, 100), (3, 3, 100))
    first, worst, sure = mistakes(found(made))
    assert first == (
        "It is wrong on 19 of 400 test images (5 %). It confuses cat with dog most: 14 % (14 of "
        "100) of the class cat, and 5 % (5 of 100) the other way round."
    )
    assert worst == (
        "The worst class is cat: right on 86 % (86 of 100) of its images, which is 77.86 % to "
        "91.47 % with 95 % confidence."
    )
    assert sure.startswith("It is sure of its answers to 87.00 % on average, and right on 95.25 %")
    assert "it is less sure than it should be (expected calibration error 8.25 %, 15 bins" in sure


def test_it_says_less_where_there_is_less_to_say() -> None:
    assert mistakes(Findings(record(entries(3)))) == []
    right = mistakes(found(answered((0, 0, 50), (1, 1, 50))))
    assert right[0] == "It is right on all 100 test images."
    once = mistakes(found(answered((0, 0, 9), (0, 1, 1), (1, 1, 9), (1, 2, 1), (2, 2, 90))))
    assert once[0].endswith("It confuses no two classes more than once.")
    assert once[1].endswith("; that may be luck, for one of them is always the worst.")
    assert any("each class counting the same, it is right on 93.33 %" in words for words in once)


def test_a_temperature_is_told_where_it_helps() -> None:
    (sure,) = [words for words in mistakes(found(answers(2000))) if words.startswith("It is sure")]
    assert re.search(r"With its logits divided by 0\.3\d that is \d\.\d\d %, measured on", sure)


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [4, 40])
def test_the_figures_are_drawn_by_both_renderers(classes: int) -> None:
    pytest.importorskip("matplotlib", reason="figures as PNG: pip install 'nanonas[plots]'")
    from plotly.graph_objects import Figure

    from nanonas.report.charts.matplotlib import draw

    names = tuple(f"class {n % 38}" for n in range(classes))  # two names stand twice
    charts = all_charts(found(answers(800, classes, 2.5), names), *KEYS)
    assert tuple(charts) == KEYS
    for chart in charts.values():
        Figure(figure(chart))  # validates every name and value
        draw(chart).savefig(io.BytesIO(), format="png", dpi=30)
        assert len(chart.sheet) > 0
    if classes == 40:  # the worst ones, each in a row of its own
        for key in KEYS[:2]:
            (shown,) = [m for m in charts[key].marks if isinstance(m, Intervals)]
            assert len(set(shown.names)) == len(shown.names) == 30


def test_where_nothing_is_confused_there_is_no_empty_table() -> None:
    perfect = found(answered((0, 0, 9), (1, 1, 10), (2, 2, 10), (3, 3, 10)))
    assert all_charts(perfect, "confusion")["confusion"].words.endswith(
        "Nothing is taken for anything else."
    )
    text = page.render(perfect)
    assert "Nothing is taken for anything else." in text
    assert "(0 rows)" not in text
    assert "what is taken for what (" not in text


def test_the_cells_of_the_confusion_matrix() -> None:
    findings = found(answered((0, 0, 9), (0, 1, 1), (1, 1, 10), (2, 2, 10), (3, 0, 10)))
    chart = all_charts(findings, "confusion")["confusion"]
    (cells,) = chart.marks
    assert isinstance(cells, Cells)
    assert cells.shares.sum(axis=1) == pytest.approx(1)
    assert cells.said[0] == ["90", "10", "", ""]
    assert cells.text[3][0] == "owl, taken for cat: 10 of 10 images"
    right, wrong = figure(chart)["data"]
    assert right["z"][0] == [0.9, None, None, None]
    assert wrong["z"][3] == [1.0, 0.0, 0.0, None]
    assert figure(chart)["layout"]["yaxis"]["autorange"] == "reversed"


def test_a_class_is_marked_where_its_interval_leaves_out_the_mean() -> None:
    findings = found(answered((0, 0, 60), (0, 1, 40), (1, 1, 100), (2, 2, 97), (2, 1, 3)))
    (shown,) = [
        mark
        for mark in all_charts(findings, "class-accuracy")["class-accuracy"].marks
        if isinstance(mark, Intervals)
    ]
    assert list(shown.names) == ["cat (100)", f"{EVIL[:12]}…{EVIL[-5:]} (100)", "dog (100)"]
    assert list(shown.clear) == [True, True, True]
    assert shown.against == pytest.approx(100 * 257 / 300)
    assert list(shown.mean) == [60, 97, 100]


def test_no_figure_without_answers() -> None:
    findings = Findings(record(entries(12)))
    assert not set(KEYS) & set(all_charts(findings))
    for sheet in (rows.by_class, rows.confusions, rows.calibration, rows.refusals, rows.unsure):
        assert len(sheet(findings)) == 0


# --- the page -------------------------------------------------------------------------------------


def test_pictures_are_in_the_page_and_are_those_that_were_kept() -> None:
    findings, text = whole()
    kept, images = findings.record.thumbnails, Reader(text).tags("img")
    assert kept is not None
    assert len(images) == len(kept.errors) + 2 * len(kept.plain)
    pairs = zip(kept.plain, kept.augmented, strict=True)
    expected = [*kept.errors, *(pixels for pair in pairs for pixels in pair)]
    for attributes, pixels in zip(images, expected, strict=True):
        source = str(attributes["src"])
        assert source.startswith("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as opened:
            assert np.array_equal(np.asarray(opened), pixels[:, :, 0])
        assert attributes["alt"]


def test_what_classes_and_files_are_called_is_text() -> None:
    _, text = whole()
    reader = Reader(text)
    assert len(reader.tags("script")) == 5
    assert EVIL in reader.text
    assert not any(
        name.startswith("on") for _, attributes, _ in reader.elements for name in attributes
    )
    alts = [str(attributes["alt"]) for attributes in reader.tags("img")]
    assert any(f"{EVIL}/" in alt and "taken for" in alt for alt in alts)


def test_every_figure_of_the_section_has_its_table() -> None:
    _, text = whole()
    section = text.split('<section id="wrong">')[1].split("</section>")[0]
    for key in KEYS:
        assert f'<figure id="figure-{key}">' in section
    assert section.count("<details ") == len(KEYS) + 1


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_of_full_size_stays_within_its_bounds(channels: int) -> None:
    """Nothing compresses worse."""
    _, text = whole(48, channels)
    sources = [str(attributes["src"]) for attributes in Reader(text).tags("img")]
    assert len(sources) > 20
    assert sum(map(len, sources)) <= 300_000


def test_pictures_of_another_training_are_not_shown() -> None:
    made = answers()
    right = np.flatnonzero(made.logits.argmax(axis=1) == made.labels)[:3]
    kept = thumbnails(made)
    for rows_ in (right, np.array([1, 2, 4000])):
        other = replace(kept, errors=kept.errors[:3], error_rows=rows_)
        text = page.render(found(made, kept=other))
        assert "Wrong, and most sure of it" not in text
        assert "What the network sees" in text


def test_a_run_without_answers_says_so() -> None:
    text = page.render(Findings(record(entries(12))))
    assert "Nothing is known of single images" in " ".join(Reader(text).text.split())
    assert Reader(text).tags("img") == []


# --- a run's folder -------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = toy_run(tmp_path / "toy", entries(12))
    folder.final.mkdir()
    made = answers(classes=CLASSES)
    accuracy = Judgement(made, "abcd").accuracy
    result = '{"test_accuracy": %r, "test_images": 400, "epochs": 5, "latency_ms": 1, "seconds": 9}'
    (folder.final / "result.json").write_text(result % accuracy.value)
    made.write(folder.final / PREDICTIONS)
    thumbnails(made).write(folder.final / PICTURES)
    return folder.path


def test_a_run_is_read_with_its_answers(run: Path) -> None:
    from nanonas.runs.folder import find

    read = read_record(find(run))
    assert read.answers is not None
    assert read.thumbnails is not None
    assert mistakes(Findings(read))[0].startswith("It is wrong on ")
    assert cli.main(["report", str(run), "--no-png"]) == 0
    assert "Wrong, and most sure of it" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["damaged", "of another training", "gone"])
def test_what_cannot_be_used_is_left_out(what: str, run: Path) -> None:
    from nanonas.runs.folder import find

    path = run / "final" / PREDICTIONS
    if what == "gone":
        path.unlink()
        (run / "final" / PICTURES).unlink()
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:-30])
        (run / "final" / PICTURES).write_bytes(b"no archive")
    else:
        answers(classes=CLASSES, clearness=1.0).write(path)
    read = read_record(find(run))
    assert read.final is not None
    assert read.answers is None
    assert (read.thumbnails is None) == (what != "of another training")
    assert cli.main(["report", str(run), "--no-png"]) == 0


def test_a_live_page_reads_a_new_result(run: Path, monkeypatch: Any) -> None:
    from nanonas.runs.folder import find
    from nanonas.serving.watch import Watch

    kept = (run / "final" / "result.json").read_text()
    (run / "final" / "result.json").unlink()
    watch = Watch(find(run))
    assert watch.look().record.answers is None
    (run / "final" / "result.json").write_text(kept)
    seen = watch.look().record
    assert seen.final is not None
    assert seen.answers is not None
