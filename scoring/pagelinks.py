"""Links between the pages of a run: each names its run in its head and has a line of links that is kept up to date."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from dataset.atomic import replacing
from dataset.htmlpage import escape

INDEX = "index.html"
INDEX_HEAD = '<meta name="glimpse-index">'
RUN = re.compile(rb'<meta name="glimpse-run" content="([^"]*)">')
LINKS = re.compile(rb'^<nav class="pages">.*</nav>$', re.MULTILINE)
NO_LINKS = '<nav class="pages"></nav>'  # the line of a page that is not linked yet
HEAD = 4096  # bytes of a page in which its run is named


def run_head(page: Path, run: Path | None) -> str:
    """What the head of a page says of its run."""
    return f'<meta name="glimpse-run" content="{escape(relative(run, page))}">' if run else ""


def relative(target: Path, page: Path) -> str:
    """The way from a page to a file or folder."""
    try:
        return Path(os.path.relpath(target.resolve(), page.resolve().parent)).as_posix()
    except ValueError:  # on another drive
        return target.resolve().as_posix()


def href(target: Path, page: Path) -> str:
    return escape(quote(relative(target, page), safe="/:.", errors="surrogateescape"))


def run_of(page: Path) -> Path | None:
    """The run that a page is about; None for a page that is not ours, or about none."""
    try:
        with page.open("rb") as file:
            found = RUN.search(file.read(HEAD))
    except OSError:
        return None
    return (page.parent / html.unescape(found[1].decode("utf-8", "replace"))).resolve() if found else None


def pages_of(run: Path, folders: Iterable[Path]) -> list[Path]:
    """The pages about a run that lie in these folders, by name."""
    files = {file.resolve() for folder in folders if folder.is_dir() for file in folder.glob("*.html")}
    return sorted((file for file in files if run_of(file) == run.resolve()), key=lambda file: (file.stem, file))


def link(pages: list[Path], run: Path) -> None:
    """Rewrite the line of links in each page of a run: the index above it, and all of the run's pages."""
    for page in pages:
        index = next((up / INDEX for up in list(page.parents)[:4] if is_index(up / INDEX)), None)
        links = [f'<a href="{href(index, page)}">all runs</a>'] if index else []
        links.append(f"<b>{escape(run.name)}</b>")
        links += [f"<b>{escape(one.stem)}</b>" if one == page else f'<a href="{href(one, page)}">{escape(one.stem)}</a>'
                  for one in pages]  # fmt: skip
        line = f'<nav class="pages">{"".join(links)}</nav>'.encode("utf-8", "backslashreplace")
        held = page.read_bytes()
        fresh = LINKS.sub(lambda _: line, held, count=1)  # noqa: B023  (called at once)
        if fresh != held:
            with replacing(page) as file:
                file.write(fresh)


def is_index(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return INDEX_HEAD.encode() in opened.read(HEAD)
    except OSError:
        return False
