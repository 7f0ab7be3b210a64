"""Files of every kind, written by Pillow or by hand, against colours worked out here."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from allmlp.data.image import decode_image, examine_image, open_image
from allmlp.errors import BadData

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)
GREY = RGB[..., 0]
GREY16 = RNG.integers(0, 65536, (7, 11)).astype(np.uint16)
ALPHA = RNG.integers(0, 256, (7, 11), dtype=np.uint8)
SMALL = RGB[:4, :4]


def file(image: Image.Image, kind: str, **options) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def png(width: int, height: int, bits: int, colour: int, pixels: bytes, extra: bytes = b"") -> bytes:
    """A PNG file written from its specification; `colour` 0 grey, 2 RGB, 3 palette."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    row = len(pixels) // height
    lines = b"".join(b"\0" + pixels[i * row : (i + 1) * row] for i in range(height))
    extras = chunk(extra[:4], extra[4:]) if extra else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extras + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b""))


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def of_16_bits(values: np.ndarray) -> np.ndarray:
    """round(v * 255 / 65535), in integers."""
    return repeated((values.astype(np.int64) * 255 + 32767) // 65535)


def palette_image() -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A palette image of 4 colours, its palette and its indices."""
    palette, index = RGB[0, :4], RNG.integers(0, 4, (5, 6), dtype=np.uint8)
    image = Image.frombytes("P", (6, 5), index.tobytes())
    image.putpalette(palette.tobytes())
    return image, palette, index


PALETTE_IMAGE, PALETTE, INDEX = palette_image()
CMYK = np.stack([GREY, RGB[..., 1], RGB[..., 2], ALPHA], axis=2)

EXACT = {
    "RGB PNG": (file(Image.fromarray(RGB), "PNG"), RGB),
    "RGB BMP": (file(Image.fromarray(RGB), "BMP"), RGB),
    "RGB TIFF": (file(Image.fromarray(RGB), "TIFF"), RGB),
    "RGB TIFF, LZW": (file(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"), RGB),
    "RGB WebP, lossless": (file(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "RGB PPM": (b"P6 11 7 255\n" + RGB.tobytes(), RGB),
    "RGB, 16 bits": (png(11, 7, 16, 2, (RGB.astype(">u2") * 257).tobytes()), RGB),
    "RGB, one colour transparent": (file(Image.fromarray(np.where(GREY[..., None] > 128, RGB, 7).astype(np.uint8)),
                                         "PNG", transparency=(7, 7, 7)), np.where(GREY[..., None] > 128, RGB, 255)),
    "1 bit PNG": (file(Image.fromarray(GREY > 128), "PNG"), repeated((GREY > 128) * 255)),
    "1 bit TIFF": (file(Image.fromarray(GREY > 128), "TIFF", compression="group4"), repeated((GREY > 128) * 255)),
    "grey PNG": (file(Image.fromarray(GREY), "PNG"), repeated(GREY)),
    "grey PNG, 2 bits": (png(4, 1, 2, 0, bytes([0b00_01_10_11])), repeated(np.array([[0, 85, 170, 255]]))),
    "grey PNG, 16 bits": (png(11, 7, 16, 0, GREY16.astype(">u2").tobytes()), of_16_bits(GREY16)),
    "grey TIFF, 16 bits": (file(Image.frombytes("I;16", (11, 7), GREY16.tobytes()), "TIFF"), of_16_bits(GREY16)),
    "grey TIFF, 16 bits, big-endian": (file(Image.frombytes("I;16B", (11, 7), GREY16.byteswap().tobytes()), "TIFF"),
                                       of_16_bits(GREY16)),
    "grey PNG, 16 bits, dark": (png(2, 1, 16, 0, struct.pack(">2H", 0, 255)), repeated(np.array([[0, 1]]))),
    "grey PGM, 16 bits": (b"P5 11 7 65535\n" + GREY16.astype(">u2").tobytes(), of_16_bits(GREY16)),
    "grey PGM, 16 bits, dark": (b"P5 2 1 65535\n" + struct.pack(">2H", 0, 255), repeated(np.array([[0, 1]]))),
    "integer TIFF to 255": (file(Image.fromarray(GREY.astype(np.int32)), "TIFF"), repeated(GREY)),
    "integer TIFF to 65535": (file(Image.fromarray(GREY16.astype(np.int32)), "TIFF"), of_16_bits(GREY16)),
    "float TIFF to 1": (file(Image.fromarray(GREY / np.float32(255)), "TIFF"), repeated(GREY)),
    "float TIFF to 255": (file(Image.fromarray(GREY.astype(np.float32)), "TIFF"), repeated(GREY)),
    "float TIFF to 65535": (file(Image.fromarray(GREY16.astype(np.float32)), "TIFF"), of_16_bits(GREY16)),
    "palette PNG": (file(PALETTE_IMAGE, "PNG"), PALETTE[INDEX]),
    "palette GIF": (file(PALETTE_IMAGE, "GIF"), PALETTE[INDEX]),
    "palette PNG, one index transparent": (file(PALETTE_IMAGE, "PNG", transparency=2),
                                           np.where(INDEX[..., None] == 2, 255, PALETTE[INDEX])),
    "palette GIF, one index transparent": (file(PALETTE_IMAGE, "GIF", transparency=2),
                                           np.where(INDEX[..., None] == 2, 255, PALETTE[INDEX])),
}  # fmt: skip

ROUNDED = {  # to 1 or 2 of 255: Pillow composites and converts in integers
    "RGBA PNG": (file(Image.fromarray(np.dstack([RGB, ALPHA])), "PNG"), over_white(RGB, ALPHA)),
    "RGBA WebP": (file(Image.fromarray(np.dstack([RGB, ALPHA | 128])), "WEBP", lossless=True, exact=True),
                  over_white(RGB, ALPHA | 128)),
    "grey and alpha PNG": (file(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"), over_white(repeated(GREY), ALPHA)),
    "palette PNG, an alpha for each index": (file(PALETTE_IMAGE, "PNG", transparency=bytes([0, 90, 200, 255])),
                                             over_white(PALETTE[INDEX], np.array([0, 90, 200, 255])[INDEX])),
    "CMYK TIFF": (file(Image.frombytes("CMYK", (11, 7), CMYK.tobytes()), "TIFF"),
                  (255.0 - CMYK[..., :3]) * (255.0 - CMYK[..., 3:]) / 255),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_a_picture_of_any_kind_comes_out_as_its_rgb_values(name: str):
    content, expected = EXACT[name]
    pixels = decode_image(content)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", ROUNDED)
def test_transparency_goes_over_white_and_cmyk_becomes_rgb(name: str):
    content, expected = ROUNDED[name]
    assert np.abs(decode_image(content) - expected).max() <= 2


@pytest.mark.parametrize(("ink", "colour"), [
    ((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 255, 0), (0, 255, 0)), ((0, 0, 0, 0), (255, 255, 255)),
    ((0, 0, 0, 255), (0, 0, 0)),
])  # fmt: skip
def test_a_cmyk_jpeg_with_inverted_inks_as_adobe_writes_it_has_its_colours(ink, colour):
    content = file(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
    assert b"Adobe" in content
    assert np.abs(decode_image(content).astype(int) - colour).max() <= 3


def test_every_16_bit_value_is_scaled_to_the_nearest_of_8_bits():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode_image(png(256, 256, 16, 0, values.astype(">u2").tobytes())),
                                  of_16_bits(values))


@pytest.mark.parametrize("values", [[-0.5, 0.5], [0.0, 65536.0], [0.0, np.nan], [0.0, np.inf]])
def test_floats_of_which_nobody_knows_the_brightness_are_refused(values: list[float]):
    with pytest.raises(BadData, match="brightness is unknown; rescale to 0 to 1 or 0 to 255 or 0 to 65535"):
        decode_image(file(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF"))


UPRIGHT = {  # EXIF: where the stored rows and columns belong (TIFF 6.0, tag 274)
    1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2), 6: np.rot90(RGB, -1),
    7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB, 1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_an_image_is_turned_as_its_exif_says(kind: str, orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    (tmp_path / "image").write_bytes(file(Image.fromarray(RGB), kind, exif=exif, **lossless))
    found = examine_image(tmp_path / "image")
    assert found.pixels.shape == UPRIGHT[orientation].shape
    assert np.abs(found.pixels.astype(int) - UPRIGHT[orientation]).max() <= (4 if kind == "JPEG" else 0)
    assert found.turned == (orientation != 1)


def test_damaged_exif_does_not_make_a_bad_image():
    content = file(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0 no such thing")
    np.testing.assert_array_equal(decode_image(content), RGB)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_or_many_pages_the_first_is_taken(kind: str, tmp_path: Path):
    red, blue = (Image.new("RGB", (5, 4), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "image").write_bytes(file(red, kind, save_all=True, append_images=[blue], **options))
    found = examine_image(tmp_path / "image")
    np.testing.assert_array_equal(found.pixels, np.broadcast_to([255, 0, 0], (4, 5, 3)))
    assert found.animated


def test_a_phone_picture_with_a_second_one_behind_it_is_a_plain_jpeg(tmp_path: Path):
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    (tmp_path / "image.jpg").write_bytes(file(red, "MPO", save_all=True, append_images=[blue]))
    found = examine_image(tmp_path / "image.jpg")
    assert (found.format, found.animated) == ("JPEG", False)
    assert np.abs(found.pixels.astype(int) - [254, 0, 0]).max() <= 1


@pytest.mark.parametrize(("content", "mode", "deep"), [
    (EXACT["RGB PNG"][0], "RGB", False), (EXACT["RGB, 16 bits"][0], "RGB", True), (EXACT["palette GIF"][0], "P", False),
    (EXACT["grey PNG, 16 bits"][0], "I;16", True), (ROUNDED["CMYK TIFF"][0], "CMYK", False),
], ids=["RGB", "RGB 16", "P", "grey 16", "CMYK"])  # fmt: skip
def test_the_kind_of_a_file_is_known(content: bytes, mode: str, deep: bool, tmp_path: Path):
    (tmp_path / "x").write_bytes(content)
    found = examine_image(tmp_path / "x")
    assert (found.mode, found.deep, found.animated, found.turned) == (mode, deep, False, False)


# --- what cannot be used ---------------------------------------------------------------------------------------------

LARGE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8))
WHOLE = {
    "jpg": file(LARGE, "JPEG"), "progressive.jpg": file(LARGE, "JPEG", progressive=True), "png": file(LARGE, "PNG"),
    "gif": file(LARGE, "GIF"), "webp": file(LARGE, "WEBP"), "bmp": file(LARGE, "BMP"), "tif": file(LARGE, "TIFF"),
    "lzw.tif": file(LARGE, "TIFF", compression="tiff_lzw"), "ppm": file(LARGE, "PPM"),
}  # fmt: skip


def refusal(path: Path) -> str:
    """The reason for which a file is refused; the line starts with the file."""
    with pytest.raises(BadData) as caught:
        open_image(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some truncated TIFFs before it fails; the error is the point
@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_file_is_an_error_wherever_it_is_cut(name: str, tmp_path: Path):
    content, path = WHOLE[name], tmp_path / name
    decode_image(content)
    for share in (0.01, 0.1, 0.3, 0.5, 0.9, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        assert "broken or truncated" in refusal(path) or share == 0.01  # of which not even the header may be left


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "an empty file"),
    (b"hello, world", "not an image of a known format"),
    (b"\n<!DOCTYPE html><html>404</html>", "a web page or SVG"),
    (b'<?xml version="1.0"?><svg/>', "a web page or SVG"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image of a known format"),  # Pillow would start Ghostscript
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.* convert it, for example `magick photo.heic photo.jpg`"),
    (WHOLE["png"][:200] + bytes(50) + WHOLE["png"][250:], "broken or truncated"),
    (b"P6 0 5 255\n", "broken or truncated"),
])  # fmt: skip
def test_what_is_no_image_is_refused_with_the_reason(content: bytes, reason: str, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(content)
    assert re.search(reason, refusal(tmp_path / "a.jpg"))


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path):
    assert "No such file" in refusal(tmp_path / "missing.png")
    assert refusal(tmp_path) == "not a file"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        assert refusal(tmp_path / "pipe.png") == "not a file"


def test_the_name_stands_in_the_error_of_bytes():
    with pytest.raises(BadData, match=r"^upload 3: an empty file"):
        decode_image(b"", "upload 3")


def test_the_limit_of_pixels_can_be_set_and_is_exact():
    content = file(Image.fromarray(SMALL), "PNG")
    np.testing.assert_array_equal(decode_image(content, max_pixels=16), SMALL)
    with pytest.raises(BadData, match="4 x 4 pixels, more than the limit of 15"):
        decode_image(content, max_pixels=15)


def test_the_limit_is_checked_in_the_header_before_anything_is_decoded():
    with pytest.raises(BadData, match="100000 x 100000 pixels, more than the limit of 200000000"):
        decode_image(png(100_000, 100_000, 8, 0, bytes(100_000)))


@pytest.mark.parametrize("side", [9_500, 14_000])  # where Pillow warns, and where it refuses
def test_pillows_own_limit_neither_warns_nor_refuses_nor_changes(side: int):
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(BadData, match="truncated") as caught:  # the pixels are not there: only the header is read
        decode_image(png(side, side, 1, 0, bytes(side)), max_pixels=10**9)
    assert "bomb" not in str(caught.value)
    assert before == Image.MAX_IMAGE_PIXELS


@settings(max_examples=150)
@given(name=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_a_file_damaged_anywhere_gives_an_image_or_bad_data_and_nothing_else(name: str, data: st.DataObject):
    content = bytearray(WHOLE[name])
    places = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)
    for place, value in data.draw(places):
        content[place] = value
    try:
        pixels = decode_image(bytes(content), max_pixels=10**6)
    except BadData:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
