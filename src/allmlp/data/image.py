"""From an image file to uint8 RGB `(H, W, 3)`, whatever the file holds; what cannot be shown faithfully is refused.

Pillow decodes. Where it leaves a choice, or would do something else without a word:
- 16-bit grey is scaled (65535 becomes 255; Pillow's own conversion clips at 255). The whole range is scaled, never the
  range of one image, so that brightness stays comparable. Colour with 16 bits keeps its upper 8 (Pillow's reader).
- Integers of 32 bits and floats have no agreed range. The smallest of 0..1 (floats only), 0..255 and 0..65535 that
  holds all values is taken; negative, larger or non-finite values are refused.
- Transparency (alpha, palette, colour key) is composited over white.
- The EXIF orientation is applied. Colour profiles are ignored, as is usual in this field.
- Of an animation or a file of many pages the first is taken.
- The size is checked in the header, before anything is decoded. Pillow's own guard writes warnings and has its limit
  in a global, so its readers are called directly. They are a fixed list: no PostScript, nothing that runs a program.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from allmlp.errors import BadData, BadImage

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 200_000_000  # the largest phone photographs (16320 x 12240) pass; decoded, that is 0.6 GB

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "QOI")  # Pillow's names
IMAGE_EXTENSIONS = frozenset({  # of files that are taken for images in a folder; the content decides how they are read
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".ico", ".qoi",
})

WHITE = (255, 255, 255, 255)
ORIENTATION = 0x0112  # the EXIF tag
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Decoded:
    """An image and what its file was: Pillow's `format` and `mode`, more than 8 bits per channel (`deep`), more than
    one frame or page (`animated`), turned or mirrored by its EXIF orientation (`turned`)."""

    pixels: np.ndarray
    format: str
    mode: str
    deep: bool
    animated: bool
    turned: bool


def open_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The image in a file, uint8 RGB `(H, W, 3)`. Raises `BadData`, one line with the file and the reason."""
    return examine_image(path, max_pixels).pixels


def decode_image(content: bytes, name: str = "image", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The same from the bytes of a file; `name` stands in the error."""
    return examine_bytes(content, name, max_pixels).pixels


def examine_bytes(content: bytes, name: str = "image", max_pixels: int = MAX_PIXELS) -> Decoded:
    """The same with what the file was."""
    try:
        return _decode(io.BytesIO(content), max_pixels)
    except BadData as error:
        raise BadImage(f"{name}: {error}") from None


def examine_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Decoded:
    """The image in a file with what the file was. Raises `BadData` like `open_image`."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a folder; or a pipe, on which reading would wait for ever
            raise BadData("not a file")
        with open(path, "rb") as file:
            return _decode(file, max_pixels)
    except BadData as error:
        raise BadImage(f"{path}: {error}") from None
    except OSError as error:
        raise BadImage(f"{path}: cannot be read: {error.strerror or error}") from None


def _decode(file: IO[bytes], max_pixels: int) -> Decoded:
    start = file.read(32)
    if not start:
        raise BadData("an empty file (0 bytes)")
    try:
        image = _identify(file, start)
        if image is None:
            raise BadData(_what_else(start))
        width, height = image.size
        if width * height > max_pixels:
            raise BadData(f"{width} x {height} pixels, more than the limit of {max_pixels}; make it smaller first")
        return _read(image)
    except BadData:
        raise
    except Exception as error:  # a reader given a damaged file may raise anything at all
        raise BadData(f"broken or truncated ({' '.join(str(error).split())[:120] or type(error).__name__})") from None


def _identify(file: IO[bytes], start: bytes) -> "ImageFile | None":
    """The file with its header read, by the first reader that takes it; None if there is none."""
    from PIL import Image, JpegImagePlugin

    Image.init()
    damage: Exception | None = None
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or accept is None or accept(start[:16]) is not True:
            continue
        if name == "JPEG":  # not the factory, which looks for further pictures after the first
            factory = JpegImagePlugin.JpegImageFile
        try:
            file.seek(0)
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError) as error:  # Pillow's ways to say: not mine
            damage = error
    if damage is not None:
        raise damage
    return None


def _what_else(start: bytes) -> str:
    if start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS:
        return "a HEIC image, which is not read; convert it, for example `magick photo.heic photo.jpg`"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "text (a web page or SVG), not an image"
    return "not an image of a known format (accepted: JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, JPEG 2000, PPM, ICO, QOI)"


def _read(image: "ImageFile") -> Decoded:
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    mode, form = image.mode, image.format or ""
    deep = mode.startswith("I") or mode == "F" or any(";16" in str(tile[3]) for tile in image.tile)
    # Pillow turns a TIFF itself while it loads it, and then forgets that it did.
    turned_tiff = form == "TIFF" and getattr(image, "tag_v2", {}).get(ORIENTATION) in turns
    animated = _is_animated(image)
    image.load()
    orientation = _orientation(image)
    rgb = _to_rgb(image)
    if orientation in turns:
        rgb = rgb.transpose(turns[orientation])
    return Decoded(np.array(rgb), form, mode, deep, animated, turned_tiff or orientation in turns)


def _is_animated(image: "ImageFile") -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame; the first may be whole
        return True


def _orientation(image: "Image.Image") -> int | None:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF data do not make a bad image
        return None


def _to_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image), (65535,))
    if image.mode == "I":  # 16 bits as PNG and PGM readers give them; in a TIFF a true 32-bit integer
        return _grey(np.asarray(image), (255, 65535) if image.format == "TIFF" else (65535,))
    if image.mode == "F":
        return _grey(np.asarray(image), (1, 255, 65535))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), coloured).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray, tops: tuple[int, ...]) -> "Image.Image":
    """Values `(H, W)` from 0 to the smallest of `tops` that holds them, scaled to 0..255 and rounded."""
    from PIL import Image

    low, high = values.min(), values.max()  # NaN if there is one, which no `top` holds
    top = next((top for top in tops if high <= top), None)
    if top is None or low < 0:
        ranges = " or ".join(f"0 to {top}" for top in tops)
        raise BadData(f"grey values from {low:g} to {high:g}, of which the brightness is unknown; rescale to {ranges}")
    return Image.fromarray(np.rint(values.astype(np.float32) * (255 / top)).astype(np.uint8)).convert("RGB")
