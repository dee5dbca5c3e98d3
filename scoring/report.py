"""Reports: the JSON file of scores, tables side by side, a contact sheet of pictures with captions."""

from __future__ import annotations

import io
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dataset.atomic import encoded, replacing
from dataset.picturebook.questions import SAMPLINGS
from dataset.picturebook.questions import TYPES as QUESTION_TYPES
from scoring.statements import TYPES
from scoring.tasks import TURNS

# The order of a table; other metrics follow in their own order.
FIRST = ("statement_accuracy", "caption_true_share", "contradiction_share",
         *(f"pope_{name}/{sampling}" for name in ("accuracy", "yes_rate") for sampling in SAMPLINGS),
         "vqa_accuracy", *(f"vqa_accuracy/{kind}" for kind in QUESTION_TYPES),
         *(f"vqa_accuracy/turn{turn}" for turn in range(1, TURNS + 1)),
         *(f"statement_accuracy/{kind}" for kind in TYPES),
         "f1", "precision", "recall", "chair_i", "chair_s", "colour_binding", "count_accuracy", "place_accuracy",
         "side_accuracy", "order_accuracy", "relation_accuracy", "exact", "contains", "cider",
         *(f"bleu_{n}" for n in (1, 2, 3, 4)), "cider_d", "cider_plain", "rouge_l", "meteor",
         "mean_length", "stopped_share", "loop_share", "unscored_share")  # fmt: skip
# Omitted from a table that has their /random, /popular and /adversarial, or as too detailed.
OVER_ALL = ("pope_accuracy", "pope_f1", "pope_yes_rate")
DETAILS = (*(f"pope_unparsable/{sampling}" for sampling in SAMPLINGS),
           *(f"bleu_precision_{n}" for n in (1, 2, 3, 4)), "bleu_length", "training_captions", "answers")  # fmt: skip
APART = ("swapped_", "commonest_", "random_", "human_")  # prefixes of what controls.control_table shows
IN_UNITS = ("mean_length", "mean_tokens")  # lengths, not fractions
# Names of fonts with Chinese characters, the most legible first.
CHINESE_FONTS = ("notosanscjk", "notosanssc", "sourcehansans", "pingfang", "hiraginosansgb", "msyh", "wqy-microhei",
                 "wqy-zenhei", "stheiti", "simhei", "deng", "droidsansfallback", "arialunicode", "notoserifcjk",
                 "simsun", "songti", "uming", "ukai")  # fmt: skip
SHEET = 100  # pictures on a contact sheet
PROBE = "图狗"  # two characters that look the same in a font without Chinese


def write_scores(
    path: Path | str, command: str, n: int, seed: int, checkpoint: str, metrics: Mapping[str, object]
) -> None:
    """Write {"command", "n", "seed", "checkpoint", "metrics"} as JSON, atomically.

    An undefined metric (None) is null. Raises ValueError for NaN or infinity, which JSON cannot represent.
    """
    content = {"command": command, "n": n, "seed": seed, "checkpoint": checkpoint, "metrics": dict(metrics)}
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with replacing(Path(path)) as file:
        file.write(encoded(text))


def unused_name(name: str, of: Mapping[str, object]) -> str:
    """`name`, else name_2, name_3 and so on: the first whose .json is not there or holds the same values `of`."""
    for number in count(1):
        numbered = f"{name}_{number}" if number > 1 else name
        try:
            held = json.loads(Path(f"{numbered}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return numbered
        except (ValueError, RecursionError):  # not ours
            continue
        if isinstance(held, dict) and all(held.get(key) == value for key, value in of.items()):
            return numbered
    raise AssertionError("count() does not end")


def score_table(columns: Mapping[str, Mapping[str, object]], markdown: bool = False) -> str:
    """Score dicts side by side, one row per metric, as value [low, high] with its 95% interval if there is one.

    columns: title -> metrics; OVER_ALL, DETAILS and the controls APART are omitted. A metric that a column lacks is
    empty there; an undefined one is "-". A single column with blank_ metrics is split in two, the second titled
    "image blanked".
    """
    columns = columns_of(columns)
    names = table_names(columns)
    rows = [["metric", *columns]]
    rows += [[name, *(cell(metrics, name) for metrics in columns.values())] for name in names]
    return aligned(rows, markdown)


def aligned(rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Rows as a table in columns, the first as its head."""
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    line = ["-" if markdown else "─"] * len(widths)
    rows = [rows[0], [mark * width for mark, width in zip(line, widths, strict=True)], *rows[1:]]
    if markdown:
        return "\n".join("| " + " | ".join(map(_pad, row, widths)) + " |" for row in rows)
    return "\n".join("  ".join(map(_pad, row, widths)).rstrip() for row in rows)


def table_names(columns: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The metrics of a table of these columns, in its order."""
    names = [name for metrics in columns.values() for name in metrics if not name.endswith("_ci95")]
    left_out = {*DETAILS, *(name for name in OVER_ALL if f"{name}/{SAMPLINGS[0]}" in names)}
    order = {name: i for i, name in enumerate(FIRST)}
    shown = dict.fromkeys(name for name in names if name not in left_out and not name.startswith(APART))
    return sorted(shown, key=lambda name: order.get(name, len(order)))


def columns_of(columns: Mapping[str, Mapping[str, object]]) -> Mapping[str, Mapping[str, object]]:
    """The columns of a table: a single one with blank_ metrics is split in two, the second titled "image blanked"."""
    if len(columns) != 1:
        return columns
    (title, metrics), *_ = columns.items()
    blank = {name.removeprefix("blank_"): v for name, v in metrics.items() if name.startswith("blank_")}
    seen = {name: v for name, v in metrics.items() if not name.startswith("blank_")}
    return {title: seen, "image blanked": blank} if blank else {title: seen}


def cell(metrics: Mapping[str, object], name: str) -> str:
    """A metric as value [low, high], with its interval if there is one; a count (an int) as it is."""
    if name not in metrics:
        return ""
    value, interval = metrics[name], metrics.get(f"{name}_ci95")
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    digits = 1 if name.removeprefix("blank_").removeprefix("question_") in IN_UNITS else 3
    if not isinstance(interval, Sequence):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _width(text: str) -> int:
    """Terminal columns: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def contact_sheet(path: Path | str, pictures: Sequence[Image.Image], captions: Sequence[str]) -> str | None:
    """Save a grid of pictures with captions below; returns None, or a warning about what could not be drawn.

    More than SHEET pictures would make a picture that few programs open: the first are shown.
    Chinese needs an installed font that has it. Without one, a caption with Chinese is replaced by its number, and the
    warning says so: show such captions on the HTML page instead, where the browser brings the font.
    """
    if len(pictures) != len(captions) or not pictures:
        raise ValueError(f"{len(pictures)} pictures and {len(captions)} captions; expected one each, at least one")
    more = f"the sheet shows the first {SHEET} of {len(pictures):,} pictures" if len(pictures) > SHEET else ""
    pictures, captions = pictures[:SHEET], captions[:SHEET]
    cell, gap, size = 260, 12, 15  # pixels: side of a picture, space around it, font
    font, chinese = find_font(size)
    undrawn = [not chinese and draws_chinese(caption) for caption in captions]
    shown = [f"#{i + 1}" if undrawn[i] else caption for i, caption in enumerate(captions)]
    columns = min(4, len(pictures))
    wrapped = [_wrap(caption, font, cell) for caption in shown]
    line = size + 5
    sheet_rows = [range(i, min(i + columns, len(pictures))) for i in range(0, len(pictures), columns)]
    heights = [cell + 6 + line * max(len(wrapped[i]) for i in row) + gap for row in sheet_rows]
    sheet = Image.new("RGB", (gap + columns * (cell + gap), gap + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, height in zip(sheet_rows, heights, strict=True):
        for column, i in enumerate(row):
            left = gap + column * (cell + gap)
            picture = _fit(pictures[i], cell)
            sheet.paste(picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2))
            for number, text in enumerate(wrapped[i]):
                draw.text((left, top + cell + 6 + number * line), text, fill="black", font=font)
        top += height
    sheet.save(path)
    font_note = f"no font with Chinese characters on this machine: {sum(undrawn)} captions are shown as numbers"
    return "; ".join(filter(None, (more, font_note if any(undrawn) else ""))) or None


def _fit(picture: Image.Image, size: int) -> Image.Image:
    """The picture scaled to at most size pixels a side; small ones are enlarged."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return picture.convert("RGB").resize((width, height), resample)


def _wrap(text: str, font, width: int, most: int = 12) -> list[str]:
    """Lines that fit `width` pixels, broken at spaces or next to a Chinese character; at most `most`."""
    lines = [""]
    for word in _pieces(" ".join(text.split())):
        if lines[-1] and font.getlength(lines[-1] + word.rstrip()) > width:
            lines.append("")
        if len(lines) > most:
            break
        lines[-1] += word if lines[-1] else word.lstrip()
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][:-1] + "…"]
    return lines


def _pieces(text: str) -> list[str]:
    """Pieces between which a line may break: English words with their space, single Chinese characters.

    Closing punctuation stays with what it closes.
    """
    pieces = [""]
    for letter in text:
        closing = unicodedata.category(letter) in ("Po", "Pe", "Pf")
        if closing or not (draws_chinese(letter + pieces[-1]) or pieces[-1].endswith(" ")):
            pieces[-1] += letter
        else:
            pieces.append(letter)
    return pieces


def draws_chinese(text: str) -> bool:
    """True if the text has a character that needs a Chinese font (punctuation included)."""
    return re.search("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]", text) is not None


def find_font(size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """A font of that size, and whether it has Chinese characters: an installed one, else Pillow's own."""
    for candidate in chinese_fonts():
        try:
            # read here: an unusable path would make Pillow search the system's folders for the name
            font = ImageFont.truetype(io.BytesIO(candidate.read_bytes()), size)
        except OSError:
            continue  # not a font that FreeType reads
        if has_chinese(font):
            return font, True
    return ImageFont.load_default(size), False


def has_chinese(font: ImageFont.FreeTypeFont) -> bool:
    """True if two Chinese characters look different, so are not both the box of a missing glyph."""
    first, second = (font.getmask(letter) for letter in PROBE)
    return bytes(first) != bytes(second)


def chinese_fonts() -> Iterator[Path]:
    """Installed font files named like a known Chinese font, the best first."""
    files = [file for folder in font_folders() if folder.is_dir() for file in sorted(folder.rglob("*"))]
    files = [file for file in files if file.suffix.lower() in (".ttf", ".ttc", ".otf", ".otc")]
    for name in CHINESE_FONTS:
        matching = [file for file in files if file.name.lower().replace(" ", "").startswith(name)]
        yield from sorted(matching, key=lambda file: ("regular" not in file.name.lower(), "bold" in file.name.lower()))


def font_folders() -> list[Path]:
    """Where Linux, macOS and Windows keep fonts; most of these folders do not exist."""
    names = ["/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts",
             "/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts",
             os.environ.get("WINDIR", r"C:\Windows") + "/Fonts",
             os.environ.get("LOCALAPPDATA", "~") + "/Microsoft/Windows/Fonts"]  # fmt: skip
    return [Path(os.path.expanduser(name)) for name in names]  # Path's own raises where there is no home
