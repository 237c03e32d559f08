"""Two hundred pictures that Pillow writes, in all modes and formats, and what people make of pictures."""

import io
import zlib

from PIL import Image, ImageDraw

MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "RGBX",
    "RGBa",
    "La",
    "I;16",
    "I;16B",
    "I;16L",
)
FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "PPM",
    "ICO",
    "TGA",
    "JPEG2000",
    "PCX",
    "SGI",
    "DDS",
    "IM",
    "MPO",
)
SIZES = ((48, 40), (1, 1), (1, 400), (400, 1), (8, 8), (33, 47))


def drawing(mode: str, size: tuple[int, int] = (48, 40)) -> Image.Image:
    picture = Image.new("RGBA", size, (200, 220, 240, 255))
    ImageDraw.Draw(picture).ellipse(
        [2, 2, size[0] - 3, size[1] - 3] if min(size) > 6 else [0, 0, 0, 0], fill=(160, 40, 30, 128)
    )
    if mode.startswith("I;16"):
        return picture.convert("I").convert(mode) if mode == "I;16" else Image.new(mode, size, 30_000)
    for by in (mode, f"RGB {mode}", f"LA {mode}", f"RGBA {mode}", f"L {mode}"):
        try:
            converted = picture
            for step in by.split():
                converted = converted.convert(step)
            return converted
        except (ValueError, OSError):
            continue
    return Image.new(mode, size)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def odd_pictures() -> dict[str, bytes]:
    """What it is -> its bytes."""
    found: dict[str, bytes] = {}

    def put(name: str, mode: str, kind: str, size: tuple[int, int] = (48, 40), **options: object) -> None:
        try:
            found[name] = encoded(drawing(mode, size), kind, **options)
        except (OSError, ValueError, KeyError, TypeError):
            return  # a format has not every mode

    for kind in FORMATS:
        for mode in MODES:
            put(f"{mode} {kind}", mode, kind)
    for size in SIZES:
        for kind in ("JPEG", "PNG"):
            put(f"{size} {kind}", "RGB", kind, size)
    for mode in ("L", "RGB", "CMYK"):
        for option in (
            {"progressive": True},
            {"quality": 1},
            {"quality": 100},
            {"subsampling": 0},
            {"subsampling": 1},
            {"optimize": True},
            {"restart_marker_blocks": 1},
            {"dpi": (0, 0)},
            {"comment": b"\xff" * 9000},
        ):
            put(f"{mode} JPEG {next(iter(option))} {next(iter(option.values()))!r:.12}", mode, "JPEG", **option)
    for orientation in range(0, 11):
        exif = Image.Exif()
        exif[0x0112] = orientation
        put(f"orientation {orientation}", "RGB", "JPEG", exif=exif)
    put("animation", "P", "GIF", save_all=True, append_images=[drawing("P")])
    put("APNG", "RGB", "PNG", save_all=True, append_images=[drawing("RGB")])
    whole = encoded(drawing("RGB"), "JPEG")
    found |= {f"JPEG cut to {length}": whole[:length] for length in (0, 1, 2, 3, 20, 200, 600, len(whole) - 2)}
    found |= {
        f"JPEG with a byte of {place} turned": whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        for place in range(3, len(whole), len(whole) // 24)
    }
    found["JPEG of 65,500 x 65,500"] = _of_size(whole, 65_500)
    found["JPEG of 0 x 0"] = _of_size(whole, 0)
    found["PNG of 60,000 x 60,000"] = _png_of_size(60_000)
    found["PNG that unpacks to 200 MB"] = _png_of_size(14_000, zlib.compress(bytes(14_000 * 14_001)))
    found["text"], found["zeros"], found["SVG"] = b"hello", bytes(2000), b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    return found


def _of_size(jpeg: bytes, side: int) -> bytes:
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + side.to_bytes(2, "big") * 2 + jpeg[place + 4 :]


def _png_of_size(side: int, pixels: bytes = b"") -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
