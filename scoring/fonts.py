"""An installed font with Chinese characters, if there is one."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import ImageFont

# Names of fonts with Chinese characters, the most legible first.
CHINESE_FONTS = ("notosanscjk", "notosanssc", "sourcehansans", "pingfang", "hiraginosansgb", "msyh", "wqy-microhei",
                 "wqy-zenhei", "stheiti", "simhei", "deng", "droidsansfallback", "arialunicode", "notoserifcjk",
                 "simsun", "songti", "uming", "ukai")  # fmt: skip
PROBE = "图狗"  # two characters that look the same in a font without Chinese


def draws_chinese(text: str) -> bool:
    """True if the text has a character that needs a Chinese font (punctuation included)."""
    return re.search("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]", text) is not None


def find_font(size: int, path: Path | None = None) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """A font of that size, and whether it has Chinese characters: `path` or an installed one, else Pillow's own."""
    for candidate in [path] if path else chinese_fonts():
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
    """Where this system keeps fonts."""
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", str(home))
        return [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts", Path(local) / "Microsoft/Windows/Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".fonts", home / ".local/share/fonts"]
