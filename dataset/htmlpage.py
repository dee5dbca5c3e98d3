"""What all HTML pages share: one file that opens offline, light or dark, wide or narrow; lists in parts."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dataset.atomic import encoded, replacing

PART = 30  # entries of a list that are shown at once
# Nothing is fetched and nothing sent, whatever a page holds.
POLICY = "default-src 'none';img-src data: file: 'self';style-src 'unsafe-inline';script-src 'unsafe-inline'"
STYLE = """
:root{color-scheme:light dark;--back:#fff;--ink:#1c1d20;--faint:#6a6d75;--line:#8884;--soft:#8881;--link:#2459b8;
--good:#2c7a3f;--bad:#c02a2a;--bar:#4a7ac9;--bar2:#9aa0aa}
@media(prefers-color-scheme:dark){:root{--back:#16171a;--ink:#e6e6e8;--faint:#a0a3ab;--link:#8ab4ff;--good:#63c07a;
--bad:#ff8080;--bar:#6c9cf0;--bar2:#767b85}}
*{box-sizing:border-box}
body{font:16px/1.6 system-ui,"PingFang SC","Microsoft YaHei","Noto Sans CJK SC","WenQuanYi Micro Hei",sans-serif;
max-width:1080px;margin:1.5rem auto 4rem;padding:0 1rem;background:var(--back);color:var(--ink);overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.3;margin:.5rem 0 .75rem} h2{font-size:1.15rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:0 0 .25rem;font-weight:600} p{margin:.25rem 0} a{color:var(--link)}
pre{background:var(--soft);border-radius:8px;padding:.8rem 1rem;overflow-x:auto;font-size:13px;line-height:1.5}
code{font-size:13px} summary{cursor:pointer} .faint,.id{color:var(--faint);font-size:14px} .text{white-space:pre-wrap}
nav{font-size:14px;display:flex;flex-wrap:wrap;gap:.15rem .9rem} nav:empty{display:none} nav b{font-weight:600}
article{display:flex;gap:1.25rem;padding:1rem 0;border-top:1px solid var(--line)} article[hidden]{display:none}
article>div:last-child{flex:1;min-width:0} .pictures{display:flex;flex-direction:column;gap:.5rem;flex:none}
article img{width:224px;height:224px;object-fit:contain;flex:none;border-radius:6px;background:var(--soft)}
mark{border-radius:3px;padding:0 2px;color:inherit;background:#8883}
mark.right{background:#3a35} mark.wrong{background:#e335;text-decoration:line-through}
mark::after{font-size:.7em;vertical-align:super;margin-left:1px}
mark.right::after{content:"✓";color:var(--good)} mark.wrong::after{content:"✗";color:var(--bad)}
mark.open::after{content:"?";color:var(--faint)}
.good{color:var(--good)} .bad{color:var(--bad)} .errors{margin:.25rem 0;padding:0;list-style:none;font-size:14px}
.wide{overflow-x:auto;overflow-wrap:normal}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th{font-weight:600;text-align:left} th,td{padding:.25rem .8rem .25rem 0;vertical-align:top}
tr+tr>*{border-top:1px solid var(--line)} .scores{width:100%} .scores td{min-width:6.5rem}
.bar{display:block;position:relative;height:7px;min-width:64px;margin:2px 0 4px;border-radius:2px;
background:var(--soft)}
.bar i,.bar b{position:absolute;top:0;bottom:0;border-radius:2px}
.bar i{left:0;background:var(--bar)} .two td+td+td .bar i{background:var(--bar2)}
.bar b{top:2px;height:3px;background:var(--ink);min-width:2px}
.bar b::before,.bar b::after{content:"";position:absolute;top:-3px;height:9px;width:1px;background:var(--ink)}
.bar b::before{left:0} .bar b::after{right:0}
form{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:center;font-size:14px;padding:.6rem 0}
select,input,button{font:inherit;max-width:100%} label{max-width:100%}
.sign{font:11px/1.4 ui-monospace,Menlo,Consolas,monospace;color:var(--faint)}
@media(max-width:640px){article{flex-direction:column;gap:.6rem} article img{max-width:100%}
.scores th,.scores td{padding-right:.5rem;font-size:13px} .scores td{min-width:5.5rem}}
"""
# Filters, sorts and pages the entries of #entries; what is chosen stands in the address, so that it can be linked.
SCRIPT = """
(() => {
  const box = document.getElementById("entries"), form = document.getElementById("controls");
  const size = +box.dataset.part, all = [...box.children].map((node, place) => ({node, place,
    tags: JSON.parse(node.dataset.tags), values: JSON.parse(node.dataset.values)}));
  const choice = () => new URLSearchParams(location.hash.slice(1));
  function show() {
    const now = choice(), tag = now.get("show") || "", words = (now.get("find") || "").toLowerCase();
    const sort = now.get("sort") || "", sign = (sort[0] === "-" ? -1 : 1) * (now.get("best") ? -1 : 1);
    const kept = all.filter(one => (!tag || one.tags.includes(tag))
      && (!words || one.node.textContent.toLowerCase().includes(words)));
    const value = one => one.values[sort.slice(1)];
    if (sort) kept.sort((a, b) => (value(a) === undefined) - (value(b) === undefined)
      || sign * (value(a) - value(b)) || a.place - b.place);
    const parts = Math.max(1, Math.ceil(kept.length / size));
    const part = Math.min(parts, Math.max(1, +now.get("part") || 1));
    const shown = kept.slice((part - 1) * size, part * size);
    all.forEach(one => { one.node.hidden = true; });
    shown.forEach(one => { one.node.hidden = false; box.append(one.node); });
    for (const name of ["show", "sort", "find"]) if (form[name]) form[name].value = now.get(name) || "";
    if (form.best) form.best.checked = !!now.get("best");
    const from = (part - 1) * size + 1;
    const text = kept.length ? `${from} to ${from + shown.length - 1} of ${kept.length}` : "none";
    document.querySelectorAll(".parts").forEach(place => {
      place.replaceChildren();
      const add = (label, to) => {
        const button = document.createElement("button");
        button.textContent = label; button.disabled = to < 1 || to > parts;
        button.onclick = () => { set({part: to}); window.scrollTo(0, form.offsetTop); };
        place.append(button);
      };
      if (parts > 1) add("\\u2039 back", part - 1);
      place.append(` ${text} `);
      if (parts > 1) add("on \\u203a", part + 1);
    });
  }
  function set(changes) {
    const now = choice();
    for (const [name, value] of Object.entries(changes)) value ? now.set(name, value) : now.delete(name);
    history.replaceState(null, "", "#" + now);
    show();
  }
  form.onsubmit = event => event.preventDefault();
  form.oninput = ({target}) => set({[target.name]: target.type === "checkbox" ? (target.checked ? "1" : "")
    : target.value, part: ""});
  window.onhashchange = show;
  show();
})();
"""


@dataclass(frozen=True)
class Entry:
    """One entry of a list: its HTML, the tags to filter by, the values to sort by."""

    inside: str
    tags: tuple[str, ...] = ()
    values: Mapping[str, float] | None = None
    css: str = ""


def escape(text: object) -> str:
    """Text for HTML, in attributes too."""
    return html.escape(str(text), quote=True)


def entry_list(entries: Iterable[Entry], worst_high: Sequence[str] = ()) -> list[str]:
    """The entries PART at a time, with a form to filter them by tag and by text and to sort them by value.

    worst_high: the values of which a high one is bad; sorted by a value, the worst entry comes first.
    """
    articles: list[str] = []
    tags: Counter[str] = Counter()
    names: dict[str, set[float]] = {}
    for number, one in enumerate(entries):
        tags.update(dict.fromkeys(one.tags, 1))
        for name, value in (one.values or {}).items():
            names.setdefault(name, set()).add(value)
        data = f"data-tags='{escape(json.dumps(one.tags))}' data-values='{escape(json.dumps(one.values or {}))}'"
        hidden = " hidden" if number >= PART else ""
        articles.append(f'<article class="{escape(one.css)}" {data}{hidden}>{one.inside}</article>')
    if not articles:
        return []
    fields = []
    if tags:
        options = [f'<option value="">all ({len(articles):,})</option>']
        options += [f'<option value="{escape(tag)}">{escape(tag)} ({count:,})</option>' for tag, count in tags.items()]
        fields.append(f'<label>show <select name="show">{"".join(options)}</select></label>')
    sorting = [name for name, values in names.items() if len(values) > 1]
    if sorting:
        options = ['<option value="">as they come</option>']
        options += [f'<option value="{"-" if name in worst_high else "+"}{escape(name)}">{escape(name)}</option>'
                    for name in sorting]  # fmt: skip
        fields.append(f'<label>sort by <select name="sort">{"".join(options)}</select></label>')
        fields.append('<label><input type="checkbox" name="best"> best first</label>')
    if len(articles) > 1:
        fields.append('<label>find <input name="find" size="12"></label>')
    form = f'<form id="controls">{"".join(fields)}<span class="parts"></span></form>'
    plain = '<noscript><style>article[hidden]{display:flex}#controls{display:none}</style></noscript>'
    body = f'<div id="entries" data-part="{PART}">\n' + "\n".join(articles) + "\n</div>"
    return [form, plain, body, '<p class="parts"></p>', f"<script>{SCRIPT}</script>"]


def write_html(path: Path, title: str, parts: Iterable[str], head: str = "", style: str = "") -> None:
    """Write one page atomically: the parts below each other, with a title. head, style: more of each."""
    page = (
        '<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"{head}<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(parts) + "\n</body></html>\n"
    )  # fmt: skip
    with replacing(path) as file:
        file.write(encoded(page))


def picture_element(image: Image.Image | None, alt: str = "", size: int = 336) -> str:
    """An img element with the picture inline; "" without one."""
    if image is None:
        return ""
    return f'<img alt="{escape(alt)}" loading="lazy" src="{data_uri(image, size, 82)}">'


def data_uri(image: Image.Image, size: int, quality: int) -> str:
    """The image as inline data: a JPEG of at most `size` pixels a side."""
    small = image.convert("RGB")
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return inline("image/jpeg", buffer.getvalue())


def inline(kind: str, content: bytes) -> str:
    """A file's content as a data URI, so that a page needs no file beside it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
