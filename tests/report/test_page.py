"""The page: it needs nothing from anywhere, shows what the run holds, and runs nothing that the run
holds.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from toys.page import EVIL, Reader
from toys.report import entries, record

from nanonas.analysis import findings as findings_module
from nanonas.analysis.equal_time import EqualTime, Trained
from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.engine.storage.events import Event
from nanonas.report import page
from nanonas.report.charts import architecture


@cache
def whole(**more: Any) -> str:
    rows = (
        {"network": "found", "test_accuracy": 0.9, "spread": 0.01, "params": 10, "macs": 20},
        {"network": "random 1", "test_accuracy": 0.8, "spread": None, "params": 10, "macs": 20},
    )
    final = {
        "test_accuracy": 0.91,
        "test_images": 300,
        "epochs": 5,
        "latency_ms": 0.2,
        "seconds": 3.0,
    }
    run = record(
        entries(90),
        config={
            "search": {
                "data": f"/home/{EVIL}",
                "strategy": "screened",
                "screens": "aging",
                "seed": 3,
                "halving": 3,
            }
        },
        events=(
            Event(0.0, "images", {"fingerprint": "f1", "valid": 100}),
            Event(1.0, "test set opened", {"for": EVIL}),
        ),
        final=final,
        comparison=rows,
        equal_time=EqualTime(
            60.0,
            "at most 100 parameters",
            ("plain", EVIL),
            [
                Trained(name, seed, accuracy - seed / 10, 90, 1000, 9.0, 59.0)
                for seed in (0, 1)
                for name, accuracy in (("search", 0.9), ("plain", 0.85), (EVIL, 0.8))
            ],
            (f"a note on {EVIL}",),
        ),
        seconds=180.0,
        command="nanonas search --data digits",
    )
    return page.render(Findings(replace(run, name=f"run {EVIL}")), f"search:\n  data: {EVIL}\n")


@cache
def reader() -> Reader:
    return Reader(whole())


def embedded(name: str, text: str | None = None) -> Mapping[str, Any]:
    found = re.search(
        f'<script type="application/json" id="{name}">(.*?)</script>', text or whole(), re.DOTALL
    )
    assert found is not None
    values: Mapping[str, Any] = json.loads(found.group(1))
    return values


def test_nothing_is_loaded_from_anywhere() -> None:
    for _, attributes, _ in reader().elements:
        for name in ("src", "srcset", "data", "action", "poster"):
            assert name not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert reader().tags("link") == reader().tags("iframe") == reader().tags("img") == []
    policy = next(
        m["content"]
        for m in reader().tags("meta")
        if m.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    styles = " ".join(data for tag, data in reader().data if tag == "style")
    assert "url(" not in styles
    assert "@import" not in styles


def test_what_a_run_holds_is_text() -> None:
    assert len(reader().tags("script")) == 5  # data, figures, candidates, plotly, ours
    assert EVIL in reader().text
    assert not any(
        name.startswith("on") for _, attributes, _ in reader().elements for name in attributes
    )


def test_what_came_out_at_equal_time_has_its_paragraph_and_its_table() -> None:
    said = " ".join(reader().text.split())
    place = said.index("At equal time")
    assert said.index("The search earned 5.00 ± 0.00 points at equal size", place) > place
    assert "chosen by its mean over these very seeds" in said
    assert f"A note on {' '.join(EVIL.split())}." in said
    assert said.index("at equal time (3 rows)", place) > place


def test_every_figure_has_its_table() -> None:
    plots = [
        attributes["data-plot"] for attributes in reader().tags("div") if "data-plot" in attributes
    ]
    assert plots
    assert set(plots) == set(embedded("plots"))
    figures = whole().split('<figure id="figure-')[1:]
    assert len(figures) == len(plots)
    for figure in figures:
        inside = figure.split("</figure>")[0]
        assert inside.count("<details ") == inside.count("<table>") == 1
        assert inside.count("<tr>") > 1


def test_every_section_is_there_and_found_from_the_top() -> None:
    sections = [str(attributes["id"]) for attributes in reader().tags("section")]
    links = [str(attributes["href"]).removeprefix("#") for attributes in reader().tags("a")]
    assert set(links) <= set(sections)
    assert {
        "found",
        "believe",
        "wrong",
        "best",
        "fitness",
        "fronts",
        "tree",
        "mattered",
        "tools",
        "lost",
        "time",
        "repeat",
    } == set(sections)
    for words in (
        "91.00 %",
        "nanonas search --data digits",
        "RuntimeError",
        "f1",
        "Okabe",
        "random 1",
    ):
        assert words in reader().text


def test_the_tree_has_every_candidate() -> None:
    nodes = embedded("plots")["tree"]["data"][-1]
    assert len(nodes["text"]) == 90
    assert nodes["marker"]["symbol"].count("star") == 1


def unpacked(text: str) -> list[str]:
    """What a click on each candidate shows, read as the page's script reads it."""
    shown = []
    for chunk in embedded("candidates", text)["chunks"]:
        values = json.loads(gzip.decompress(base64.b64decode(chunk)))
        shown += ["\n".join(values["lines"][n] for n in lines) for lines in values["candidates"]]
    return shown


def test_a_click_shows_what_the_drawing_would() -> None:
    run = record(entries(40))
    text = page.render(Findings(run))
    findings, shown = Findings(run), unpacked(text)
    assert len(shown) == 40
    for number, html in enumerate(shown):
        network = run.network(number)
        drawn = "".join(architecture.parts(network, findings.step(number).marks))
        assert drawn in html.replace("\n", "")
        assert f"<h3>#{number}</h3>" in html
        for parent in run.entries[number].candidate.proposal.parents:
            link = '<button type="button" data-open="{}">#{}</button>'
            assert link.format(parent, parent) in html
            assert link.format(number, number) in shown[parent]
        Reader(html)  # it asserts that what is opened is closed
    heir = next(e for e in run.entries if e.candidate.proposal.inherits)
    assert "inherited 75% of its parameters (12 tensors)" in shown[heir.number]
    assert "edges in the drawing: solid green is new" in shown[heir.number]


def test_of_a_long_run_some_are_shown_and_the_page_says_so(monkeypatch: Any) -> None:
    for module in (findings_module, page):
        monkeypatch.setattr(module, "MOST", 60)
    monkeypatch.setattr(findings_module, "BEST", 5)
    run = record(entries(90))
    found = Findings(run)
    text = page.render(found)
    numbers, shown = embedded("candidates", text)["numbers"], unpacked(text)
    assert 60 < len(numbers) == len(shown) < 90
    assert {*found.sample, *found.tree.way, *(one.number for one in run.distinct[:5])} == {*numbers}
    assert all(f"<h3>#{number}</h3>" in html for number, html in zip(numbers, shown, strict=True))
    assert run.winner is not None
    assert shown[numbers.index(run.winner.number)] in text
    plots, words = embedded("plots", text), Reader(text).text
    assert plots["tree"]["data"][-1]["customdata"] == numbers
    assert len(plots["fitness-generation"]["data"][0]["text"]) == 60
    assert f"Drawn are {len(numbers)} of 90: evenly chosen ones, the best, and those on" in words
    assert "dots, 60 evenly chosen ones are drawn." in words
    assert "every candidate (90 rows, the last 60 shown)" in words
    assert "Of 90 candidates, 60 evenly chosen ones were looked at." in words


def test_of_a_run_of_ten_thousand_nothing_is_left_out() -> None:
    assert findings_module.evenly(10_000, findings_module.MOST) == list(range(10_000))
    chosen = findings_module.evenly(100_000, findings_module.MOST)
    assert (len(set(chosen)), chosen[0], chosen[-1]) == (10_000, 0, 99_999)
    assert embedded("candidates")["numbers"] is None


def test_the_winner_is_there_without_a_click_or_a_script() -> None:
    run = record(entries(40))
    text = page.render(Findings(run))
    assert run.winner is not None
    assert unpacked(text)[run.winner.number] in text


def test_candidates_are_packed_in_chunks_and_every_line_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(page, "CHUNK", 3)
    panels = ["<p>a</p>\n<p>b</p>", "<p>b</p>\n<p>ü</p>", "", "<p>b</p>"]
    chunks = [json.loads(gzip.decompress(base64.b64decode(c))) for c in page.packed(panels)]
    assert chunks == [
        {"lines": ["<p>a</p>", "<p>b</p>", "<p>ü</p>"], "candidates": [[0, 1], [1, 2], []]},
        {"lines": ["<p>b</p>"], "candidates": [[0]]},
    ]
    assert page.packed([]) == []
    assert page.packed(panels) == page.packed(panels)


def test_nothing_but_the_page_s_own_scripts_may_run() -> None:
    (policy,) = [m["content"] for m in reader().tags("meta") if "http-equiv" in m]
    assert policy is not None
    (allowed,) = [rule for rule in policy.split("; ") if rule.startswith("script-src ")]
    assert "unsafe" not in allowed
    scripts = re.findall("<script>(.*?)</script>", whole(), re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert allowed == "script-src " + " ".join(f"'sha256-{one}'" for one in hashes)


def test_what_a_candidate_holds_is_text() -> None:
    run = record(entries(60))
    number = next(e.number for e in run.entries if e.evaluation and e.evaluation.reason)
    entry = run.entries[number]
    assert entry.evaluation is not None
    bad = replace(entry, evaluation=replace(entry.evaluation, reason=EVIL))
    run = replace(run, entries=(*run.entries[:number], bad, *run.entries[number + 1 :]))
    shown = page.candidate(Findings(run), number)
    assert shown == unpacked(page.render(Findings(run)))[number]
    assert EVIL in Reader(shown).text
    assert not Reader(shown).tags("script")
    assert not Reader(shown).tags("img")


def test_it_is_small() -> None:
    own = len(whole()) - len(
        next(data for tag, data in reader().data if tag == "script" and "plotly.js" in data[:400])
    )
    assert own / 90 < 3000  # bytes a candidate, the page's own few included


def test_where_nobody_was_bred_there_is_no_tree() -> None:
    found = Reader(page.render(Findings(record(entries(10)))))
    assert "none was bred from another" in found.text


@pytest.mark.parametrize("number", [0, 1, 3, 12])
def test_a_run_that_has_hardly_begun(number: int) -> None:
    found = Reader(page.render(Findings(record(entries(number)))))
    assert "candidates" in found.text


def test_nobody_is_evaluated_yet() -> None:
    run: Record = record([replace(one, evaluation=None) for one in entries(4)])
    assert "No network was judged yet" in Reader(page.render(Findings(run))).text
