"""Files of captions, often several of a picture: token files, tables, COCO's and Karpathy's JSON, texts in a folder.

    1.jpg#0<TAB>A dog runs.                                           Flickr8k's and Flickr30k's token files
    image,caption                                                     the header of a table: commas, tabs, | or ;
    {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "A dog runs."}]}     COCO
    {"images": [{"filename": "1.jpg", "split": "train", "sentences": [{"raw": "A dog runs."}]}]}       Karpathy's splits
    1.jpg, and 1.txt with a caption a line                            a folder

A row is a picture with all its captions, which are held in memory: some 100 MB for COCO's 600,000.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from dataset.atomic import encoded
from dataset.bad_rows import BadRow, DataError
from dataset.curation.quality import is_chinese
from dataset.pictures import SUFFIXES

PROMPTS = {"zh": "描述这张图片。", "en": "Describe the picture."}
TOKENS, TABLE, COCO, KARPATHY, FOLDER = KINDS = (
    "captions, one a line", "a table of captions", "COCO's captions", "Karpathy's captions", "texts beside pictures"
)  # fmt: skip
# names of columns, in lower case
IMAGE_COLUMNS = ("image", "image_name", "image_file", "image_path", "img", "file_name", "filename", "filepath", "file")
CAPTION_COLUMNS = ("caption", "captions", "caption_text", "comment", "sentence", "text", "description", "raw")
DELIMITERS = ("\t", ",", "|", ";")
TOKEN = re.compile(r"(?P<name>\S.*?)(?:#\w+)*#\d+")  # 1.jpg#0, 1.jpg#zh#0
DOCUMENT = re.compile(rb'\{\s*"(?:images|annotations|info|licenses|categories|type|dataset)"\s*:')
LARGEST = 1 << 30  # bytes of a JSON document
FIRST_LINE = 256 << 20  # bytes in which a line of JSONL must end to be told from a document
LONGEST = 1 << 20  # bytes of a line of a token file
TRAINING, VALIDATION, TESTING = ("train", "restval"), ("val", "dev", "validation"), ("test",)

Place = int | str  # of a caption in its file
Found = tuple[Any, Any, Any]  # as the file has them: picture, caption, split ("" for none)


class CaptionRows:
    """The pictures of a file of captions as rows {"image": name, "captions": [...], "split": name}, and its bad lines.

    A split is there where the file names one.
    """

    def __init__(self, path: Path, kind: str):
        self._rows: list[dict[str, Any] | BadRow] = []
        self._places: list[Place] = []
        of: dict[str, dict[str, Any]] = {}
        for place, found in _captions(path, kind):
            if isinstance(found, BadRow):
                self._add(place, found)
                continue
            name, caption, split = found
            if name not in of:
                of[name] = {"image": name, "captions": [], **({"split": split} if split else {})}
                self._add(place, of[name])
            of[name]["captions"].append(caption)
        if not of:
            shown = f"; e.g. {self._rows[0]}" if self._rows else ""
            raise DataError(f"{path} has no caption of a picture ({kind}){shown}: give another --data")
        self.subset = ""  # what keep() kept
        self.splits = list(dict.fromkeys(row["split"] for row in of.values() if "split" in row))

    def _add(self, place: Place, row: dict[str, Any] | BadRow) -> None:
        self._places.append(place)
        self._rows.append(row)

    def __len__(self) -> int:
        return len(self._rows)

    def number(self, index: int) -> Place:
        """The line, or the picture's place in a JSON document, or its name, of the row's first caption."""
        return self._places[index]

    def read(self, index: int) -> dict[str, Any]:
        """The row. BadRow for a line that holds no caption."""
        row = self._rows[index]
        if isinstance(row, BadRow):
            raise row
        return row

    def text(self, index: int) -> bytes:
        """The row as a line of JSON."""
        return encoded(json.dumps(self.read(index), ensure_ascii=False))

    def keep(self, subset: str, path: Path) -> None:
        """Keep the rows of a subset: a split's name, several joined by +, or a file that lists pictures, one a line.

        Bad lines stay, as nobody knows where they belong. DataError where no picture is left.
        """
        wanted = _listed(Path(subset)) if subset not in self.splits and Path(subset).is_file() else None
        column, values = ("image", wanted) if wanted is not None else ("split", set(subset.split("+")))
        kept = [i for i, row in enumerate(self._rows) if isinstance(row, BadRow) or row.get(column) in values]
        if all(isinstance(self._rows[i], BadRow) for i in kept):
            splits = f"it has {', '.join(self.splits)}" if self.splits else "it names no splits"
            raise DataError(f"{path}@{subset} has no picture: {splits}; give one of these, or a file that lists "
                            "pictures, a name a line")  # fmt: skip
        self.subset = subset
        self._rows, self._places = [self._rows[i] for i in kept], [self._places[i] for i in kept]


def captions_kind(path: Path, head: bytes) -> str:
    """The kind of captions file that begins with `head`, one of KINDS; "" if it is none."""
    if path.is_dir():
        return FOLDER if any(picture.with_suffix(".txt").is_file() for picture in _pictures(path)) else ""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if DOCUMENT.match(text):
        return _document_kind(path)
    first, *rest = text.decode("utf-8", "replace").splitlines() or [""]
    if first[:1] in ("{", "["):
        return ""
    if any(TOKEN.fullmatch(line.partition("\t")[0]) and "\t" in line for line in (first, *rest)):
        return TOKENS
    return TABLE if _columns(first) else ""


def default_subset(splits: Collection[str], use: str) -> str:
    """The splits of a file for 'train', 'val' or 'test', joined by +: restval trains too, without test val is tested.

    "" where it has none for it.
    """
    wanted = {"train": (TRAINING,), "val": (VALIDATION,), "test": (TESTING, VALIDATION)}[use]
    found = ([split for split in splits if split in names] for names in wanted)
    return "+".join(next(filter(None, found), []))


def prompt_for(captions: Collection[str]) -> str:
    """What a picture's captions answer, in their language."""
    return PROMPTS["zh" if any(map(is_chinese, captions)) else "en"]


def _captions(path: Path, kind: str) -> Iterator[tuple[Place, Found | BadRow]]:
    for place, found in READERS[kind](path):
        if not isinstance(found, BadRow):
            name, caption, split = found
            if not isinstance(name, str) or not name:
                found = BadRow("caption has no picture", f"found {name!r:.40}")
            elif not isinstance(caption, str) or not caption.strip():
                found = BadRow("caption is empty", f"of {name!r:.80}")
            else:
                found = name, caption.strip(), split if isinstance(split, str) else ""
        yield place, found


def _token_lines(path: Path) -> Iterator[tuple[int, Found | BadRow]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
            except UnicodeDecodeError as error:
                yield number, BadRow("row is not UTF-8", str(error)[:80])
                continue
            name, tab, caption = text.partition("\t")
            picture = TOKEN.fullmatch(name.strip())
            if tab and picture:
                yield number, (picture["name"], caption, "")
            elif text.strip():
                yield number, BadRow("line is no caption", f"{text[:60]!r}, expected 1.jpg#0<TAB>A dog runs.")


def _table_rows(path: Path) -> Iterator[tuple[int, Found | BadRow]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header = file.readline()
        columns = _columns(header)
        assert columns is not None  # as the file was recognised by it
        delimiter, image, caption, split = columns
        rows = csv.reader((line.replace("\0", "�") for line in file), delimiter=delimiter, skipinitialspace=True)
        while True:
            try:
                row = [cell.strip() for cell in next(rows)]
            except StopIteration:
                return
            except csv.Error as error:
                yield rows.line_num + 1, BadRow("row cannot be read", str(error)[:80])
                continue
            if any(re.search("[\udc80-\udcff]", cell) for cell in row):
                yield rows.line_num + 1, BadRow("row is not UTF-8")
            elif len(row) > max(image, caption):
                yield rows.line_num + 1, (row[image], row[caption], row[split] if -1 < split < len(row) else "")
            elif any(row):
                yield rows.line_num + 1, BadRow("row is too short", f"found {len(row)} columns")


def _columns(header: str) -> tuple[str, int, int, int] | None:
    """(delimiter, columns of image, caption and split, -1 without one) of a table's first line; None if it is none."""
    for delimiter in DELIMITERS:
        names = [name.strip().strip('"').lower() for name in header.strip().split(delimiter)]
        image, caption, split = (
            next((names.index(name) for name in known if name in names), -1)
            for known in (IMAGE_COLUMNS, CAPTION_COLUMNS, ("split",))
        )
        if image >= 0 and caption >= 0:
            return delimiter, image, caption, split
    return None


def _document_kind(path: Path) -> str:
    """COCO or Karpathy for one JSON document with images, "" for JSONL, whose first line is a value of its own."""
    with path.open("rb") as file:
        line = file.readline(FIRST_LINE)
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        if line.rstrip().endswith(b"}") and line.endswith(b"\n"):
            return ""  # a damaged row
        document = _document(path)
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        return ""
    if isinstance(document.get("annotations"), list):
        return COCO
    return KARPATHY if any(isinstance(image, dict) and "sentences" in image for image in images) else ""


def _document(path: Path) -> Any:
    if (size := path.stat().st_size) > LARGEST:
        raise DataError(f"{path}: a JSON document of {size:,} bytes, at most {LARGEST:,} are read: give JSONL")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({str(error)[:120]}); expected COCO's or Karpathy's captions") from error


def _coco(path: Path) -> Iterator[tuple[int, Found | BadRow]]:
    document = _document(path)
    names = {
        image["id"]: image.get("file_name")
        for image in document["images"]
        if isinstance(image, Mapping) and isinstance(image.get("id"), (int, str))
    }
    for number, one in enumerate(document["annotations"]):
        known = isinstance(one, Mapping) and isinstance(one.get("image_id"), (int, str))
        if not known or one["image_id"] not in names:
            yield number, BadRow("annotation has no image", f"{one!r:.80}")
        else:
            yield number, (names[one["image_id"]], one.get("caption"), "")


def _karpathy(path: Path) -> Iterator[tuple[int, Found | BadRow]]:
    for number, image in enumerate(_document(path)["images"]):
        sentences = image.get("sentences") if isinstance(image, Mapping) else None
        if not isinstance(sentences, list):
            yield number, BadRow("image has no sentences", f"{image!r:.80}")
            continue
        folder, name = image.get("filepath"), image.get("filename")
        path_of = f"{folder}/{name}" if isinstance(folder, str) and folder and isinstance(name, str) else name
        for sentence in sentences:
            raw = sentence.get("raw") if isinstance(sentence, Mapping) else None
            yield number, (path_of, raw, image.get("split") or "")


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES)


def _folder(path: Path) -> Iterator[tuple[str, Found | BadRow]]:
    for picture in _pictures(path):
        try:
            lines = [line for line in picture.with_suffix(".txt").read_text("utf-8-sig").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            yield picture.name, BadRow("picture has no text beside it", str(error)[:80])
            continue
        yield from ((picture.name, (picture.name, line, "")) for line in lines or [""])


def _listed(file: Path) -> set[str]:
    """The names in a file, one a line; DataError if it is no text."""
    try:
        return {line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()}
    except ValueError as error:
        raise DataError(f"{file} is not UTF-8 ({error}); expected the names of pictures, one a line") from error


READERS: dict[str, Callable[[Path], Iterator[tuple[Place, Found | BadRow]]]] = {
    TOKENS: _token_lines, TABLE: _table_rows, COCO: _coco, KARPATHY: _karpathy, FOLDER: _folder
}  # fmt: skip
