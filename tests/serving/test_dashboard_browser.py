"""The dashboard in a browser: Chromium, driven by playwright. Skipped where either is missing; CI
does without.

pip install 'nanonas[serve,browser]' and apt-get install chromium, or let CHROMIUM name another
one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from toys.serving import Run, begun, serving

from nanonas.analysis.findings import Findings
from nanonas.report import page as report
from nanonas.runs.reading import read_record
from nanonas.serving.server import make_server
from nanonas.serving.watch import Watch

pytest.importorskip("starlette", reason="needs starlette: pip install 'nanonas[serve]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'nanonas[serve]'")
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install 'nanonas[browser]'"
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="needs a browser: apt-get install chromium, or set CHROMIUM"
    ),
    pytest.mark.filterwarnings("default"),  # playwright's own
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begun(tmp_path / "a run", 30)


@pytest.fixture
def url(run: Run) -> Iterator[str]:
    with serving(make_server(Watch(run.folder), "127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture
def file(run: Run, tmp_path: Path) -> str:
    """The address of the run's report."""
    path = tmp_path / "report.html"
    path.write_text(report.render(Findings(read_record(run.folder))), encoding="utf-8")
    return path.as_uri()


@contextmanager
def opened(browser: Any, url: str, **more: Any) -> Iterator[Any]:
    """A page, drawn.

    Nothing that it does may go to another host or into the console as an error.
    """
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **more})
    page = context.new_page()
    wrong: list[str] = []

    def listen(message: Any) -> None:
        if message.type in ("error", "warning"):
            wrong.append(message.text)

    def watch(request: Any) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            wrong.append(request.url)

    page.on("console", listen)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", watch)
    page.goto(url)
    page.locator("#tree-plot").scroll_into_view_if_needed()
    page.wait_for_selector("#tree-plot .main-svg")
    page.wait_for_selector("#node h3")
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The dashboard, drawn."""
    with opened(browser, url) as page:
        yield page


def trained(page: Any) -> int:
    return int(
        page.locator("#cards div", has_text="networks trained")
        .locator("dd")
        .inner_text()
        .replace(",", "")
    )


def wait_for(page: Any, condition: str, seconds: float = 10.0) -> float:
    """Waits for an expression of the page's and returns how many seconds that took.

    Asked from outside: the page's own policy forbids what playwright's `wait_for_function` does.
    """
    start = time.monotonic()
    while not page.evaluate(condition):
        assert time.monotonic() < start + seconds, f"not within {seconds:g} s: {condition}"
        page.wait_for_timeout(20)
    return time.monotonic() - start


SHOWN = "document.querySelector('#cards').innerText.includes('networks trained\\n{}')"


def test_a_new_evaluation_is_there_within_two_seconds(page: Any, run: Run) -> None:
    assert trained(page) == 30
    for number in range(31, 35):
        run.go(number)
        assert wait_for(page, SHOWN.format(number), 5.0) < 2.0
    assert page.locator("[data-part=found] tbody tr").count() == 10
    drawn = "document.querySelector('#tree-plot').querySelectorAll('.point, path.point').length"
    assert wait_for(page, f"{drawn} >= 34", 5.0) < 2.0


def test_it_outlives_the_search_and_sees_its_restart(page: Any, run: Run) -> None:
    assert "No search is running" in page.locator("#said").inner_text()
    run.pace = 0.4
    search = run.start(38)
    wait_for(page, "document.querySelector('#said').innerText.startsWith('Searching')")
    search.join()
    said = "document.querySelector('#said').innerText"
    wait_for(page, f"{said}.startsWith('No search is running: 38 candidates')")
    assert trained(page) == 38


def test_pause_resume_ban_and_plant(page: Any, run: Run) -> None:
    assert page.locator("#pause").is_disabled()
    run.pace = 0.3
    search = run.start(60)
    wait_for(page, "!document.querySelector('#pause').disabled")
    page.click("#pause")
    wait_for(page, "document.querySelector('#said').innerText.startsWith('Paused')")
    wait_for(page, "document.querySelector('#said').innerText.startsWith('Paused: nothing')")
    paused_at = trained(page)
    page.wait_for_timeout(1500)
    assert trained(page) == paused_at < 60

    page.select_option("#operation", "sep_conv5x5")
    page.click("#ban")
    wait_for(page, "document.querySelector('#banned').innerText.includes('sep_conv5x5')")
    page.fill("#genome", "[0, 0, 0, 1, 1, 4]")
    page.click("#plant")
    wait_for(page, "document.querySelector('#asked').innerText.includes('a genome is planted')")
    page.fill("#genome", "../../etc/passwd")
    page.click("#plant")
    wait_for(
        page, "document.querySelector('#answer').innerText.startsWith('refused: a genome must be')"
    )

    wait_for(page, "document.querySelector('#pause').innerText === 'Resume'")
    page.click("#pause")
    wait_for(page, "document.querySelector('#said').innerText.startsWith('Searching')")
    page.click("#banned button")
    wait_for(page, "document.querySelector('#banned').innerText === ''")
    run.pace = 0.0
    search.join()
    found = Watch(run.folder).look().record
    (planted,) = [entry for entry in found.entries if entry.candidate.proposal.planted]
    assert planted.genome == (0, 0, 0, 1, 1, 4)
    assert planted.number <= paused_at + 1
    assert len(found.entries) == 60


DOT = """(number) => {
  const plot = document.querySelector('#tree-plot');
  const nodes = [...plot.querySelectorAll('.scatterlayer .trace')].at(-1);
  const box = nodes.querySelectorAll('path.point')[number].getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""


@pytest.mark.parametrize("how", ["live", "frozen"])
def test_a_click_on_a_network_shows_how_it_differs_from_its_parent(
    browser: Any, url: str, file: str, run: Run, how: str
) -> None:
    record = Watch(run.folder).look().record
    child = next(
        e
        for e in reversed(record.entries)
        if e.candidate.proposal.parents and e is not record.winner
    )
    parent = child.candidate.proposal.parents[0]
    with opened(browser, url if how == "live" else file) as page:
        page.locator("#tree-plot").scroll_into_view_if_needed()
        x, y = page.evaluate(DOT, child.number)
        page.mouse.move(x, y)
        page.mouse.click(x, y)
        wait_for(page, f"{TITLE} === '#{child.number}'")
        said = " ".join(page.locator("#node").inner_text().split())
        assert f"parent #{parent}" in said
        assert page.locator("#difference li").count() >= 1
        height = page.locator("#node svg").evaluate("(svg) => svg.getBoundingClientRect().height")
        assert height > 100
        page.fill("#field", str(child.number - 1))
        page.press("#field", "Enter")
        wait_for(page, f"{TITLE} === '#{child.number - 1}'")
        page.get_by_role("button", name="next").click()
        wait_for(page, f"{TITLE} === '#{child.number}'")
        page.locator("#node button", has_text=f"#{parent}").first.click()
        wait_for(page, f"{TITLE} === '#{parent}'")
        page.locator(
            "#node button", has_text=f"#{child.number}"
        ).first.click()  # one of its children
        wait_for(page, f"{TITLE} === '#{child.number}'")
        page.fill("#field", "99999")
        page.press("#field", "Enter")
        page.wait_for_timeout(300)
        assert page.evaluate(TITLE) == f"#{child.number}"


TITLE = "document.querySelector('#node h3').innerText"


def test_the_frozen_page_without_a_way_to_unpack_says_so(browser: Any, file: str) -> None:
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto(file)
    page.fill("#field", "3")
    page.press("#field", "Enter")
    said = "document.querySelector('#node').innerText"
    wait_for(page, f"{said}.includes('This browser cannot unpack the candidates')")
    context.close()


def test_what_the_reader_has_opened_stays_open(page: Any, run: Run) -> None:
    summary = page.locator("[data-part=tree] summary")
    summary.click()
    page.fill("#genome", "[0, 0")
    run.go(31)
    wait_for(page, SHOWN.format(31))
    wait_for(page, "document.querySelector('[data-part=tree] tbody').rows.length === 31")
    assert page.locator("[data-part=tree] details").evaluate("(details) => details.open")
    assert page.input_value("#genome") == "[0, 0"


def test_it_says_when_its_server_has_gone_and_goes_on_with_the_next(browser: Any, run: Run) -> None:
    context = browser.new_context()
    page = context.new_page()
    said = "document.querySelector('#said').innerText"
    port = 0
    for _ in range(3):
        with serving(make_server(Watch(run.folder), "127.0.0.1", port)) as server:
            if not port:
                port = server.port
                page.goto(f"http://127.0.0.1:{port}")
            wait_for(page, f"{said}.startsWith('No search is running')")
            page.fill("#genome", "[0, 0, 0, 1, 1, 4]")
            page.click("#plant")  # the page has the token of the first server
            wait_for(page, "document.querySelector('#answer').innerText.startsWith('asked: plant')")
        wait_for(page, f"{said}.startsWith('The server of this page has gone')")
        page.evaluate("document.querySelector('#answer').textContent = ''")
    context.close()


def test_another_site_can_neither_ask_nor_look(
    browser: Any, url: str, run: Run, tmp_path: Path
) -> None:
    """A page of another origin, in a browser that has the dashboard open."""
    context = browser.new_context()
    context.new_page().goto(url)
    foreign = context.new_page()
    foreign.goto("data:text/html,<p>another site</p>")
    asked = """async (url) => {
      const said = [];
      for (const mode of ['cors', 'no-cors']) {
        const post = {method: 'POST', mode, credentials: 'include', body: '{"what": "pause"}'};
        try { said.push((await fetch(url + '/requests', post)).type); }
        catch (error) { said.push('refused'); }
      }
      for (const path of ['/news', '/candidates/0', '/']) {
        try { said.push(await (await fetch(url + path)).text()); }
        catch (error) { said.push('refused'); }
      }
      return said;
    }"""
    answers = foreign.evaluate(asked, url)
    assert set(answers[:2]) <= {"refused", "opaque"}
    assert answers[2:] == ["refused"] * 3
    context.close()
    assert not run.folder.requests.exists()


@pytest.mark.parametrize("how", ["live", "frozen"])
@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)]
)
def test_it_fits_any_screen(
    browser: Any, url: str, file: str, width: int, dark: bool, how: str
) -> None:
    scheme = "dark" if dark else "light"
    more = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with opened(browser, url if how == "live" else file, **more) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(21, 23, 26)") is dark
        ink = "rgb(236, 236, 236)" if dark else "rgb(26, 26, 26)"
        wait_for(page, f"document.querySelector('#tree-plot .xtitle')?.style.fill === '{ink}'")
        scale = page.evaluate(
            "document.querySelector('#tree-plot').data.at(-1).marker.colorbar.orientation"
        )
        assert (scale == "h") is (width < 640)
        other = "light" if dark else "dark"
        page.emulate_media(color_scheme=other)  # the reader's system turns dark, or light
        ink = "rgb(26, 26, 26)" if dark else "rgb(236, 236, 236)"
        wait_for(page, f"document.querySelector('#tree-plot .xtitle')?.style.fill === '{ink}'")
