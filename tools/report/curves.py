"""The curves of many runs over each other: their points for a script that draws those that are chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dataset.htmlpage import escape
from tools.report.runs import FoundRun

STYLE = """
#plot{width:100%;height:auto;display:block;font:12px system-ui,sans-serif}
#plot text{fill:var(--faint)} #plot .grid{stroke:var(--line);stroke-width:1}
#plot polyline{fill:none;stroke-width:1.8} #plot polyline.loss{stroke-width:1;opacity:.75} #plot .strong{stroke-width:4}
#legend{display:flex;flex-wrap:wrap;gap:.1rem 1rem;font-size:13px} #legend label{white-space:nowrap}
#legend svg{width:26px;height:8px;vertical-align:middle}
"""
SCRIPT = """
(() => {
  const runs = JSON.parse(document.getElementById("curves").textContent), form = document.getElementById("axes");
  const plot = document.getElementById("plot"), legend = document.getElementById("legend");
  const left = 48, right = 12, top = 10, bottom = 30, ns = plot.namespaceURI;
  const colour = i => `hsl(${(i * 137.5) % 360} 65% 48%)`, dash = i => ["", "7 3", "2 3", "9 3 2 3"][i % 4];
  const make = (name, values, parent) => {
    const node = document.createElementNS(ns, name);
    for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  const short = v => v >= 1e6 ? +(v / 1e6).toPrecision(3) + "M" : v >= 1e4 ? +(v / 1e3).toPrecision(3) + "k"
    : +v.toPrecision(3);
  function ticks(low, high, count = 5) {
    const rough = (high - low) / count || 1, ten = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(n => n * ten).find(n => n >= rough), out = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) out.push(v);
    return out;
  }
  function decades(low, high) {
    const out = [];
    for (let ten = 10 ** Math.floor(Math.log10(low)); ten <= high; ten *= 10) out.push(ten, 2 * ten, 5 * ten);
    return out.filter(v => v >= low && v <= high).filter((v, i, all) => all.length < 12 || !(v / 10 ** Math.floor(
      Math.log10(v) + 1e-9) > 1.5));
  }
  const boxes = runs.map((run, i) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox"; box.checked = run.chosen; box.onchange = draw;
    label.append(box, " ");
    const line = make("svg", {viewBox: "0 0 26 8"}, label);
    make("path", {d: "M0 4H26", stroke: colour(i), "stroke-width": 2.5, "stroke-dasharray": dash(i)}, line);
    label.append(" " + run.name);
    const strong = on => plot.querySelectorAll(`[data-run="${i}"]`).forEach(n => n.classList.toggle("strong", on));
    label.onmouseenter = () => strong(true); label.onmouseleave = () => strong(false);
    legend.append(label);
    return box;
  });
  function draw() {
    const wide = Math.max(320, plot.clientWidth), high = wide > 600 ? 380 : 260;
    plot.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    const x = +form.x.value, names = form.y.value.split(" "), log = form.log.checked, lines = [];
    runs.forEach((run, i) => names.forEach(name => {
      const points = (run[name] || []).filter(p => !log || p[3] > 0);
      if (boxes[i].checked && points.length) lines.push({i, name, points});
    }));
    plot.replaceChildren();
    if (!lines.length) { make("text", {x: left, y: 40}, plot).textContent = "no curve is chosen"; return; }
    const last = Math.max(...lines.map(one => one.points.at(-1)[x])) || 1;
    const seen = lines.flatMap(one => one.points.slice(Math.floor(one.points.length / 10)).map(p => p[3]));
    const scale = log ? Math.log10 : v => v;
    let low = log ? scale(Math.min(...seen)) : 0, up = scale(Math.max(...seen));
    if (up <= low) up = low + 1;
    const pad = (up - low) * .04, px = v => left + v / last * (wide - left - right);
    low -= log ? pad : 0; up += pad;
    const py = v => top + (up - Math.min(scale(v), up)) / (up - low) * (high - top - bottom);
    for (const v of ticks(0, last, wide > 600 ? 6 : 3)) {
      make("line", {x1: px(v), x2: px(v), y1: top, y2: high - bottom, class: "grid"}, plot);
      make("text", {x: px(v), y: high - bottom + 18, "text-anchor": "middle"}, plot).textContent = short(v);
    }
    for (const v of log ? decades(10 ** low, 10 ** up) : ticks(low, up)) {
      make("line", {x1: left, x2: wide - right, y1: py(v), y2: py(v), class: "grid"}, plot);
      make("text", {x: left - 6, y: py(v) + 4, "text-anchor": "end"}, plot).textContent = short(v);
    }
    for (const {i, name, points} of lines) {
      const line = make("polyline", {points: points.map(p => `${px(p[x]).toFixed(1)},${py(p[3]).toFixed(1)}`).join(" "),
        stroke: colour(i), "stroke-dasharray": name === "loss" ? "" : dash(i), class: name, "data-run": i}, plot);
      make("title", {}, line).textContent = `${runs[i].name}, ${name}`;
      if (name === "val_loss" || points.length < 2) for (const p of points)
        make("circle", {cx: px(p[x]), cy: py(p[3]), r: 2.5, fill: colour(i)}, plot);
    }
  }
  form.onsubmit = event => event.preventDefault();
  form.oninput = draw;
  window.onresize = draw;
  form.all.onclick = () => { const on = boxes.some(box => !box.checked); boxes.forEach(box => { box.checked = on; });
    draw(); };
  const ends = runs.flatMap(run => (run.val_loss.length ? run.val_loss : run.loss).slice(-1).map(p => p[3]));
  form.log.checked = Math.min(...ends) > 0 && Math.max(...ends) > 10 * Math.min(...ends);
  draw();
})();
"""
FORM = """<form id="axes"><label>loss of <select name="y"><option value="val_loss">validation</option>
<option value="loss">training, smoothed</option><option value="loss val_loss">both</option></select></label>
<label>by <select name="x"><option value="0">step</option><option value="1">token trained on</option>
<option value="2">second</option></select></label>
<label><input type="checkbox" name="log"> logarithmic</label>
<button type="button" name="all">all, or none</button></form>"""


def curves_of(runs: Sequence[FoundRun]) -> list[str]:
    """The section of curves; nothing where no run has logged a loss. Those of runs that lack a validation loss too."""
    told = []
    for run in runs:
        curves = {name: [[round(v, 5) for v in point] for point in run.curve(name)] for name in ("loss", "val_loss")}
        if any(curves.values()):
            told.append({"name": run.name, "chosen": True, **curves})
    if not told:
        return []
    data = json.dumps(told).replace("<", "\\u003c")
    form = FORM
    if not any(run["val_loss"] for run in told):
        form = form.replace('value="loss">', 'value="loss" selected>')
    return [
        "<h2>Curves</h2>",
        '<noscript><p class="faint">The curves are drawn by a script; each run has its own in loss.png.</p></noscript>',
        form,
        f'<svg id="plot" viewBox="0 0 900 380" role="img" aria-label="{escape("losses of the runs")}"></svg>',
        '<div id="legend"></div>',
        f'<script type="application/json" id="curves">{data}</script><script>{SCRIPT}</script>',
    ]
