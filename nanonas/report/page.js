"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const plots = read("plots"), details = read("details");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => document.documentElement.clientWidth < 640;

  // --- figures ---------------------------------------------------------------------------------------------------
  // They come without colours for text and grid: those are the page's, which may be light or dark.

  function dressed(plot) {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink"), line = style.getPropertyValue("--line");
    const layout = structuredClone(plot.layout);
    layout.font = { color: ink, size: narrow() ? 11 : 13, family: "system-ui, sans-serif" };
    for (const axis of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      layout[axis].gridcolor = line;
      layout[axis].linecolor = line;
    }
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: style.getPropertyValue("--card"), font: { color: ink } };
    const data = plot.data.map((trace) => {
      if (!narrow() || !trace.marker || !trace.marker.colorbar) return trace;
      const below = { orientation: "h", yref: "container", y: 0, yanchor: "bottom", len: 1 };
      const bar = { ...trace.marker.colorbar, ...below };
      return { ...trace, marker: { ...trace.marker, colorbar: bar } };
    });
    const bars = plot.data.some((trace) => trace.marker && trace.marker.colorbar);
    if (narrow()) layout.margin = { ...layout.margin, l: 44, r: 6, b: bars ? 120 : layout.margin.b };
    return { data, layout };
  }

  const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const shown = new Set();

  function show(element) {
    const { data, layout } = dressed(plots[element.dataset.plot]);
    const first = !shown.has(element);
    shown.add(element);
    const more = { ...settings, displayModeBar: narrow() ? false : "hover" };
    Plotly.react(element, data, layout, more).then(() => {
      if (first && element.dataset.plot === "tree") {
        element.on("plotly_click", (event) => {
          const number = event.points[0].customdata;
          if (number !== undefined) open(number);
        });
      }
    });
  }

  const elements = [...document.querySelectorAll("[data-plot]")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !shown.has(entry.target)) show(entry.target);
    }
  }, { rootMargin: "600px" });
  elements.forEach((element) => seen.observe(element));
  addEventListener("beforeprint", () => elements.forEach((element) => shown.has(element) || show(element)));
  dark.addEventListener("change", () => shown.forEach(show));

  // --- one candidate ---------------------------------------------------------------------------------------------

  const words = details.words, size = details.size;
  const panel = document.getElementById("node");
  const SVG = "http://www.w3.org/2000/svg";

  function element(name, attributes = {}, text = null, space = null) {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  }

  function drawing(candidate) { // as nanonas.results.architecture.svg
    const lanes = [], rows = candidate.r.map((place) => words[place].split("\t"));
    for (let n = 0; n < candidate.a.length; n += 3) lanes.push(candidate.a.slice(n, n + 3));
    const left = 12 + size.lane * (1 + Math.max(0, ...lanes.map((arc) => arc[2])));
    const width = left + size.width + 4, height = rows.length * (size.row + size.gap) + 4;
    const top = (place) => 2 + place * (size.row + size.gap);
    const svg = element("svg", { class: "nn", role: "img", width, height, viewBox: `0 0 ${width} ${height}` }, null, SVG);
    rows.forEach(([said, shape, params, family], place) => {
      const mark = candidate.n.includes(place) ? "new" : candidate.c.includes(place) ? "changed" : "";
      const group = element("g", { class: mark }, null, SVG), y = top(place) + size.row - 7;
      const box = { class: family, x: left, y: top(place), width: size.width, height: size.row, rx: 4 };
      group.append(element("rect", box, null, SVG), element("text", { x: left + 8, y }, said, SVG));
      const right = (x, text) => element("text", { class: "dim", x, y, "text-anchor": "end" }, text, SVG);
      group.append(right(left + size.width - 56, shape), right(left + size.width - 8, params));
      svg.append(group);
      if (place && !candidate.b.includes(place)) {
        const d = `M${left + size.width / 2} ${top(place - 1) + size.row}V${top(place)}`;
        svg.append(element("path", { d }, null, SVG));
      }
    });
    for (const [start, end, lane] of lanes) {
      const x = left - 8 - size.lane * lane, a = top(start) + size.row * 0.7, b = top(end) + size.row * 0.3;
      const d = `M${left} ${a}C${x} ${a} ${x} ${a} ${x} ${a + 10}V${b - 10}C${x} ${b} ${x} ${b} ${left} ${b}`;
      svg.append(element("path", { d }, null, SVG));
    }
    return svg;
  }

  function links(label, numbers) {
    const line = element("p", {}, `${label} `);
    for (const number of numbers.slice(0, 40)) {
      const button = element("button", { type: "button" }, `#${number}`);
      button.addEventListener("click", () => open(number));
      line.append(button);
    }
    if (numbers.length > 40) line.append(`and ${numbers.length - 40} more`);
    return line;
  }

  function list(title, lines) {
    const box = element("div"), items = element("ul");
    lines.forEach((line) => items.append(element("li", {}, line)));
    box.append(element("h3", {}, title), items);
    return box;
  }

  function open(number) {
    const candidate = details.candidates[number];
    if (!candidate) return;
    const left = element("div"), right = element("div", { class: "drawing" });
    left.append(element("h3", {}, `#${number}`));
    const facts = element("ul");
    candidate.f.forEach((place) => facts.append(element("li", {}, words[place])));
    left.append(facts);
    if (candidate.p.length) left.append(links(candidate.p.length > 1 ? "parents" : "parent", candidate.p));
    if (candidate.k) left.append(links("children", candidate.k));
    left.append(list("how it came about", candidate.e.map((place) => words[place])));
    if (candidate.q !== undefined) {
      const sign = candidate.q >= 0 ? "+" : "−";
      left.append(element("p", { class: "gain" }, `${sign}${Math.abs(candidate.q).toFixed(2)} points over its parent`));
    }
    if (candidate.g.length) {
      left.append(element("p", { class: "dim" }, `its parent also had: ${candidate.g.map((g) => words[g]).join(" · ")}`));
    }
    if (candidate.n.length + candidate.c.length) {
      left.append(element("p", { class: "dim" }, "edges in the drawing: solid green is new, dashed orange is changed"));
    }
    right.append(drawing(candidate));
    panel.querySelector(".both").replaceChildren(left, right);
    panel.querySelector("input").value = number;
  }

  const field = panel.querySelector("input");
  field.addEventListener("change", () => open(Number(field.value)));
  panel.querySelector("[data-step='-1']").addEventListener("click", () => open(Number(field.value) - 1));
  panel.querySelector("[data-step='1']").addEventListener("click", () => open(Number(field.value) + 1));
  if (details.candidates.length) open(details.winner);
})();
