"""The dashboard without a browser: what it reads, whom it answers, what it leaves in the run's
folder.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys.serving import Run, begun

pytest.importorskip("dash", reason="the dashboard needs dash: pip install 'nanonas[dashboard]'")

from nanonas import cli
from nanonas.analysis.lineage import ancestors, step
from nanonas.analysis.record import Record
from nanonas.core import State
from nanonas.engine.requests import Request, RequestFiles
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, NanonasError, RunError
from nanonas.report.charts import figures
from nanonas.runs.reading import read_record
from nanonas.serving import board
from nanonas.serving import watch as dashboard
from nanonas.serving.board import make_app
from nanonas.serving.guard import Guard
from nanonas.serving.watch import Live, make_server

HOST = "127.0.0.1:8050"
SCREENS = [(False, False), (True, False), (False, True)]
OWN = {"Host": HOST, "Origin": f"http://{HOST}"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begun(tmp_path / "run")


@pytest.fixture
def live(run: Run) -> Live:
    return Live(run.folder)


@pytest.fixture
def guard() -> Guard:
    return Guard("127.0.0.1", 8050)


@pytest.fixture
def client(live: Live, guard: Guard) -> Iterator[Any]:
    with make_app(live.look, live.ask, guard).server.test_client() as client:
        yield client


def waiting(run: Run) -> list[str]:
    return [str(request) for _, request in RequestFiles(run.folder.requests).waiting()]


# --- what it reads --------------------------------------------------------------------------------


def test_what_it_has_read_bit_by_bit_is_what_the_store_holds(run: Run, live: Live) -> None:
    versions = [live.look().version]
    assert live.look().version == versions[0]
    for evaluations in (21, 22, 30, 31):
        run.go(evaluations)
        versions.append(live.look().version)
        own, whole = live.look().record, read_record(run.folder)
        assert own.entries == whole.entries
        assert own.events == whole.events
        assert own.seconds == whole.seconds
    assert len(set(versions)) == len(versions)


def test_it_reads_only_what_is_new(run: Run, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = RunStore.evaluations
    monkeypatch.setattr(
        RunStore, "evaluations", lambda store, since=0: asked.append(since) or plain(store, since)
    )
    for _ in range(3):
        live.look()
    assert asked == []
    run.go(21)
    asked.clear()
    live.look()
    assert asked == [20]


def test_a_run_that_takes_the_place_of_another(run: Run, live: Live) -> None:
    for path in run.path.iterdir():
        path.unlink()
    assert (
        len(live.look().record.entries) == 20
    )  # for a moment there is nothing: what was there stays
    begun(run.path, 4, seed=5)
    assert [entry.number for entry in live.look().record.entries] == [0, 1, 2, 3]
    assert live.look().record.search["seed"] == 5


def test_what_goes_on(run: Run, live: Live) -> None:
    view = live.look()
    assert (view.status, view.paused, view.banned) == ("stopped", False, ())
    assert (
        view.said
        == "Nobody searches: 20 candidates are evaluated. What you ask for waits until the run is resumed."
    )
    live.ask("pause")
    assert [(one.words, one.state) for one in live.look().asked] == [("pause", "waits")]
    live.ask("ban", "zero")
    live.ask("ban", "nothing")
    search = run.start(25)
    until = time.monotonic() + 10
    while live.look().status != "paused" or waiting(run):
        assert time.monotonic() < until
        time.sleep(0.05)
    view = live.look()
    assert view.said == "Paused: nothing is begun until you resume."
    assert view.banned == ("zero",)
    assert [one.state for one in view.asked] == ["refused", "taken", "taken"]
    assert view.asked[0].words.startswith(
        "ban nothing: the space 'nano' has no operation 'nothing'; it has conv3x3"
    )
    assert view.asked[1].words == "zero is banned from candidate #20 on"
    live.ask("resume")
    search.join(10)
    view = live.look()
    assert (view.status, view.paused) == ("stopped", False)
    assert len(view.record.entries) == 25


def test_a_planted_network_is_not_called_random(run: Run, live: Live) -> None:
    live.ask("plant", "0, 0, 1, 1, 0, 4")
    run.go(22)
    record = live.look().record
    assert step(record, 20).kind == "planted by a person"
    assert step(record, 0).kind == "random"


def test_a_dashboard_writes_nothing_but_requests(run: Run, client: Any, guard: Guard) -> None:
    before = {
        path.name: path.read_bytes() for path in run.path.iterdir() if "study" not in path.name
    }
    with RunStore.read(run.folder.store) as store:
        events = len(store.events())
    client.get("/", headers=OWN)
    press(client, guard, "pause")
    after = {
        path.name: path.read_bytes()
        for path in run.path.iterdir()
        if path.is_file() and "study" not in path.name
    }
    assert after == before
    assert [path.name for path in run.path.iterdir() if path.is_dir()] == ["requests"]
    with RunStore.read(run.folder.store) as store:
        assert len(store.events()) == events


# --- whom it answers ------------------------------------------------------------------------------


def payload(button: str, **state: object) -> dict[str, Any]:
    """What the page posts when a button is pressed."""
    known = {
        "pause.children": "Pause",
        "operation.value": "zero",
        "genome.value": "[0, 1, 2, 3]",
        **state,
    }
    names = ["pause", "ban", "plant"]
    inputs: list[Any] = [
        {"id": n, "property": "n_clicks", "value": 1 if n == button else None} for n in names
    ]
    return {
        "output": "..answer.children...operation.value..",
        "outputs": [
            {"id": "answer", "property": "children"},
            {"id": "operation", "property": "value"},
        ],
        "inputs": [*inputs, []],
        "changedPropIds": [f"{button}.n_clicks"],
        "state": [
            {"id": key.split(".")[0], "property": key.split(".")[1], "value": value}
            for key, value in known.items()
        ],
    }


def press(
    client: Any, guard: Guard, button: str, headers: dict[str, str] | None = None, **state: object
) -> Any:
    own = {**OWN, "X-CSRFToken": guard.token}
    return client.post(
        "/_dash-update-component",
        json=payload(button, **state),
        headers=own if headers is None else headers,
    )


def test_its_own_page_is_answered(client: Any, guard: Guard, run: Run) -> None:
    page = client.get("/", headers={"Host": HOST})
    assert page.status_code == 200
    assert guard.token in page.headers["Set-Cookie"]
    assert "SameSite=Strict" in page.headers["Set-Cookie"]
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    for button in ("pause", "ban", "plant"):
        pressed = press(client, guard, button)
        assert pressed.status_code == 200, pressed.text
        assert "asked: " in pressed.text
    assert waiting(run) == ["pause", "ban zero", "plant [0, 1, 2, 3]"]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Host": "evil.example"}, "does not answer to the host 'evil.example'"),
        (
            {"Host": "evil.example:8050", "Origin": "http://evil.example:8050"},
            "does not answer to the host",
        ),
        ({"Host": ""}, "does not answer to the host"),
        ({"Host": "127.0.0.1.evil.example"}, "does not answer to the host"),
        ({"Host": "192.168.0.7:8050"}, "does not answer to the host"),
        ({"Origin": "http://evil.example"}, "another site's requests are refused"),
        ({"Origin": "null"}, "another site's requests are refused"),
        ({"Origin": "http://127.0.0.1:9999"}, "another site's requests are refused"),
        ({"Sec-Fetch-Site": "cross-site"}, "another site's requests are refused"),
        ({"Sec-Fetch-Site": "same-site"}, "another site's requests are refused"),
        ({"X-CSRFToken": "guessed"}, "has not the token"),
        ({"X-CSRFToken": ""}, "has not the token"),
        ({"X-CSRFToken": "ü"}, "has not the token"),
    ],
)
def test_others_are_refused(
    client: Any, guard: Guard, run: Run, headers: dict[str, str], reason: str
) -> None:
    pressed = press(client, guard, "pause", {**OWN, "X-CSRFToken": guard.token, **headers})
    assert pressed.status_code == 403
    assert reason in pressed.text
    assert guard.token not in pressed.text
    assert waiting(run) == []
    if "Host" in headers:
        for path in ("/", "/_dash-layout"):
            assert client.get(path, headers=headers).status_code == 403
    elif "Origin" in headers:
        assert "Set-Cookie" not in pressed.headers


def test_a_page_from_before_a_restart_gets_the_new_token(client: Any, guard: Guard) -> None:
    refused = press(client, guard, "pause", {**OWN, "X-CSRFToken": "of the process before"})
    assert refused.status_code == 403
    assert guard.token in refused.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "path",
    [
        "/../study.db",
        "/assets/../../study.db",
        "/assets/%2e%2e/%2e%2e/study.db",
        "/assets/..%2f..%2fconfig.yaml",
        "/assets//etc/passwd",
        "/_dash-component-suites/dash/../../../../../../etc/passwd",
        "/_dash-component-suites/dash/%2e%2e/%2e%2e/dash/__init__.py",
        "/_dash-component-suites/nanonas/config.py",
        "/_dash-component-suites/os/../../../etc/passwd",
        "/study.db",
        "/requests/",
        "/config.yaml",
        "/_mcp",
    ],
)
def test_no_file_is_served(client: Any, path: str) -> None:
    """A path that is none of its own gets the page itself, or an error."""
    found = client.get(path, headers=OWN)
    assert "root:" not in found.text
    assert "SQLite format" not in found.text
    assert "population" not in found.text
    assert found.status_code >= 400 or "<!DOCTYPE html>" in found.text


def test_addresses_that_others_can_reach() -> None:
    everybody = Guard("0.0.0.0", 80)
    assert not everybody.local
    assert everybody.refusal("GET", {"Host": "192.168.0.7:80"}) is None
    assert everybody.refusal("GET", {"Host": "[fe80::1]:80"}) is None
    assert everybody.refusal("GET", {"Host": "evil.example:80"})
    assert Guard("::1", 80).local
    assert Guard("::1", 80).refusal("GET", {"Host": "[::1]:80"}) is None
    assert (
        Guard("127.0.0.1", 80).refusal("GET", {"Host": "localhost:9000"}) is None
    )  # through a tunnel
    assert Guard("127.0.0.1", 80).token != Guard("127.0.0.1", 80).token


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("button", "state", "said"),
    [
        ("ban", {"operation.value": None}, "choose an operation first"),
        (
            "plant",
            {"genome.value": "../../secret.json"},
            "refused: a genome must be a list of whole numbers",
        ),
        ("plant", {"genome.value": None}, "refused: a genome must be a list of whole numbers"),
    ],
)
def test_what_cannot_be_asked(
    client: Any, guard: Guard, run: Run, button: str, state: dict[str, object], said: str
) -> None:
    assert said in press(client, guard, button, **state).text
    assert waiting(run) == []


def test_a_paused_search_is_resumed_by_the_same_button(client: Any, guard: Guard, run: Run) -> None:
    press(client, guard, "pause", **{"pause.children": "Resume"})
    assert waiting(run) == ["resume"]


def updated(
    client: Any, guard: Guard, output: str, outputs: list[Any], inputs: list[Any], state: list[Any]
) -> Any:
    body = {
        "output": output,
        "outputs": outputs,
        "inputs": inputs,
        "changedPropIds": [],
        "state": state,
    }
    answer = client.post(
        "/_dash-update-component", json=body, headers={**OWN, "X-CSRFToken": guard.token}
    )
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)["response"]


def test_a_node_shows_its_difference_to_its_parent(client: Any, guard: Guard, live: Live) -> None:
    child = next(e for e in live.look().record.entries if e.candidate.proposal.parents)
    inputs = [
        {"id": "number", "property": "data", "value": child.number},
        {"id": "version", "property": "data", "value": ""},
    ]
    outputs = [{"id": "node", "property": "children"}, {"id": "shown", "property": "data"}]
    state = [{"id": "shown", "property": "data", "value": None}]
    shown = json.dumps(
        updated(client, guard, "..node.children...shown.data..", outputs, inputs, state)
    )
    assert f'"#{child.number}"' in shown
    assert f'"#{child.candidate.proposal.parents[0]}"' in shown
    assert '"id": "difference"' in shown
    assert "data:image/svg+xml;base64," in shown
    assert ", ".join(map(str, child.genome)) in shown


def test_reasons_are_shown_as_text(client: Any, guard: Guard) -> None:
    outputs = [{"id": f"{name}-table", "property": "children"} for name in ("best", "lost")]
    inputs = [{"id": "version", "property": "data", "value": ""}]
    output = "..best-table.children...lost-table.children.."
    shown = json.dumps(updated(client, guard, output, outputs, inputs, []))
    assert "out of luck <b>here</b>" in shown  # a value; React makes no markup of it
    assert State.PRUNED.value in shown


# --- much to draw ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A run of 2,000."""
    return (
        Live(begun(tmp_path_factory.mktemp("large") / "run", 2000, length=12).folder).look().record
    )


def test_of_many_dots_some_are_drawn(large: Record) -> None:
    plain, plot = (figures.fitness_by_generation(large).plot for _ in range(2))
    before, after = plain.data[0], board.thinned(plot).data[0]
    assert len(before.x) > 1500 == len(after.x) == len(after.y) == len(after.text)
    assert [after.text[0], after.text[-1]] == [before.text[0], before.text[-1]]
    assert list(after.y) == [before.y[before.text.index(text)] for text in after.text]
    assert list(plot.data[-1].y) == list(plain.data[-1].y)  # lines are as they were


def test_of_a_large_tree_the_last_are_drawn_with_the_way_to_the_winner(large: Record) -> None:
    way = ancestors(large, large.winner.number)  # type: ignore[union-attr]
    whole = figures.evolution_tree(large)
    found = board.recent(figures.evolution_tree(large), way)
    first, _, winners, nodes = found.plot.data
    assert list(nodes.customdata) == sorted({*way, *range(500, 2000)})
    places = list(nodes.customdata)
    for name in ("x", "y", "text"):
        assert list(nodes[name]) == [whole.plot.data[3][name][place] for place in places]
    for name in ("symbol", "size", "color"):
        assert list(nodes.marker[name]) == [
            whole.plot.data[3].marker[name][place] for place in places
        ]
    assert first.x[1::3].min() >= 500
    assert len(first.x) % 3 == 0
    assert len(winners.x) == len(whole.plot.data[2].x)
    assert found.words.startswith(
        "Drawn are the last 1,500 of 2,000, and those on the way to the winner"
    )
    assert len(found.plot.to_json()) < 0.9 * len(whole.plot.to_json())


def test_a_small_tree_is_drawn_whole(live: Live) -> None:
    found = figures.evolution_tree(live.look().record)
    assert board.recent(found, ()) is found


def test_colours_and_widths(live: Live) -> None:
    shown = [
        board.on_screen(figures.evolution_tree(live.look().record).plot, dark, narrow)
        for dark, narrow in SCREENS
    ]
    assert [one["layout"]["font"]["color"] for one in shown] == ["#1a1a1a", "#ececec", "#1a1a1a"]
    assert ["orientation" in one["data"][-1]["marker"]["colorbar"] for one in shown] == [
        False,
        False,
        True,
    ]
    assert shown[0]["data"][-1]["customdata"] == list(range(20))


# --- the command ----------------------------------------------------------------------------------


def test_a_port_that_is_taken(live: Live) -> None:
    server = make_server(live, "127.0.0.1", 0)
    try:
        port = server.server_address[1]
        with pytest.raises(
            ConfigError,
            match=f"nobody can listen at 127.0.0.1, port {port}: .*; choose another --port",
        ):
            make_server(live, "127.0.0.1", port)
    finally:
        server.server_close()


def test_without_dash_it_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "dash":
            raise ImportError(name)
        return plain(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["dashboard", str(run.path)]) == 2
    assert (
        capsys.readouterr().err
        == "nanonas: nanonas dashboard needs dash: pip install 'nanonas[dashboard]'\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["--port", "70000"], "--port must lie in [0, 65535], but is 70000"),
    ],
)
def test_what_cannot_be_shown(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dashboard", *words]) == 2
    assert said in capsys.readouterr().err


def test_requests_have_a_name_that_sorts_by_time(run: Run) -> None:
    files = RequestFiles(run.folder.requests)
    names = [files.put(Request("pause")) for _ in range(20)]
    assert names == sorted(names)
    assert os.listdir(files.folder)


def test_a_folder_that_cannot_be_written_is_one_sentence(live: Live, run: Run) -> None:
    run.folder.requests.write_text("in the way")
    with pytest.raises(RunError, match="cannot be made"):
        live.ask("pause")
    with pytest.raises(NanonasError):
        live.ask("stop")


def test_the_engine_needs_no_dash() -> None:
    assert "dash" not in vars(sys.modules["nanonas.serving.watch"])
