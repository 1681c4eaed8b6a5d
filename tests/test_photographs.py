from __future__ import annotations

import contextlib
import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner import PhotographError, photographs
from captioner.photographs import MAX_SIDE, Preprocessing, open_photograph, photographs_in

ORIENTATION = 0x0112


def quarters(width: int = 48, height: int = 32) -> Image.Image:
    """Red, green, blue and yellow quarters, row by row: no turn or mirroring leaves it as it is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 255, 0, 0
    pixels[: height // 2, width // 2 :] = 0, 255, 0
    pixels[height // 2 :, : width // 2] = 0, 0, 255
    pixels[height // 2 :, width // 2 :] = 255, 255, 0
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def distance(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)).mean())


def refusal(source) -> str:
    """The message with which a source is refused; every one has to be one or two short sentences."""
    with pytest.raises(PhotographError) as caught:
        open_photograph(source)
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) < 130
    assert message.count(". ") <= 1
    return message


# Orientation


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, form: str):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = quarters().transpose(undo[orientation]) if orientation in undo else quarters()
    opened = open_photograph(encoded(stored, form, exif=exif))
    assert distance(opened, quarters()) < 8
    # Saved again, it must not be turned a second time.
    assert opened.getexif().get(ORIENTATION, 1) == 1


def test_orientation_of_a_wide_grey_photograph_is_applied():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    grey = Image.fromarray(np.arange(6 * 9, dtype=np.uint16).reshape(6, 9) * 1000)
    assert open_photograph(encoded(grey, exif=exif)).size == (6, 9)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_is_no_reason_to_refuse():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\xff\xff"
    opened = open_photograph(encoded(quarters(), "JPEG", exif=exif))
    assert distance(opened, quarters()) < 8


# Modes

MODES = {
    "1": (lambda: quarters().convert("1", dither=Image.Dither.NONE), "PNG"),
    "L": (lambda: quarters().convert("L"), "PNG"),
    "LA": (lambda: quarters().convert("LA"), "PNG"),
    "P": (lambda: quarters().convert("P"), "PNG"),
    "P in GIF": (lambda: quarters().convert("P"), "GIF"),
    "RGB": (quarters, "PNG"),
    "RGB in BMP": (quarters, "BMP"),
    "RGB in WebP": (quarters, "WEBP"),
    "RGBA": (lambda: quarters().convert("RGBA"), "PNG"),
    "CMYK in JPEG": (lambda: quarters().convert("CMYK"), "JPEG"),
    "CMYK in TIFF": (lambda: quarters().convert("CMYK"), "TIFF"),
    "YCbCr in JPEG": (lambda: quarters().convert("YCbCr"), "JPEG"),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb_and_looks_the_same(name: str):
    make, form = MODES[name]
    image = make()
    for source in (encoded(image, form), image):
        opened = open_photograph(source)
        assert opened.mode == "RGB"
        assert distance(opened, image) < 8


def ramp() -> np.ndarray:
    return np.tile(np.linspace(0, 1, 32), (8, 1))


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ((ramp() * 65535).astype(np.uint16), "PNG"),
        ((ramp() * 65535).astype(np.uint16), "TIFF"),
        ((ramp() * 65535).astype(np.int32), "TIFF"),
        ((ramp() * 255).astype(np.int32), "TIFF"),
        ((ramp() * 2e6 - 1e6).astype(np.int32), "TIFF"),
        ((ramp() * 255).astype(np.float32), "TIFF"),
        (ramp().astype(np.float32), "TIFF"),
        ((ramp() * 65535).astype(np.float32), "TIFF"),
    ],
    ids=["I;16 PNG", "I;16 TIFF", "I 16 bit", "I 8 bit", "I signed", "F 0..255", "F 0..1", "F 0..65535"],
)
def test_wide_modes_keep_their_brightness(values: np.ndarray, form: str):
    opened = open_photograph(encoded(Image.fromarray(values), form))
    assert opened.mode == "RGB"
    red = np.asarray(opened)[:, :, 0]
    assert np.abs(red - ramp() * 255).max() <= 1.5


def test_float_photograph_with_a_hole_is_refused():
    values = ramp().astype(np.float32)
    values[3, 3] = np.nan
    assert "damaged" in refusal(encoded(Image.fromarray(values), "TIFF"))


def see_through(mode: str) -> bytes:
    """The left half of a black photograph is fully transparent."""
    image = Image.new("RGBA", (16, 8), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 8))
    if mode == "P":
        palette = Image.new("P", (16, 8), 1)
        palette.putpalette([10, 200, 30, 0, 0, 0])
        palette.paste(0, (0, 0, 8, 8))
        return encoded(palette, transparency=0)
    if mode == "P with a table":
        palette = Image.new("P", (16, 8), 1)
        palette.putpalette([10, 200, 30, 0, 0, 0])
        palette.paste(0, (0, 0, 8, 8))
        return encoded(palette, transparency=b"\x00\xff")
    if mode == "RGB with a key":
        keyed = Image.new("RGB", (16, 8), (0, 0, 0))
        keyed.paste((1, 2, 3), (0, 0, 8, 8))
        return encoded(keyed, transparency=(1, 2, 3))
    return encoded(image.convert(mode))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P with a table", "RGB with a key"])
def test_transparency_becomes_white(mode: str):
    opened = open_photograph(see_through(mode))
    assert opened.getpixel((2, 4)) == (255, 255, 255)
    assert opened.getpixel((13, 4)) == (0, 0, 0)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(form: str):
    later = [Image.new("RGB", (48, 32), colour) for colour in ("black", "white")]
    data = encoded(quarters(), form, save_all=True, append_images=later)
    with Image.open(io.BytesIO(data)) as written:
        assert written.n_frames == 3
    assert distance(open_photograph(data), quarters()) < 8


def test_ordinary_photographs_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_photograph(see_through("P with a table"))
        open_photograph(encoded(quarters(), "JPEG"))
        open_photograph(encoded(quarters().convert("P"), "GIF"))


# Sources


def test_path_text_bytes_image_and_array_are_the_same_photograph(tmp_path: Path):
    path = tmp_path / "photo.png"
    quarters().save(path)
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), Image.open(path), quarters(), np.asarray(quarters())):
        assert distance(open_photograph(source), quarters()) == 0


def test_name_of_a_file_does_not_matter(tmp_path: Path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(quarters(), "PNG"))
    assert distance(open_photograph(path), quarters()) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_arrays_of_every_dtype_and_shape(dtype: type, channels: int | None):
    top = 1.0 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    array = np.full((5, 7) if channels is None else (5, 7, channels), top).astype(dtype)
    array[:, 3:] = 0
    if channels == 4:
        array[:, :, 3] = top
    opened = open_photograph(array[:, ::-1])  # not contiguous
    assert opened.size == (7, 5)
    assert opened.getpixel((0, 0)) == (0, 0, 0)
    assert opened.getpixel((6, 4)) == (255, 255, 255)


@pytest.mark.parametrize("shape", [(5,), (5, 7, 1), (5, 7, 2), (5, 7, 5), (1, 5, 7, 3), ()])
def test_array_of_another_shape_is_refused(shape: tuple[int, ...]):
    assert "(H, W, 3)" in refusal(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(0, 7), (5, 0, 3)])
def test_array_without_pixels_is_refused(shape: tuple[int, ...]):
    assert "no pixels" in refusal(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("value", [1.5, -0.1, 255.0, np.nan, np.inf])
def test_floats_out_of_range_are_refused(value: float):
    array = np.zeros((4, 4, 3))
    array[1, 2, 0] = value
    assert "0..1" in refusal(array)


@pytest.mark.parametrize("dtype", [np.int64, bool, np.complex64, object])
def test_array_of_another_dtype_is_refused(dtype: type):
    assert "uint8" in refusal(np.zeros((4, 4, 3), dtype))


def test_a_callers_image_is_left_alone():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.open(io.BytesIO(encoded(quarters(2 * MAX_SIDE + 200, 2 * MAX_SIDE + 100), "JPEG", exif=exif)))
    opened = open_photograph(image)
    assert max(opened.size) == MAX_SIDE
    assert image.size == (2 * MAX_SIDE + 200, 2 * MAX_SIDE + 100)
    assert image.getexif()[ORIENTATION] == 6
    assert image.getpixel((1, 1))[0] > 240  # still open

    small = quarters()
    opened = open_photograph(small)
    opened.paste("black", (0, 0, 48, 32))
    assert distance(small, quarters()) == 0


def test_a_callers_array_is_left_alone():
    array = np.asarray(quarters()).copy()
    open_photograph(array).paste("black", (0, 0, 48, 32))
    assert np.array_equal(array, np.asarray(quarters()))


# Limits


@pytest.mark.parametrize("size", [(MAX_SIDE + 400, 30), (30, MAX_SIDE + 400), (MAX_SIDE, MAX_SIDE), (1, 5000)])
def test_longest_side_is_limited_and_proportions_are_kept(size: tuple[int, int]):
    opened = open_photograph(Image.new("RGB", size))
    scale = min(1, MAX_SIDE / max(size))
    assert opened.size == tuple(max(1, round(side * scale)) for side in size)


def test_small_photograph_keeps_its_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (33, 21, 3), np.uint8)
    assert np.array_equal(np.asarray(open_photograph(encoded(Image.fromarray(noise)))), noise)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def claims(width: int, height: int) -> bytes:
    """A small PNG whose header claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(100_000, 100_000), (9000, 8000)])
def test_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    start = time.monotonic()
    assert "64 megapixels" in refusal(claims(*size))
    assert time.monotonic() - start < 1


def test_callers_image_with_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(photographs, "MAX_PIXELS", 1000)
    assert "megapixels" in refusal(quarters())
    assert "megapixels" in refusal(np.asarray(quarters()))


def test_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = encoded(quarters())
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    monkeypatch.setattr(photographs, "MAX_BYTES", len(data))
    open_photograph(path)
    monkeypatch.setattr(photographs, "MAX_BYTES", len(data) - 1)
    assert "larger than" in refusal(path)
    assert "larger than" in refusal(data)


def test_large_jpeg_looks_like_its_full_decoding():
    image = quarters(4 * MAX_SIDE, 2 * MAX_SIDE)
    drafted = open_photograph(encoded(image, "JPEG"))
    full = open_photograph(image)
    assert max(drafted.size) == MAX_SIDE
    assert distance(drafted, full) < 3
    one, other = (Preprocessing(image_size=64)(photograph) for photograph in (drafted, full))
    assert (one - other).abs().mean() < 0.05


# Whatever is no photograph


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_photograph_cut_off_is_refused(form: str):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, form)
    assert "damaged" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_altered_bytes_raise_nothing_but_photograph_error(form: str):
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = np.frombuffer(encoded(quarters(), form, exif=exif), np.uint8)
    for _ in range(60):
        altered = data.copy()
        places = random.integers(min(len(data), 300), size=4)
        altered[places] = random.integers(256, size=4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(PhotographError):
                assert open_photograph(altered.tobytes()).mode == "RGB"


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


@pytest.mark.parametrize("data", [b"a text, not a photograph", SVG, b"%PDF-1.7", bytes(1000), b"\xff"])
def test_other_files_are_refused(data: bytes, tmp_path: Path):
    assert "not a photograph" in refusal(data)
    (tmp_path / "photo.jpg").write_bytes(data)
    assert "not a photograph" in refusal(tmp_path / "photo.jpg")


def test_formats_beyond_the_list_are_refused():
    assert "not a photograph" in refusal(encoded(quarters(), "PPM"))
    assert "not a photograph" in refusal(encoded(quarters(), "ICO"))


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic", b"heix\0\0\0\0mif1"])
def test_heic_is_refused_by_name(brands: bytes):
    assert "HEIC" in refusal(b"\0\0\0\x18ftyp" + brands + bytes(64))


def test_pillow_without_avif_still_reads_the_rest(monkeypatch: pytest.MonkeyPatch):
    Image.init()
    avif = encoded(quarters(), "AVIF")
    monkeypatch.delitem(Image.OPEN, "AVIF")
    assert distance(open_photograph(encoded(quarters())), quarters()) == 0
    assert "not a photograph" in refusal(avif)
    assert "not a photograph" in refusal(b"text")


def test_nothing_missing_file_and_folder_are_refused(tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    assert "empty" in refusal(tmp_path / "empty.jpg")
    assert "empty" in refusal(b"")
    with pytest.raises(PhotographError, match=r"no file .*absent\.jpg"):
        open_photograph(tmp_path / "absent.jpg")
    with pytest.raises(PhotographError, match="cannot be read"):
        open_photograph(tmp_path)


# Preprocessing


def test_preprocessing_squashes_without_cropping():
    wide = Image.new("RGB", (400, 100), "black")
    wide.paste("white", (380, 0, 400, 100))  # at the right edge, a twentieth of the width
    tensor = Preprocessing(image_size=80, mean=(0, 0, 0), std=(1, 1, 1))(wide)
    assert tensor.shape == (3, 80, 80)
    assert tensor[:, :, 77:].min() > 0.95
    assert tensor[:, :, :74].max() < 0.05
    assert tensor.mean() == pytest.approx(0.05, abs=0.005)


def test_preprocessing_normalises_each_channel():
    photograph = Image.new("RGB", (64, 64), (255, 51, 0))
    tensor = Preprocessing(image_size=32, mean=(0.5, 0.2, 0.1), std=(0.5, 0.1, 0.2))(photograph)
    assert tensor.dtype.is_floating_point
    for channel, expected in enumerate((1.0, 0.0, -0.5)):
        assert tensor[channel].sub(expected).abs().max() < 1e-5


def test_preprocessing_keeps_a_photograph_of_the_right_size():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    tensor = Preprocessing(image_size=32, mean=(0, 0, 0), std=(1, 1, 1))(Image.fromarray(noise))
    assert np.array_equal((tensor.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), noise)


def test_the_photographs_of_a_folder_are_found_by_name_and_none_is_an_error(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "c.webp"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in photographs_in(tmp_path)] == ["a.png", "b.JPG", "c.webp"]
    for nothing in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(PhotographError, match="no photographs"):
            photographs_in(nothing)
