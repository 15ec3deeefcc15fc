"""The dashboard without a browser: what it reads, whom it answers, what it leaves in the run's
folder.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs
from toys.serving import Run, begun, serving, wait_for

pytest.importorskip("starlette", reason="needs starlette: pip install 'nanonas[serve]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'nanonas[serve]'")

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.analysis.lineage import ancestors, step
from nanonas.analysis.record import Record
from nanonas.core import Evaluation, State
from nanonas.engine.requests import Request, RequestFiles
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, NanonasError, RunError
from nanonas.report import page
from nanonas.report.charts.chart import thinned
from nanonas.report.charts.evolution import evolution_tree
from nanonas.report.charts.figures import all_charts
from nanonas.report.charts.plotly import figure
from nanonas.runs.reading import read_record
from nanonas.serving.live import LivePage
from nanonas.serving.server import Server, make_server
from nanonas.serving.view import Goal
from nanonas.serving.watch import Watch


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begun(tmp_path / "run")


@pytest.fixture
def watch(run: Run) -> Watch:
    return Watch(run.folder)


@pytest.fixture
def live(watch: Watch) -> LivePage:
    return LivePage(watch.look, idle=0)


@pytest.fixture
def client(watch: Watch) -> Iterator[Client]:
    with serving(make_server(watch, "127.0.0.1", 0)) as server:
        yield Client(server)


@dataclass
class Answer:
    """What a server has answered."""

    status: int
    headers: Mapping[str, str]
    text: str


class Client:
    """Asks a dashboard as its own page does, over a socket."""

    def __init__(self, server: Server) -> None:
        self.port = server.port
        page = self.get("/")
        self.token = page.headers["Set-Cookie"].split(";")[0].split("=", 1)[1]

    @property
    def own(self) -> dict[str, str]:
        """The headers that a browser sends for the page."""
        host = f"127.0.0.1:{self.port}"
        return {"Host": host, "Origin": f"http://{host}"}

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, {**self.own, **(headers or {})})

    def press(self, what: str, word: str | None = None, **headers: str) -> Answer:
        """What a button or a form posts. `headers`: other ones than the page's."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**self.own, "X-CSRFToken": self.token, **given}
        body = json.dumps({"what": what, "word": word}).encode()
        return self.ask("POST", "/requests", sent, body)

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        with closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value.encode())
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read().decode())


def waiting(run: Run) -> list[str]:
    return [str(request) for _, request in RequestFiles(run.folder.requests).waiting()]


# --- what it reads --------------------------------------------------------------------------------


def test_what_it_has_read_bit_by_bit_is_what_the_store_holds(run: Run, watch: Watch) -> None:
    versions = [watch.look().version]
    assert watch.look().version == versions[0]
    for evaluations in (21, 22, 30, 31):
        run.go(evaluations)
        versions.append(watch.look().version)
        own, whole = watch.look().record, read_record(run.folder)
        assert own.entries == whole.entries
        assert own.events == whole.events
        assert own.seconds == whole.seconds
    assert len(set(versions)) == len(versions)


def test_it_reads_only_what_is_new(run: Run, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = RunStore.evaluations

    def evaluations(store: RunStore, since: int = 0) -> list[Evaluation]:
        asked.append(since)
        return plain(store, since)

    monkeypatch.setattr(RunStore, "evaluations", evaluations)
    for _ in range(3):
        watch.look()
    assert asked == []
    run.go(21)
    asked.clear()
    watch.look()
    assert asked == [20]


def test_a_run_that_is_long_to_read_is_looked_at_rarely(
    run: Run, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonas.serving.watch._LONG", 0.0)
    monkeypatch.setattr("nanonas.serving.watch._IDLE", 1e9)
    seen = []
    for evaluations in (21, 22):
        run.go(evaluations)
        seen.append(len(watch.look().record.trained))
    assert seen == [21, 21]
    monkeypatch.setattr(watch, "_rests", 0.0)
    assert len(watch.look().record.trained) == 22


def test_a_run_that_takes_the_place_of_another(run: Run, watch: Watch) -> None:
    for path in run.path.iterdir():
        path.unlink()
    assert (
        len(watch.look().record.entries) == 20
    )  # for a moment there is nothing: what was there stays
    begun(run.path, 4, seed=5)
    assert [entry.number for entry in watch.look().record.entries] == [0, 1, 2, 3]
    assert watch.look().record.search["seed"] == 5


def test_what_goes_on(run: Run, watch: Watch) -> None:
    view = watch.look()
    assert (view.status, view.paused, view.banned) == ("stopped", False, ())
    assert view.said == (
        "No search is running: 20 candidates are evaluated. "
        "What you ask for waits until the run is resumed."
    )
    watch.ask("pause")
    assert [(one.words, one.state) for one in watch.look().asked] == [("pause", "waits")]
    watch.ask("ban", "zero")
    watch.ask("ban", "nothing")
    search = run.start(25)
    until = time.monotonic() + 10
    while watch.look().status != "paused" or waiting(run):
        assert time.monotonic() < until
        time.sleep(0.05)
    view = watch.look()
    assert view.said == "Paused: nothing is begun until you resume."
    assert view.banned == ("zero",)
    assert [one.state for one in view.asked] == ["refused", "taken", "taken"]
    assert view.asked[0].words.startswith(
        "ban nothing: the space 'nano' has no operation 'nothing'; it has conv3x3"
    )
    assert view.asked[1].words == "zero is banned from candidate #20 on"
    watch.ask("resume")
    search.join(10)
    view = watch.look()
    assert (view.status, view.paused) == ("stopped", False)
    assert len(view.record.entries) == 25


def test_a_planted_network_is_not_called_random(run: Run, watch: Watch) -> None:
    watch.ask("plant", "0, 0, 1, 1, 0, 4")
    run.go(22)
    record = watch.look().record
    assert step(record, 20).kind == "planted by a person"
    assert step(record, 0).kind == "random"


def test_a_dashboard_writes_nothing_but_requests(run: Run, client: Client) -> None:
    before = {
        path.name: path.read_bytes() for path in run.path.iterdir() if "study" not in path.name
    }
    with RunStore.read(run.folder.store) as store:
        events = len(store.events())
    client.get("/")
    client.get("/news")
    client.get("/candidates/3")
    client.press("pause")
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


def test_its_own_page_is_answered(client: Client, run: Run) -> None:
    page = client.get("/")
    assert page.status == 200
    assert client.token in page.headers["Set-Cookie"]
    assert client.token not in page.text
    assert "SameSite=Strict" in page.headers["Set-Cookie"]
    assert page.headers["Cache-Control"] == "no-store"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "http" not in policy
    own = page.text.replace(get_plotlyjs(), "").replace("http://www.w3.org", "")
    assert "http://" not in own
    assert "https://" not in own
    for what, word in (("pause", None), ("ban", "zero"), ("plant", "[0, 1, 2, 3]")):
        pressed = client.press(what, word)
        assert pressed.status == 200, pressed.text
        assert pressed.text.startswith("asked: ")
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
def test_others_are_refused(client: Client, run: Run, headers: dict[str, str], reason: str) -> None:
    pressed = client.press("pause", **headers)
    assert pressed.status == 403
    assert reason in pressed.text
    assert client.token not in pressed.text
    assert waiting(run) == []
    if "Host" in headers or "Origin" in headers:
        assert "Set-Cookie" not in pressed.headers
    if "Host" in headers:
        for path in ("/", "/news", "/candidates/0"):
            refused = client.get(path, headers)
            assert refused.status == 403
            assert "Set-Cookie" not in refused.headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_need_the_token_too(client: Client, method: str) -> None:
    foreign = {**client.own, "Origin": "http://evil.example"}
    assert client.ask(method, "/requests", foreign).status == 403
    assert client.ask(method, "/requests", client.own).status == 403
    known = {**client.own, "X-CSRFToken": client.token}
    assert client.ask(method, "/requests", known).status == 405


def test_a_page_from_before_a_restart_gets_the_new_token(client: Client) -> None:
    refused = client.press("pause", X_CSRFToken="of the process before")
    assert refused.status == 403
    assert client.token in refused.headers["Set-Cookie"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"7"])
def test_what_is_no_request_is_refused(client: Client, run: Run, body: bytes) -> None:
    own = {**client.own, "X-CSRFToken": client.token}
    assert client.ask("POST", "/requests", own, body).status == 400
    assert waiting(run) == []


@pytest.mark.parametrize(
    "path",
    [
        "/../study.db",
        "/assets/../../study.db",
        "/assets/%2e%2e/%2e%2e/study.db",
        "/assets/..%2f..%2fconfig.yaml",
        "/assets//etc/passwd",
        "/candidates/../../../../../../etc/passwd",
        "/candidates/%2e%2e/%2e%2e/study.db",
        "/candidates/-1",
        "/candidates/99999999999999999999",
        "/page.js",
        "/nanonas/report/page.py",
        "/study.db",
        "/requests",
        "/requests/",
        "/config.yaml",
    ],
)
def test_no_file_is_served(client: Client, path: str) -> None:
    """A path that is none of its own gets an error."""
    found = client.get(path)
    assert found.status >= 400
    assert "root:" not in found.text
    assert "SQLite format" not in found.text
    assert "population" not in found.text


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "word", "said"),
    [
        ("ban", None, "choose an operation first"),
        ("ban", "", "choose an operation first"),
        ("plant", "../../secret.json", "refused: a genome must be a list of whole numbers"),
        ("plant", None, "refused: a genome must be a list of whole numbers"),
        ("stop", None, "refused: "),
    ],
)
def test_what_cannot_be_asked(
    client: Client, run: Run, what: str, word: str | None, said: str
) -> None:
    assert said in client.press(what, word).text
    assert waiting(run) == []


def test_a_paused_search_is_resumed_by_the_same_button(run: Run, watch: Watch) -> None:
    view = watch.look()

    def button(paused: bool) -> str:
        searching = replace(view, alive=True, searching=True, paused=paused)
        return str(LivePage(lambda: searching).news("")["parts"]["pause"])

    pause, resume = button(paused=False), button(paused=True)
    assert 'data-ask="pause"' in pause
    assert ">Pause<" in pause
    assert 'data-ask="resume"' in resume
    assert ">Resume<" in resume
    assert "disabled" not in pause + resume
    assert "disabled" in LivePage(watch.look).news("")["parts"]["pause"]  # nobody searches


def test_a_paused_search_is_resumed(client: Client, run: Run) -> None:
    assert client.press("resume").text == "asked: resume"
    assert waiting(run) == ["resume"]


def test_a_node_shows_its_difference_to_its_parent(client: Client, watch: Watch) -> None:
    child = next(e for e in watch.look().record.entries if e.candidate.proposal.parents)
    parent = child.candidate.proposal.parents[0]
    shown = client.get(f"/candidates/{child.number}").text
    assert f"<h3>#{child.number}</h3>" in shown
    assert f'<button type="button" data-open="{parent}">#{parent}</button>' in shown
    assert '<ul id="difference"><li>' in shown
    assert "<svg " in shown
    assert ", ".join(map(str, child.genome)) in shown
    back = client.get(f"/candidates/{parent}").text
    assert f'<button type="button" data-open="{child.number}">' in back
    assert client.get("/candidates/20").status == 404


def test_reasons_are_shown_as_text(client: Client) -> None:
    for shown in (client.get("/").text, json.loads(client.get("/news").text)["parts"]["lost"]):
        assert "out of luck &lt;b&gt;here&lt;/b&gt;" in shown
        assert "<b>here</b>" not in shown
        assert State.PRUNED.value in shown


def test_only_what_has_changed_is_sent(run: Run, live: LivePage) -> None:
    first = live.news("")
    assert {"cards", "found", "fitness", "tree", "lost", "said"} <= set(first["parts"])
    wait_for(lambda: "being worked out" not in live.news("")["parts"]["mattered"])
    known = live.news("")["version"]
    assert set(live.news(known)["parts"]) <= {"cards", "progress"}  # they show a clock
    run.go(21)
    new = live.news(known)
    assert {"cards", "found", "fitness", "tree", "said"} <= set(new["parts"])
    assert "repeat" not in new["parts"]
    assert "tree" in new["plots"]
    assert set(live.news("of another process-7")["parts"]) == set(first["parts"])


def test_it_says_how_far_the_search_is(watch: Watch) -> None:
    view = replace(watch.look(), goal=Goal(evaluations=80), alive=True, searching=True)
    view = replace(view, now=view.last)
    assert view.share == 0.25
    assert view.seconds_left == pytest.approx(3 * view.elapsed)
    assert view.progress.startswith("20 of 80 evaluated in ")
    assert "a minute" in view.progress
    assert "left" in view.progress
    later = replace(view, now=view.last + 7)
    assert later.elapsed == pytest.approx(view.elapsed + 7)
    assert replace(later, paused=True).elapsed == pytest.approx(view.elapsed)
    timed = replace(view, goal=Goal(seconds=view.elapsed + 60), earlier=0.0)
    assert timed.seconds_left == pytest.approx(60)
    assert replace(view, goal=Goal()).share is None
    assert replace(view, goal=Goal(), now=later.now).seconds_left is None
    training = replace(
        view.record,
        entries=(*view.record.entries, replace(view.record.entries[-1], evaluation=None)),
    )
    assert "training #19" in replace(view, findings=Findings(training)).progress


# --- much to draw ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A run of 2,000."""
    return (
        Watch(begun(tmp_path_factory.mktemp("large") / "run", 2000, length=12).folder).look().record
    )


def decoded(values: Any) -> list[float]:
    """The numbers of a figure, as plotly.js reads them."""
    if isinstance(values, dict):
        return list(np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]))
    return list(values)


def test_of_many_dots_some_are_drawn(large: Record) -> None:
    findings = Findings(large)
    (chart,) = all_charts(findings, "fitness-generation").values()
    plain, (again,) = figure(chart), all_charts(findings, "fitness-generation").values()
    plot = figure(thinned(again, 1500))
    before, after = plain["data"][0], plot["data"][0]
    assert len(decoded(before["x"])) > 1500
    assert {len(decoded(after[name])) for name in ("x", "y", "text")} == {1500}
    assert [after["text"][0], after["text"][-1]] == [before["text"][0], before["text"][-1]]
    places = [before["text"].index(text) for text in after["text"]]
    assert decoded(after["y"]) == [decoded(before["y"])[place] for place in places]
    assert plot["data"][-1] == plain["data"][-1]  # lines are as they were


def test_a_live_page_draws_no_more_than_a_browser_does_in_a_moment(large: Record) -> None:
    part = page.draw("fitness", Findings(large), live=True)
    sizes = [
        len(decoded(trace["x"]))
        for plot in part.plots.values()
        for trace in plot["data"]
        if trace.get("mode") == "markers"
    ]
    assert sizes == [1500, 1500]
    tree = page.draw("tree", Findings(large), live=True)
    assert len(tree.plots["tree"]["data"][-1]["customdata"]) < 1700
    assert tree.html.count("<tr>") == 201
    assert "2,000 rows, the last 200 shown" in tree.html


def test_of_a_large_tree_the_last_are_drawn_with_the_way_to_the_winner(large: Record) -> None:
    way = ancestors(large, large.winner.number)  # type: ignore[union-attr]
    whole, found = figure(evolution_tree(Findings(large))), evolution_tree(Findings(large), 1500)
    plot = figure(found)
    first, _, winners, nodes = plot["data"]
    assert nodes["customdata"] == sorted({*way, *range(500, 2000)})
    places, every = nodes["customdata"], whole["data"][3]
    for name in ("x", "y", "text"):
        values = decoded(every[name])
        assert decoded(nodes[name]) == [values[place] for place in places]
    for name in ("symbol", "size"):
        values = every["marker"][name]
        assert nodes["marker"][name] == [values[place] for place in places]
    drawn, all_colours = (decoded(trace["marker"]["color"]) for trace in (nodes, every))
    for place, colour in zip(places, drawn, strict=True):
        if large.entries[place].accuracy is not None:  # others have the scale's lowest
            assert colour == all_colours[place]
    x = decoded(first["x"])
    assert min(x[1::3]) >= 500
    assert len(x) % 3 == 0
    assert len(decoded(winners["x"])) == len(decoded(whole["data"][2]["x"]))
    assert found.words.startswith(
        "Drawn are the last 1,500 of 2,000, and those on the way to the winner"
    )
    assert len(json.dumps(plot)) < 0.9 * len(json.dumps(whole))


def test_a_small_tree_is_drawn_whole(watch: Watch) -> None:
    findings = watch.look().findings
    assert figure(evolution_tree(findings, 1500)) == figure(evolution_tree(findings))


# --- the command ----------------------------------------------------------------------------------


def test_a_port_that_is_taken(watch: Watch) -> None:
    server = make_server(watch, "127.0.0.1", 0)
    try:
        port = server.port
        with pytest.raises(
            ConfigError,
            match=f"no server can listen at 127.0.0.1, port {port}: .*; choose another --port",
        ):
            make_server(watch, "127.0.0.1", port)
    finally:
        server.close()


def test_a_host_that_is_none(watch: Watch) -> None:
    with pytest.raises(ConfigError, match=r"no server can listen at nowhere\.invalid, port 0: "):
        make_server(watch, "nowhere.invalid", 0)


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(
    run: Run, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else plain(name)
    )
    assert cli.main(["dashboard", str(run.path)]) == 2
    said = f"nanonas: nanonas dashboard needs {missing}: pip install 'nanonas[serve]'\n"
    assert capsys.readouterr().err == said


def test_ctrl_c_ends_the_page_alone(run: Run) -> None:
    command = [sys.executable, "-m", "nanonas", "dashboard", str(run.path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "Ctrl-C ends the page, not the search" in said
        connection = HTTPConnection("127.0.0.1", int(said.split("127.0.0.1:")[1].split()[0]))
        with closing(connection):
            connection.request("GET", "/news")
            assert connection.getresponse().status == 200
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, errors) == (0, "", "")


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


def test_a_folder_that_cannot_be_written_is_one_sentence(watch: Watch, run: Run) -> None:
    run.folder.requests.write_text("in the way")
    with pytest.raises(RunError, match="cannot be made"):
        watch.ask("pause")
    with pytest.raises(NanonasError):
        watch.ask("stop")


def test_the_server_is_imported_when_it_is_needed() -> None:
    """Nothing but `nanonas dashboard` waits for it, or needs it to be installed."""
    code = (
        "import sys, nanonas.cli, nanonas.serving.server as s; "
        "print(*{'starlette', 'uvicorn'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "\n"
