"""Photographs: what is whole is kept byte for byte; what is odd is mended and counted; what is damaged is refused."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps
from small_imagenet import encoded, picture, rotated

from matchnet.pictures import PictureError
from pipeline.data.formats.images import open_image
from pipeline.data.raw.readers.photographs import open_photograph, to_jpeg

LARGE = picture("large", (500, 375))


def stored(content: bytes, shorter_side: int | None = None, keep_damaged: bool = False) -> tuple[bytes, Counter[str]]:
    oddities: Counter[str] = Counter()
    return to_jpeg(content, shorter_side, 90, oddities, keep_damaged), oddities


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("shorter_side", [None, 375, 400])
def test_a_whole_jpeg_that_is_not_scaled_keeps_its_bytes(mode: str, shorter_side: int | None) -> None:
    content = encoded(LARGE.convert(mode), progressive=True, quality=70)
    assert stored(content, shorter_side) == (content, Counter())


@pytest.mark.parametrize(("size", "expected"), [((500, 375), (171, 128)), ((375, 500), (128, 171)),
                                                ((129, 129), (128, 128)), ((2000, 130), (1969, 128))])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_larger_one_is_scaled_as_pillow_alone_scales_it(size: tuple[int, int], expected: tuple[int, int],
                                                          mode: str) -> None:
    content = encoded(picture("scaled", size, mode), quality=95)
    found, oddities = stored(content, 128)
    reference = opened(content).resize(expected, Image.Resampling.BILINEAR)
    assert opened(found).size == expected and opened(found).mode == mode
    assert found == encoded(reference, quality=90) and not oddities


def test_scaling_is_antialiased() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    image = opened(stored(encoded(Image.fromarray(stripes), quality=100, subsampling=0), 130)[0])
    assert np.asarray(image)[8:-8, 8:-8].std() < 12  # nearest or plain bilinear would leave stripes: 60 and more


def test_cmyk_becomes_rgb_of_the_same_colour() -> None:
    red = Image.new("RGB", (40, 30), (200, 30, 40))
    found, oddities = stored(encoded(red.convert("CMYK"), quality=95))
    assert opened(found).mode == "RGB" and oddities == {"CMYK JPEG": 1}
    assert np.abs(np.asarray(opened(found), int) - (200, 30, 40)).max() < 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_png_named_jpeg_becomes_one(mode: str) -> None:
    content = encoded(LARGE.convert(mode), "PNG")
    found, oddities = stored(content, 100)
    assert (opened(found).format, opened(found).size) == ("JPEG", (133, 100))
    assert oddities == {"PNG named JPEG": 1}
    assert found == encoded(opened(content).convert("L" if mode == "L" else "RGB")
                            .resize((133, 100), Image.Resampling.BILINEAR), quality=90)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_done_and_forgotten(orientation: int) -> None:
    content = rotated(picture("turned"), orientation)
    found, oddities = stored(content)
    if orientation == 1:
        assert found == content and not oddities
        return
    assert oddities == {"EXIF rotation": 1} and "exif" not in opened(found).info
    assert found == encoded(ImageOps.exif_transpose(opened(content)), quality=90, exif=b"")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0nonsense"])
def test_exif_that_cannot_be_read_leaves_the_image_upright(exif: bytes) -> None:
    content = encoded(LARGE, exif=exif)
    assert stored(content) == (content, Counter())


@pytest.mark.parametrize("sampling", [0x31, 0x13, 0x42, 0x24, 0x14])
def test_a_rare_sampling_is_stored_as_what_the_loader_reads(sampling: int) -> None:
    """Bytes are edited, so the colours are wrong; what counts is that it is decoded, stored anew and counted."""
    content = bytearray(encoded(picture("rare", (96, 96)), quality=90, subsampling=0))
    frame = content.index(b"\xff\xc0")  # SOF0: length 2, precision 1, height 2, width 2, components 1; id, sampling
    content[frame + 11] = sampling
    found, oddities = stored(bytes(content), keep_damaged=True)
    assert oddities["JPEG of rare sampling"] == 1 and found != bytes(content)
    assert open_image(found, "jpg").size == (96, 96)


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(200) + content[middle + 200:]


def test_damage_that_pillow_passes_over_is_refused_or_kept_and_counted() -> None:
    content = damaged(encoded(LARGE, quality=95))
    assert opened(content).size == (500, 375)
    with pytest.raises(ValueError, match=r"not a whole JPEG \([\d,]+ bytes: .*Corrupt JPEG data"):
        stored(content, 100)
    found, oddities = stored(content, 100, keep_damaged=True)
    assert oddities == {"damaged JPEG": 1} and opened(found).size == (133, 100)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("lost", [2, 3000])
def test_a_jpeg_cut_short_is_kept_as_it_decodes_and_counted(mode: str, lost: int) -> None:
    whole = encoded(LARGE.convert(mode), quality=90)
    message = rf"^not a whole JPEG \({len(whole) - lost:,} bytes: .*keep_damaged"
    with pytest.raises(PictureError, match=message) as caught:
        stored(whole[:-lost])
    assert caught.value.keepable
    found, oddities = stored(whole[:-lost], keep_damaged=True)
    assert oddities == {"damaged JPEG": 1} | ({"CMYK JPEG": 1} if mode == "CMYK" else {})
    pixels = np.asarray(opened(found), int)
    expected = np.asarray(opened(encoded(opened(stored(whole)[0]), quality=90)), int)
    assert np.abs(pixels - expected)[:100 if lost > 2 else None].max() <= (24 if mode == "CMYK" else 12)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_bomb_is_refused_by_its_size(mode: str) -> None:
    content = bytearray(encoded(Image.new(mode, (16, 16))))
    frame = content.index(b"\xff\xc0") + 5
    content[frame:frame + 4] = b"\xff\xdc\xff\xdc"
    for refuse in (stored, lambda content: open_image(content, "jpg")):
        if mode == "RGB" or refuse is stored:
            with pytest.raises(ValueError, match=r"65,500 x 65,500 pixels, more than max_pixels \(120,000,000\)"):
                refuse(bytes(content))
    whole = encoded(Image.new(mode, (16, 16)))
    with pytest.raises(PictureError, match=r"16 x 16 pixels, more than max_pixels \(255\)"):
        to_jpeg(whole, None, 90, Counter(), max_pixels=255)


def test_what_cannot_be_encoded_says_so() -> None:
    content = encoded(Image.new("L", (65_501, 1)), "PNG")
    with pytest.raises(ValueError, match=r"^a picture of 65,501 x 1 pixels cannot be a JPEG \(.*\); write a shorter"):
        stored(content)


@pytest.mark.parametrize("content", [b"", b"GIF89a" + b"\1" * 50, encoded(LARGE)[:100],
                                     encoded(LARGE, "PNG")[:3000]], ids=["empty", "gif", "head", "half a PNG"])
@pytest.mark.parametrize("keep_damaged", [False, True])
def test_what_is_no_image_is_refused(content: bytes, keep_damaged: bool) -> None:
    oddities: Counter[str] = Counter()
    with pytest.raises(ValueError, match=rf"not a whole JPEG \({len(content):,} bytes: "):
        open_photograph(content, oddities, keep_damaged)
    assert not oddities
