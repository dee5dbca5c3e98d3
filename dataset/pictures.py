"""Untrusted pictures to RGB images: encoded bytes, files or scenes to draw; BadImage where that fails."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin

from dataset.bad_rows import BadImage, DataError
from dataset.preprocess import PreprocessSpec, preprocess

if TYPE_CHECKING:
    from dataset.record import Picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 80_000_000  # 240 MB as RGB; larger JPEGs are decoded downscaled, other formats rejected
# the picture book's modules that draw nothing: they write texts, sample scenes, or are commands
WRITES_TEXT = ("book", "captions", "captions_en", "captions_zh", "checklists", "contact", "corpus", "questions",
               "sft_scenes", "telling", "words", "world")  # fmt: skip
SCENE_SIZE = 128  # side in pixels, by default
# decides which scenes are drawn at twice the size; a constant, so that editing the drawing code does not change it
SCALE_SALT = "3f309333f8558f811f12605cf9160bf764dc5949ae106f32e52a213448b74479"


def open_picture(picture: Picture, size_hint: int | None = None) -> Image.Image:
    """Decode to RGB: first frame, upright, transparency on white. BadImage where that fails.

    size_hint: side in pixels at which a Scene is drawn; files and bytes keep their own size.
    """
    if isinstance(picture, Path):
        with _opened(picture) as file:
            return _decode(file, str(picture))
    if isinstance(picture, bytes):
        if not picture:
            raise BadImage("image has zero bytes")
        return _decode(io.BytesIO(picture), f"{len(picture)} bytes")
    from dataset.picturebook.drawing.picture import draw

    return draw(picture, size_hint or SCENE_SIZE)


def open_for(picture: Picture, spec: PreprocessSpec) -> Image.Image:
    """The picture as input to a model that takes `spec`, before resizing.

    Half of the scenes are drawn at twice the size, so that training sees resampled edges too, as image files have them.
    """
    size = max(spec.shape)
    if isinstance(picture, (Path, bytes)):
        return open_picture(picture, size)
    digest = hashlib.sha256(f"scene {SCALE_SALT} {picture!r}".encode()).hexdigest()
    return open_picture(picture, size * (1 + int(digest[0], 16) % 2))


def load_pixels(pictures: Sequence[Picture], spec: PreprocessSpec) -> np.ndarray:
    """Load and preprocess pictures: (P, 3, H, W) float32; BadImage for the first that cannot be read."""
    height, width = spec.shape
    pixels = np.empty((len(pictures), 3, height, width), np.float32)
    for row, picture in enumerate(pictures):
        pixels[row] = preprocess(open_for(picture, spec), spec)
    return pixels


def resolve_image_path(root: Path, name: str) -> Path:
    """Resolve the image name of a row inside root; BadImage if it leads out of root or does not exist.

    Only the name is checked: a symlink in the folder may point elsewhere.
    """
    if "://" in name or name.startswith("data:"):
        raise BadImage("image is a URL", f"{name[:80]!r}: download it and give the file name")
    folder = os.path.abspath(root)
    path = os.path.normpath(os.path.join(folder, name))
    if os.path.commonpath([folder, path]) != folder:
        raise BadImage("image path leaves the image folder", f"{name!r} is not inside {root}")
    try:
        size = os.stat(path).st_size if os.path.isfile(path) else None
    except (OSError, ValueError) as error:  # name too long, or with a NUL byte
        raise BadImage("image file cannot be read", f"{name[:80]!r}: {error}") from error
    if size is None:
        raise BadImage("image file is missing", f"{name!r} is not in {root}; name the folder with --images")
    if size == 0:
        raise BadImage("image has zero bytes", name)
    return Path(path)


def picture_key(picture: Picture) -> str:
    """Content hash of a picture, 32 hex digits: of its bytes, or of the scene's facts and the drawing code."""
    digest = hashlib.sha256()
    if isinstance(picture, Path):
        with _opened(picture) as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    elif isinstance(picture, bytes):
        digest.update(picture)
    else:
        digest.update(f"scene {_drawing_code()} {picture!r}".encode())
    return digest.hexdigest()[:32]


def picture_sample(picture: Picture) -> bytes:
    """What tells a picture from another without reading all of it: of a file its size, first and last KiB."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).digest()
    if not isinstance(picture, Path):
        return repr(picture).encode()
    with _opened(picture) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1024, 0))
        last = file.read()
        file.seek(0)
        return str(size).encode() + file.read(1024) + last


@lru_cache(maxsize=1)
def _drawing_code() -> str:
    """Hash of the drawing code, so that cached features of older drawings are not reused."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "picturebook").rglob("*.py")):
        if path.stem not in WRITES_TEXT:
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, opened to read; BadImage where that fails, here or later."""
    try:
        if path.stat().st_size == 0:
            raise BadImage("image has zero bytes", str(path))
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise BadImage("image file is missing", str(path)) from error
    except OSError as error:
        raise BadImage("image file cannot be read", f"{path}: {error.strerror or error}") from error


def _decode(file: BinaryIO, name: str) -> Image.Image:
    try:
        magic = file.read(3)
        file.seek(0)
        # JPEGs bypass Pillow's size limit, as draft() can downscale them
        image = JpegImagePlugin.JpegImageFile(file) if magic == b"\xff\xd8\xff" else Image.open(file)
        if magic == b"\xff\xd8\xff":
            _check_jpeg(image, file, name)
        if image.width * image.height > MAX_PIXELS:
            image.draft(None, _allowed(image.size))  # JPEG only: decodes at 1/2, 1/4 or 1/8
        if image.width * image.height > MAX_PIXELS:
            raise BadImage("image is too large", f"{name}: {image.width}×{image.height} pixels, at most "
                           f"{MAX_PIXELS:,} are supported: scale it down")  # fmt: skip
        image.load()
        return _to_rgb(_upright(image))
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("image is too large", f"{name}: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise BadImage("not an image", name) from error
    except Exception as error:  # Pillow's decoders raise all kinds of errors on damaged files
        raise BadImage("image is damaged", f"{name}: {error}") from error


def _check_jpeg(image: Image.Image, file: BinaryIO, name: str) -> None:
    """BadImage for a JPEG that is too large to decode, or whose size its content cannot fill.

    A progressive one is decoded as a whole before it is scaled down, and once more for each of its scans, 10 as a rule.
    No coding needs less than a bit for 64 pixels.
    """
    pixels, place = image.width * image.height, file.tell()  # where the first scan begins
    length = file.seek(0, os.SEEK_END) - place - 2  # without the marker of the end
    file.seek(place)
    size = f"{image.width}×{image.height} pixels"
    if image.info.get("progressive"):
        scans = 1 + sum(block.count(b"\xff\xda") for block in iter(lambda: file.read(1 << 20), b""))
        file.seek(place)
        if pixels > MAX_PIXELS or pixels * scans > 20 * MAX_PIXELS:
            raise BadImage("image is too large", f"{name}: progressive, {scans} scans of {size}: scale it down")
    if pixels > 512 * max(length, 0):
        raise BadImage("image is damaged", f"{name}: {length} bytes of content for {size}")


def _allowed(size: tuple[int, int]) -> tuple[int, int]:
    """The largest half, quarter or eighth of a size within MAX_PIXELS (an eighth if none is)."""
    width, height = size
    divisor = next((d for d in (2, 4, 8) if -(-width // d) * -(-height // d) <= MAX_PIXELS), 8)
    return max(width // divisor, 1), max(height // divisor, 1)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return image  # the EXIF orientation is damaged, the picture is not


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit and float grayscale to 8 bits. Pillow's own conversion would clip all above 255 to white."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    top = float(values.max(initial=0))
    if image.mode.startswith("I;16") or top > 255:
        scale = 255 / 65535 if top <= 65535 else 255 / top
    else:
        scale = 255.0 if image.mode == "F" and top <= 1 else 1.0
    return Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder by name; DataError where there are none."""
    if not folder.is_dir():
        raise DataError(f"--images {folder}: no such folder; give the folder that holds the pictures")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"--images {folder}: no picture in it; expected files that end in {' '.join(SUFFIXES)}")
    return files
