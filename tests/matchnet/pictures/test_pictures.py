"""Pictures in all of Pillow's modes and formats are read right, or refused by name; nothing else is said."""

import io
import pickle
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchnet.pictures import FORMATS, PictureError, format_of, read_picture

RAMP = np.linspace(0, 255, 40 * 30).reshape(30, 40).round().astype(np.uint8)  # not square, another value everywhere
COLOURS = np.stack([RAMP, 255 - RAMP, np.roll(RAMP, 7, 1)], axis=-1)


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def grey(values: np.ndarray = RAMP) -> Image.Image:
    return Image.fromarray(values)


def distance(found: Image.Image, expected: np.ndarray) -> float:
    assert found.size == expected.shape[1::-1]
    return float(np.abs(np.asarray(found, float) - expected).max())


@pytest.mark.parametrize("name, limit", [("PNG", 0), ("WebP", 0), ("BMP", 0), ("TIFF", 0), ("GIF", 0), ("JPEG", 12)])
@pytest.mark.parametrize("coloured", [False, True])
def test_each_format(name: str, limit: float, coloured: bool) -> None:
    if name == "GIF" and coloured:
        limit = 60  # 256 colours
    image = Image.fromarray(COLOURS) if coloured else grey()
    options = {"lossless": True} if name == "WebP" else {"quality": 95, "subsampling": 0} if name == "JPEG" else {}
    content, oddities = encoded(image, name, **options), Counter()
    assert format_of(content) == name and name in FORMATS
    found = read_picture(content, colour=coloured, oddities=oddities)
    assert found.mode == ("RGB" if coloured else "L") and not oddities and not found.info
    assert distance(found, COLOURS if coloured else RAMP) <= limit


def test_bytes_a_path_and_a_file_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.b"
    path.write_bytes(b"before" + encoded(grey(), "PNG"))
    content = path.read_bytes()[6:]
    with open(path, "rb") as file:
        file.seek(6)
        assert np.array_equal(read_picture(file), read_picture(content))
    path.write_bytes(content)
    assert distance(read_picture(path), RAMP) == distance(read_picture(str(path)), RAMP) == 0


@pytest.mark.parametrize("mode, options, expected_mode", [
    ("1", {}, "L"), ("L", {}, "L"), ("P", {}, "RGB"), ("RGB", {}, "RGB"), ("LA", {}, "L"), ("RGBA", {}, "RGB")])
def test_colour_is_kept_unless_it_is_asked_for(mode: str, options: dict, expected_mode: str) -> None:
    content = encoded(Image.fromarray(COLOURS).convert(mode), "PNG", **options)
    assert read_picture(content).mode == expected_mode
    assert [read_picture(content, colour=colour).mode for colour in (True, False)] == ["RGB", "L"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, rows: bytes, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def sixteen_bits() -> np.ndarray:
    return RAMP.astype(np.uint16) * 257


@pytest.mark.parametrize("image, name, options, bits", [
    (Image.fromarray(sixteen_bits()), "PNG", {}, 16),
    (Image.fromarray(sixteen_bits()), "TIFF", {}, 16),
    (Image.fromarray(sixteen_bits()), "TIFF", {"compression": "tiff_lzw"}, 16),
    (Image.frombytes("I;16B", (40, 30), sixteen_bits().astype(">u2").tobytes()), "TIFF", {}, 16),
    (Image.fromarray(sixteen_bits().astype(np.int32)), "TIFF", {}, 32),
    (Image.fromarray(RAMP.astype(np.int32)), "TIFF", {}, 32),
    (Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF", {}, 32),
    (Image.fromarray(RAMP.astype(np.float32)), "TIFF", {}, 32)])
def test_deep_greys_are_scaled_and_counted(image: Image.Image, name: str, options: dict, bits: int) -> None:
    oddities: Counter[str] = Counter()
    assert distance(read_picture(encoded(image, name, **options), oddities=oddities), RAMP) == 0
    assert oddities == {f"grey of {bits} bits scaled to 8": 1}


def test_a_dark_picture_of_16_bits_stays_dark() -> None:
    dark = (RAMP.astype(np.uint16) // 4) * 257
    assert np.asarray(read_picture(encoded(Image.fromarray(dark), "PNG"))).max() == 63
    assert np.asarray(read_picture(encoded(Image.fromarray(RAMP.astype(np.uint16)), "PNG"))).max() == 1


def test_a_tiff_whose_0_is_white_is_turned_round_in_16_bits_too() -> None:
    content = encoded(Image.fromarray(sixteen_bits()), "TIFF", tiffinfo={262: 0})
    assert distance(read_picture(content), 255 - RAMP) == 0


@pytest.mark.parametrize("value, text", [(-3.0, "-3.0"), (70000.0, "70000.0"), (np.nan, "nan"), (np.inf, "inf")])
def test_floats_whose_white_is_not_known_are_refused(value: float, text: str) -> None:
    values = RAMP.astype(np.float32)
    values[3, 3] = value
    with pytest.raises(PictureError, match=rf"^grey values from .*{re.escape(text)}.* \(floats\): which of them is "
                                           "white is not known unless"):
        read_picture(encoded(Image.fromarray(values), "TIFF"))


def drawing(mode: str) -> Image.Image:
    """Black, on transparent; a quarter of it, at the left, is ink."""
    alpha = np.zeros((20, 40), np.uint8)
    alpha[:, :10] = 255
    black = np.zeros((20, 40), np.uint8)
    channels = [black, alpha] if mode == "LA" else [black, black, black, alpha]
    return Image.merge(mode, [Image.fromarray(channel) for channel in channels])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WebP"])
def test_black_on_transparent_is_black_on_paper(mode: str, name: str) -> None:
    if name == "WebP":
        mode, options = "RGBA", {"lossless": True}
    else:
        options = {}
    content, oddities = encoded(drawing(mode), name, **options), Counter()
    pixels = np.asarray(read_picture(content, colour=False, oddities=oddities))
    assert (pixels[:, :10] == 0).all() and (pixels[:, 10:] == 255).all()
    assert oddities == {"transparency laid on paper": 1}
    assert (np.asarray(read_picture(content, colour=False, paper=80))[:, 10:] == 80).all()
    assert (np.asarray(read_picture(content, paper=(10, 20, 30)))[:, 10:] == (10, 20, 30)).all()


def test_half_transparent_ink_is_between_ink_and_paper() -> None:
    image = Image.merge("LA", [Image.new("L", (3, 3), 0), Image.new("L", (3, 3), 128)])
    assert 125 <= np.asarray(read_picture(encoded(image, "PNG")))[1, 1] <= 129


def test_alpha_that_hides_nothing_is_dropped_without_a_word() -> None:
    oddities: Counter[str] = Counter()
    image = Image.fromarray(COLOURS).convert("RGBA")
    assert distance(read_picture(encoded(image, "PNG"), oddities=oddities), COLOURS) == 0 and not oddities


@pytest.mark.parametrize("transparency", [1, bytes([255, 0]), bytes([255, 128])])
@pytest.mark.parametrize("name", ["PNG", "GIF"])
def test_palettes_with_transparency(name: str, transparency: int | bytes) -> None:
    """Index 0 is a red, index 1 is called transparent, wholly or (PNG) in half."""
    image = Image.fromarray(np.tile(np.array([0, 1], np.uint8), (4, 4)), "L")
    image = image.copy()
    image.putpalette([200, 10, 20, 0, 0, 0])
    if name == "GIF":
        transparency = 1
    found = np.asarray(read_picture(encoded(image, name, transparency=transparency)))
    assert (found[:, ::2] == (200, 10, 20)).all()
    assert (found[:, 1::2] == (127 if transparency == bytes([255, 128]) else 255)).all()


@pytest.mark.parametrize("image, value, where", [
    (grey(), 17, RAMP == 17), (Image.fromarray(sixteen_bits()), 17 * 257, RAMP == 17),
    (Image.fromarray(RAMP > 99), 255, RAMP > 99)], ids=["L", "I;16", "1"])
def test_a_grey_that_a_png_calls_transparent(image: Image.Image, value: int, where: np.ndarray) -> None:
    found = np.asarray(read_picture(encoded(image, "PNG", transparency=value), paper=99))
    assert where.any() and (found[where] == 99).all() and not (found[RAMP == 99] != (0 if image.mode == "1" else 99)
                                                              ).any()


def test_a_grey_of_few_bits_that_a_png_calls_transparent() -> None:
    """2 bits a pixel, values 0 to 3, of which 1 is transparent; Pillow does not write such files."""
    content = png(4, 1, 2, bytes([0, 0b00011011]), chunk(b"tRNS", b"\0\1"))
    assert np.asarray(read_picture(content, paper=7)).tolist() == [[0, 7, 170, 255]]


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_is_rgb_of_the_same_colour_and_counted(name: str) -> None:
    oddities: Counter[str] = Counter()
    red = Image.new("RGB", (40, 30), (200, 30, 40)).convert("CMYK")
    assert distance(read_picture(encoded(red, name), oddities=oddities), np.full((30, 40, 3), (200, 30, 40))) < 6
    assert oddities == {"CMYK JPEG" if name == "JPEG" else "CMYK": 1}


def test_ycbcr_in_a_tiff() -> None:
    content = encoded(Image.fromarray(COLOURS).convert("YCbCr"), "TIFF")
    assert distance(read_picture(content), COLOURS) < 5


def test_a_mode_that_cannot_be_read_right_is_refused_by_name() -> None:
    with pytest.raises(PictureError, match=r"^a picture of mode LAB, which cannot be read right; save it again as PNG"):
        read_picture(encoded(Image.new("LAB", (8, 8)), "TIFF"))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(name: str, orientation: int) -> None:
    """The file has the pixels turned; what is read is upright."""
    to_file = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
               5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
               8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = grey().convert("RGB")
    turned = image.transpose(to_file[orientation]) if orientation in to_file else image
    options = {"JPEG": {"quality": 95}, "WebP": {"lossless": True}}.get(name, {})
    oddities: Counter[str] = Counter()
    found = read_picture(encoded(turned, name, exif=exif, **options), oddities=oddities)
    assert distance(found, np.repeat(RAMP[:, :, None], 3, 2)) < 12
    assert oddities == ({"EXIF rotation": 1} if orientation > 1 and name != "TIFF" else {})


def test_a_rotated_palette_of_16_bits_or_cmyk_is_still_known_for_what_it_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    oddities: Counter[str] = Counter()
    found = read_picture(encoded(Image.fromarray(sixteen_bits()), "PNG", exif=exif), oddities=oddities)
    assert distance(found, RAMP[::-1, ::-1]) == 0
    read_picture(encoded(Image.new("CMYK", (9, 8)), "JPEG", exif=exif), oddities=oddities)
    assert oddities == {"EXIF rotation": 2, "grey of 16 bits scaled to 8": 1, "CMYK JPEG": 1}


@pytest.mark.parametrize("name", ["GIF", "PNG", "WebP", "TIFF"])
def test_the_first_of_several_frames(name: str) -> None:
    later = Image.new("L", (40, 30), 9)
    options = {"lossless": True} if name == "WebP" else {}
    content = encoded(grey().convert("RGB"), name, save_all=True, append_images=[later.convert("RGB")], **options)
    assert distance(read_picture(content, colour=False), RAMP) <= 2


def declared(content: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header says another size."""
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4:]


BOMBS = {"JPEG": declared(encoded(grey(), "JPEG"), 65_500, 65_500), "PNG": png(65_500, 65_500, 8, bytes(1000)),
         "GIF": b"GIF89a" + struct.pack("<HHBBB", 65_500, 65_500, 0, 0, 0) + b"," + struct.pack(
             "<HHHHB", 0, 0, 65_500, 65_500, 0) + b"\x08\0;"}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_memory_is_taken(name: str) -> None:
    """In a process of its own, which may not take 1 GiB more than it has after the imports."""
    program = ("import resource, sys\nfrom matchnet.pictures import read_picture, PictureError\n"
               "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
               "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))\n"
               "try: read_picture(sys.stdin.buffer.read())\nexcept PictureError as error: print(error)\n")
    done = subprocess.run([sys.executable, "-c", program], input=BOMBS[name], capture_output=True, check=True)
    assert done.stdout.decode() == ("a picture of 65,500 x 65,500 pixels, more than max_pixels (120,000,000); raise "
                                    "that if you trust the file, or make the picture smaller\n")
    assert not done.stderr


def test_max_pixels_is_the_limit_and_can_be_raised_beyond_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(grey(), "PNG")
    assert read_picture(content, max_pixels=1200).size == (40, 30)
    with pytest.raises(PictureError, match=r"^a picture of 40 x 30 pixels, more than max_pixels \(1,199\); raise"):
        read_picture(content, max_pixels=1199)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in FORMATS:
        assert read_picture(encoded(grey(), name)).size == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_picture_of_one_pixel() -> None:
    assert np.asarray(read_picture(encoded(Image.new("L", (1, 1), 7), "PNG"))).tolist() == [[7]]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_two_bytes(progressive: bool) -> None:
    whole = encoded(Image.fromarray(COLOURS), "JPEG", progressive=progressive)
    oddities: Counter[str] = Counter()
    kept = read_picture(whole[:-2], keep_damaged=True, oddities=oddities)
    assert np.array_equal(kept, read_picture(whole)) and oddities == {"damaged JPEG": 1}
    with pytest.raises(PictureError, match=r"^not a whole JPEG \(.*\); what is there can be decoded: "
                                           "keep_damaged keeps it so$") as caught:
        read_picture(whole[:-2])
    assert caught.value.keepable


def test_an_error_is_the_same_in_another_process() -> None:
    with pytest.raises(PictureError) as caught:
        read_picture(b"hello")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.keepable) == (str(caught.value), False) and copy.remedy in str(copy)


@pytest.mark.parametrize("keep_damaged", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_what_cannot_be_decoded_at_all_has_one_remedy(name: str, keep_damaged: bool, tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(encoded(grey(), name)[:30])
    with pytest.raises(PictureError) as caught:
        read_picture(path, keep_damaged=keep_damaged)
    text = str(caught.value)
    assert text.startswith(f"{path}: not a whole {name} (") and "keep_damaged" not in text
    assert text.endswith("; replace it with a whole copy, or leave it out")


@pytest.mark.parametrize("content, what", [
    (b"", "is a file of 0 bytes"), (b"hello, I am text", r"begins with b'hello, I am '"),
    (b"%PDF-1.4", r"begins with b'%PDF-1\.4'"), (encoded(grey(), "PPM"), r"begins with b'P5\\n40 30")])
def test_other_files_are_no_pictures(content: bytes, what: str) -> None:
    with pytest.raises(PictureError, match=r"^no picture that can be read here \(JPEG, PNG, WebP, BMP, TIFF, GIF\): it "
                                           rf"{what}.*; save it again as PNG or JPEG, or leave it out$"):
        read_picture(content)


@pytest.mark.parametrize("argument, message", [
    ({"paper": 256}, r"^paper is 256; give a grey value or \(red, green, blue\), each 0 \(black\) to 255"),
    ({"paper": (0, 0)}, r"^paper is \(0, 0\); "), ({"max_pixels": 0}, "^max_pixels is 0; a picture has at least 1")])
def test_bad_arguments(argument: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_picture(encoded(grey(), "PNG"), **argument)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        read_picture(tmp_path / "nothing.png")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FORMATS)
def test_damage_anywhere_is_read_or_refused_in_plain_words(name: str, recwarn: pytest.WarningsRecorder) -> None:
    """150 files with bytes changed or cut off: nothing but PictureError, no memory address, no warning."""
    random = np.random.default_rng(FORMATS.index(name))
    image = Image.fromarray(COLOURS) if name == "JPEG" else drawing("RGBA").convert("P")
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(image, name, **({} if name in ("BMP", "GIF") else {"exif": exif}))
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, len(content), random.integers(1, 6)):
            content[place] = random.integers(0, 256)
        cut = int(random.integers(1, len(content))) if random.random() < 0.3 else len(content)
        try:
            found = read_picture(bytes(content[:cut]), keep_damaged=bool(random.integers(2)), max_pixels=10**7)
        except PictureError as error:
            assert " at 0x" not in str(error) and "\n" not in str(error)
        else:
            assert found.mode in ("L", "RGB")
    assert not recwarn.list
