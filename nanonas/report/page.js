"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const page = read("page"), plots = read("plots");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => document.documentElement.clientWidth < 640;

  // --- figures ----------------------------------------------------------------------------------
  // They come without colours for text and grid: those are the page's, which may be light or dark.

  const settings = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"],
  };
  const shown = new Set(); // keys of figures that have been drawn

  function dressed(plot) {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink"), line = style.getPropertyValue("--line");
    const layout = structuredClone(plot.layout);
    layout.uirevision = "kept"; // a reader who has zoomed in stays there when it is drawn again
    layout.font = { color: ink, size: narrow() ? 11 : 13, family: "system-ui, sans-serif" };
    for (const axis of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      layout[axis].gridcolor = line;
      layout[axis].linecolor = line;
    }
    const card = style.getPropertyValue("--card");
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: card, font: { color: ink } };
    const scaled = plot.data.some((trace) => trace.marker?.colorbar);
    if (narrow()) {
      layout.margin = { ...layout.margin, l: 44, r: 6, b: scaled ? 120 : layout.margin.b };
    }
    const data = plot.data.map((trace) => withInk(narrow() ? withScaleBelow(trace) : trace, ink));
    return { data, layout };
  }

  function withInk(trace, ink) {
    if (trace.type !== "heatmap") return trace;
    return { ...trace, textfont: { color: ink } }; // plotly's own choice knows no paper below a cell
  }

  function withScaleBelow(trace) {
    if (!trace.marker?.colorbar) return trace;
    const below = { orientation: "h", yref: "container", y: 0, yanchor: "bottom", len: 1 };
    const colorbar = { ...trace.marker.colorbar, ...below };
    return { ...trace, marker: { ...trace.marker, colorbar } };
  }

  function show(key) {
    const element = document.getElementById(`${key}-plot`);
    if (!element) return;
    shown.add(key);
    const { data, layout } = dressed(plots[key]);
    const bar = { displayModeBar: narrow() ? false : "hover" };
    Plotly.react(element, data, layout, { ...settings, ...bar }).then(() => {
      element.removeAllListeners("plotly_click");
      element.on("plotly_click", (event) => {
        const number = event.points[0].customdata;
        if (number !== undefined) open(number);
      });
    });
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      const key = target.dataset.plot;
      if (isIntersecting && !shown.has(key)) show(key);
    }
  }, { rootMargin: "600px" });
  const observe = () => {
    document.querySelectorAll("[data-plot]").forEach((element) => seen.observe(element));
  };
  observe();
  addEventListener("beforeprint", () => Object.keys(plots).forEach(show));
  dark.addEventListener("change", () => shown.forEach(show));

  // --- one candidate ----------------------------------------------------------------------------

  const panel = document.querySelector("#node .both"), field = document.getElementById("field");
  let number = page.winner; // the candidate that is shown
  let candidates = page.candidates; // how many there are
  let chosen = false; // whether the reader has chosen it: else the winner is shown

  async function unpacked(chunk) {
    const bytes = Uint8Array.from(atob(chunk), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  // `numbers`: whose panels the chunks hold, in rising order; null: everyone's
  const { chunks, numbers } = page.live ? { chunks: [], numbers: null } : read("candidates");
  const opened = new Map(); // chunks that are unpacked, by place

  async function frozen(wanted) {
    if (!("DecompressionStream" in window)) {
      const way = "open the page in one of 2023 or later";
      return `<p>This browser cannot unpack the candidates: ${way}.</p>`;
    }
    const index = numbers ? numbers.indexOf(wanted) : wanted;
    if (index < 0) {
      const some = `${numbers.length.toLocaleString("en")} of ${candidates.toLocaleString("en")}`;
      const way = "<code>nanonas dashboard</code> shows each";
      return `<p>#${wanted} is not in this file, which has ${some} candidates: ${way}.</p>`;
    }
    const place = Math.floor(index / page.chunk);
    if (!opened.has(place)) opened.set(place, await unpacked(chunks[place]));
    const { lines, candidates: panels } = opened.get(place);
    return panels[index % page.chunk].map((line) => lines[line]).join("\n");
  }

  function beside(step) { // the number of the candidate before or after the one that is shown
    if (!numbers || number === null) return (number ?? 0) + step;
    const later = numbers.findIndex((one) => one > number);
    if (step > 0) return later < 0 ? number : numbers[later];
    return numbers.findLast((one) => one < number) ?? number;
  }

  async function served(wanted) {
    const answer = await fetch(`candidates/${wanted}`).catch(() => null);
    return answer?.ok ? answer.text() : null;
  }

  async function open(wanted, byReader = true) {
    if (!Number.isInteger(wanted) || wanted < 0 || wanted >= candidates) return;
    const html = await (page.live ? served(wanted) : frozen(wanted));
    if (html === null || (!byReader && chosen && wanted !== number)) return;
    number = wanted;
    chosen ||= byReader;
    if (field !== document.activeElement || byReader) field.value = wanted;
    renew(panel, html);
  }

  field.addEventListener("change", () => open(Number.parseInt(field.value, 10)));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.open) open(Number(button.dataset.open));
    if (button?.dataset.step) open(beside(Number(button.dataset.step)));
  });

  // --- a piece of the page is drawn again -------------------------------------------------------

  const drawn = new WeakMap(); // what an element was filled with

  function renew(element, html) {
    if (drawn.get(element) === html) return;
    drawn.set(element, html);
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const scrolled = []; // tables stay as the reader has left them
    for (const details of element.querySelectorAll("details")) {
      const twin = fresh.content.querySelector(`[data-key="${CSS.escape(details.dataset.key)}"]`);
      if (!twin) continue;
      twin.open = details.open;
      const box = details.querySelector(".scroll");
      if (box?.scrollTop) scrolled.push([twin.querySelector(".scroll"), box.scrollTop]);
    }
    for (const plot of fresh.content.querySelectorAll("[data-plot]")) {
      const before = element.querySelector(`[data-plot="${plot.dataset.plot}"]`);
      if (!before) continue;
      before.style.height = plot.style.height;
      plot.replaceWith(before);
    }
    const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
    element.replaceChildren(fresh.content);
    for (const [box, top] of scrolled) if (box) box.scrollTop = top;
    if (focused) document.getElementById(focused)?.focus();
  }

  if (!page.live) return;

  // --- live: every second, what is new ----------------------------------------------------------

  let version = page.live.version;

  async function look() {
    const news = await fetch(`news?since=${version}`).then((one) => one.json()).catch(() => null);
    if (news === null) {
      const gone = "The server of this page has gone; start nanonas dashboard again to go on.";
      renew(document.getElementById("said"), gone);
      version = "";
      return;
    }
    ({ version, candidates } = news);
    Object.assign(plots, news.plots);
    for (const [key, html] of Object.entries(news.parts)) {
      renew(document.querySelector(`[data-part="${key}"]`), html);
    }
    observe();
    for (const key of Object.keys(news.plots)) if (shown.has(key)) show(key);
    const tree = "tree" in news.parts || "tree" in news.plots;
    if (!chosen && news.winner !== number) await open(news.winner, false);
    else if (tree && number !== null) await open(number, false);
  }

  async function repeat() {
    const begun = performance.now();
    await look();
    setTimeout(repeat, Math.max(100, 1000 - (performance.now() - begun)));
  }
  setTimeout(repeat, 500);

  function token() {
    const cookies = document.cookie.split("; ").map((one) => one.split("="));
    return cookies.find(([name]) => name === page.live.cookie)?.[1] ?? "";
  }

  function post(what, word) {
    const headers = { "Content-Type": "application/json", "X-CSRFToken": token() };
    const body = JSON.stringify({ what, word });
    return fetch("requests", { method: "POST", headers, body }).catch(() => null);
  }

  async function ask(what, word) {
    let answer = await post(what, word);
    if (answer?.status === 403) answer = await post(what, word); // it has handed us the new token
    const said = answer ? await answer.text() : "the server of this page has gone";
    document.getElementById("answer").textContent = said;
    return answer?.ok && said.startsWith("asked");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-ask]");
    if (button) ask(button.dataset.ask, button.dataset.word);
  });
  document.querySelectorAll("form[data-ask]").forEach((form) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const input = form.elements.word;
      const asked = await ask(form.dataset.ask, input.value);
      if (asked && input.tagName === "SELECT") input.value = "";
    });
  });
})();
