"""The dashboard in a browser: Chromium, driven by playwright. Skipped where either is missing; CI
does without.

pip install 'nanonas[dashboard,browser]' and apt-get install chromium, or let CHROMIUM name another
one.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys.serving import Run, begun

from nanonas.serving.watch import Live, make_server

pytest.importorskip("dash", reason="the dashboard needs dash: pip install 'nanonas[dashboard]'")
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
    server = make_server(Live(run.folder), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The dashboard, drawn.

    Nothing that it does may go to another host or into the console as an error.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on(
        "console",
        lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda one: (
            wrong.append(one.url) if not one.url.startswith((url, "data:", "blob:")) else None
        ),
    )
    page.goto(url)
    page.wait_for_selector("#tree-plot .main-svg")
    page.wait_for_selector("#node h3")
    yield page
    context.close()
    assert wrong == []


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
    assert page.locator("#best-table tbody tr").count() == 8
    drawn = "document.querySelector('#tree-plot').querySelectorAll('.point, path.point').length"
    assert wait_for(page, f"{drawn} >= 34", 5.0) < 2.0


def test_it_outlives_the_search_and_sees_its_restart(page: Any, run: Run) -> None:
    assert "Nobody searches" in page.locator("#said").inner_text()
    run.pace = 0.4
    search = run.start(38)
    wait_for(page, "document.querySelector('#said').innerText.startsWith('Searching')")
    search.join()
    wait_for(
        page,
        "document.querySelector('#said').innerText.startsWith('Nobody searches: 38 candidates')",
    )
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

    page.click("#operation")
    page.get_by_text("sep_conv5x5", exact=True).last.click()
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
    found = Live(run.folder).look().record
    (planted,) = [entry for entry in found.entries if entry.candidate.proposal.planted]
    assert planted.genome == (0, 0, 0, 1, 1, 4)
    assert planted.number <= paused_at + 1
    assert len(found.entries) == 60


def test_a_click_on_a_network_shows_how_it_differs_from_its_parent(page: Any, run: Run) -> None:
    record = Live(run.folder).look().record
    child = next(
        e
        for e in reversed(record.entries)
        if e.candidate.proposal.parents and e is not record.winner
    )
    page.locator("#tree-plot").scroll_into_view_if_needed()
    dot = page.evaluate(
        """(number) => {
          const plot = document.querySelector('#tree-plot .js-plotly-plot') || document.querySelector('#tree-plot');
          const trace = plot._fullData.findIndex((one) => one.name === 'network');
          const points = [...plot.querySelectorAll('.scatterlayer .trace')].at(-1).querySelectorAll('path.point');
          const box = points[number].getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2, trace];
        }""",
        child.number,
    )
    page.mouse.move(dot[0], dot[1])
    page.mouse.click(dot[0], dot[1])
    wait_for(page, f"document.querySelector('#node h3').innerText === '#{child.number}'")
    said = page.locator("#node").inner_text()
    assert f"parent #{child.candidate.proposal.parents[0]}" in " ".join(said.split())
    assert page.locator("#difference li").count() >= 1
    assert page.locator("#node img").evaluate("(image) => image.naturalHeight") > 100
    page.fill("#field", str(child.number - 1))
    page.press("#field", "Enter")
    wait_for(page, f"document.querySelector('#node h3').innerText === '#{child.number - 1}'")
    page.fill("#field", str(child.number))
    page.press("#field", "Enter")
    wait_for(page, f"document.querySelector('#node h3').innerText === '#{child.number}'")
    page.locator("#node button", has_text=f"#{child.candidate.proposal.parents[0]}").first.click()
    wait_for(
        page,
        (
            "document.querySelector('#node h3').innerText === "
            f"'#{child.candidate.proposal.parents[0]}'"
        ),
    )


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
        const post = {method: 'POST', mode, credentials: 'include', body: '{}'};
        try { said.push((await fetch(url + '/_dash-update-component', post)).type); }
        catch (error) { said.push('refused'); }
      }
      try { said.push(await (await fetch(url + '/_dash-layout')).text()); } catch (error) { said.push('refused'); }
      return said;
    }"""
    assert set(foreign.evaluate(asked, url)) <= {"refused", "opaque"}
    assert foreign.evaluate(asked, url)[2] == "refused"
    context.close()
    assert not run.folder.requests.exists()


@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)]
)
def test_it_fits_any_screen(browser: Any, url: str, width: int, dark: bool) -> None:
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#tree-plot .main-svg")
    wait_for(page, "document.querySelector('#node img')?.complete")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(21, 23, 26)") is dark
    ink = "rgb(236, 236, 236)" if dark else "rgb(26, 26, 26)"
    wait_for(page, f"document.querySelector('#tree-plot .xtitle')?.style.fill === '{ink}'")
    context.close()
