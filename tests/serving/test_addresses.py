"""By which names and addresses a dashboard can be opened, and which of them it says."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection

import pytest
from toys.serving import begun, serving

pytest.importorskip("starlette", reason="needs starlette: pip install 'nanonas[serve]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'nanonas[serve]'")

from nanonas.errors import ConfigError
from nanonas.machine import outside_address
from nanonas.serving import server as server_module
from nanonas.serving.guard import Guard
from nanonas.serving.server import Server, make_server, serve
from nanonas.serving.watch import Watch

EVERYWHERE = ["0.0.0.0", "0", "", "::"]
OWN = ["box.lan.example", "BOX.LAN.example", "box", "box.local", "box.corp.example", "localhost"]
FOREIGN = ["evil.example", "box.evil.example", "box.lan.example.evil.example", "local", ".local"]


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(begun(tmp_path_factory.mktemp("addresses") / "run", 3).folder)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has this machine other names, and counts how often the resolver is asked for one."""
    asked: list[str] = []

    def getfqdn(name: str = "") -> str:
        asked.append(name)
        return "Box.corp.example"

    monkeypatch.setattr(socket, "gethostname", lambda: "Box.lan.example")
    monkeypatch.setattr(socket, "getfqdn", getfqdn)
    return asked


def made(watch: Watch, host: str) -> Server:
    try:
        return make_server(watch, host, 0)
    except ConfigError:
        if ":" not in host:
            raise
        pytest.skip("this machine has no IPv6")


def status(address: str, port: int, host: str) -> int:
    with closing(HTTPConnection(address, port, timeout=20)) as connection:
        connection.request("GET", "/news", headers={"Host": host})
        return connection.getresponse().status


@pytest.mark.parametrize("host", EVERYWHERE)
def test_the_machine_is_answered_by_its_own_names_and_no_other(
    watch: Watch, host: str, lookups: list[str]
) -> None:
    with serving(made(watch, host)) as server:
        known = {name: status("127.0.0.1", server.port, f"{name}:{server.port}") for name in OWN}
        assert set(known.values()) == {200}, known
        for address in ("192.168.0.7", "[fe80::1]", "127.0.0.1"):
            assert status("127.0.0.1", server.port, f"{address}:{server.port}") == 200
        others = {name: status("127.0.0.1", server.port, name) for name in (*FOREIGN, "")}
        assert set(others.values()) == {403}, others
    assert len(lookups) == 1  # one can take seconds: not at a request


def test_a_dashboard_of_this_machine_alone_asks_no_resolver(
    watch: Watch, lookups: list[str]
) -> None:
    make_server(watch, "127.0.0.1", 0).close()
    assert lookups == []


def test_a_name_is_answered_however_it_is_written(watch: Watch) -> None:
    with serving(made(watch, "LocalHost")) as server:
        assert status("127.0.0.1", server.port, f"localhost:{server.port}") == 200
        assert status("127.0.0.1", server.port, f"LOCALHOST:{server.port}") == 200
    assert Guard("127.0.1.1", 80, ("MyBox",)).refusal("GET", {"Host": "mybox:80"}) is None


def said(watch: Watch, host: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """What is said where a dashboard begins, and the hosts in it, each of which is opened."""
    words: list[str] = []
    answers: Callable[[Server], None] = Server.serve

    def open_all(server: Server) -> None:
        thread = threading.Thread(target=answers, args=(server,), daemon=True)
        thread.start()
        for url in urls():
            assert status(url.strip("[]"), server.port, f"{url}:{server.port}") == 200, url
        server.stop()
        thread.join()

    def urls() -> list[str]:
        return re.findall(r"http://(\S+):\d+", words[0])

    made(watch, host).close()  # or skips
    monkeypatch.setattr(Server, "serve", open_all)
    serve(watch.run, host, 0, words.append)
    return words, urls()


@pytest.mark.parametrize("host", EVERYWHERE)
def test_what_it_says_can_be_opened(
    watch: Watch, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if outside_address() is None:
        pytest.skip("this machine reaches no other")
    words, urls = said(watch, host, monkeypatch)
    assert urls == ["localhost", outside_address()]
    assert "on this machine" in words[0]
    assert "whoever can open it there can see this run and steer it" in words[1]


def test_without_a_way_to_others_it_says_its_name(
    watch: Watch, lookups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "outside_address", lambda: None)
    monkeypatch.setattr(Server, "serve", Server.close)
    words: list[str] = []
    serve(watch.run, "0.0.0.0", 0, words.append)
    assert "http://Box.lan.example:" in words[0]


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")]
)
def test_what_only_this_machine_can_open_is_said_without_a_warning(
    watch: Watch, host: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, urls = said(watch, host, monkeypatch)
    assert (len(words), urls) == (1, [shown])


def test_an_address_of_this_machine_is_one_that_it_can_listen_at() -> None:
    if (own := outside_address()) is not None:
        socket.create_server((own, 0)).close()


def test_a_host_too_long_for_a_name_is_one_sentence(watch: Watch) -> None:
    with pytest.raises(ConfigError, match=r"no server can listen at a{70}\.example, port 0: "):
        make_server(watch, f"{'a' * 70}.example", 0)


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
