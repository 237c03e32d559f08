"""Drawings of the dataset `glyphs`: the strokes of a character's outline in a font, bent by a hand, with a pen.

Every step is exact or far from its threshold (float64 against rounding errors of 1e-14), so that the same
fonts and the same Pillow give the same pixels on any machine. Another release of FreeType (Pillow carries it)
may move an outline by part of a pixel, and so a pixel of a drawing here and there.
Shape letters: F fonts, D drawings (one a hand), G control points, H W pixels.
"""

from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from PIL import Image, ImageFont

# Bold faces are left out: thinned, their corners grow whiskers.
FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")
FRAME = 105  # pixels a side, as Omniglot's drawings
BOX = 72  # longest side of a character before its hand, pixels; with theirs, Omniglot's have a median of 69
FONT_SIZE = 96  # large, so that FreeType's hinting hardly moves an outline

REACH = 5  # distances from a stroke are known up to here, pixels; above PEN / SMALLEST
PAD = REACH + 1
FINER = 3  # points of the distance field for each pixel, a side
CONTROL_POINTS = 7  # a side, of the elastic deformation: one each 26 pixels

# What a hand varies, each uniform.
TURN = 0.14  # radians, either way
SLANT = 0.18  # sideways shift for each pixel of height, either way
SMALLEST = 0.7  # smallest factor of width and of height; the largest is 1
SHIFT = 4.0  # pixels, either way
BEND = 6.5  # pixels that a control point of the elastic deformation moves, either way
PEN = (1.8, 2.7)  # radius, pixels; Omniglot's strokes are 4 to 5 pixels wide


def draw(code_point: int, num_hands: int, seed: int) -> np.ndarray:
    """A character by `num_hands` hands: bool (num_hands, FRAME, FRAME), ink True.

    Hand h depends on (seed, code_point, h) alone: a font that has the character, an affine map, an elastic
    deformation that is a cubic B-spline, and the radius of the pen.
    """
    fields_FHW = distance_fields(np.stack([thin(mask) for mask in masks(code_point)]))
    num_fonts, side, _ = fields_FHW.shape
    chances_DG = np.stack([_chances(seed, code_point, hand) for hand in range(num_hands)])
    font_D11 = (chances_DG[:, 0, None, None] * num_fonts).astype(np.int64)
    pen_D11 = PEN[0] + (PEN[1] - PEN[0]) * chances_DG[:, 1, None, None]
    y_DHW, x_DHW, magnification_D11 = _where_ink_comes_from(2 * chances_DG[:, 2:] - 1)
    place_DHW = (font_D11 * side + _finer(y_DHW, side)) * side + _finer(x_DHW, side)
    return fields_FHW.ravel().take(place_DHW) < pen_D11 * magnification_D11


def masks(code_point: int) -> Iterator[np.ndarray]:
    """The character in each font that has it: bool, BOX + 2 PAD a side, centred, its longest side BOX."""
    found = (_mask(name, code_point) for name in FONTS if code_point in code_points(name))
    return (mask for mask in found if mask is not None)


def thin(mask_HW: np.ndarray) -> np.ndarray:
    """The middle lines, one pixel wide, of what is True; connected parts stay connected and none vanishes.

    Source: Z. Guo, R. W. Hall, "Parallel thinning with two-subiteration algorithms", CACM 32(3), 1989, A1.
    """
    height, width = mask_HW.shape
    ink = int.from_bytes(np.packbits(mask_HW).tobytes())  # one long integer: a step takes a microsecond
    before = -1
    while ink != before:
        before = ink
        ink &= ~_peelable(ink, width, first=True)
        ink &= ~_peelable(ink, width, first=False)
    packed = np.frombuffer(ink.to_bytes(-(-mask_HW.size // 8)), dtype=np.uint8)
    return np.unpackbits(packed, count=mask_HW.size).reshape(height, width).astype(bool)


def distance_fields(lines_FHW: np.ndarray) -> np.ndarray:
    """Distance to the nearest True, at most REACH + 1, at FINER points a pixel a side: float64."""
    far = (REACH + 1) ** 2
    squares_FHW = np.where(lines_FHW, 0, far).astype(np.uint8)
    for axis in (1, 2):
        steps = range(-REACH, REACH + 1)
        rolled = (np.roll(squares_FHW, step, axis) + np.uint8(step * step) for step in steps)
        squares_FHW = np.minimum(reduce(np.minimum, rolled), far)
    distance_FHW = np.sqrt(squares_FHW.astype(np.float64))
    return _interpolate(_interpolate(distance_FHW).swapaxes(1, 2)).swapaxes(1, 2)


def _interpolate(values_FHW: np.ndarray) -> np.ndarray:
    """FINER values for each but the last along the last axis, linear in between."""
    here, there = values_FHW[..., :-1], values_FHW[..., 1:]
    parts = [here + (there - here) * (step / FINER) for step in range(FINER)]
    return np.stack(parts, axis=-1).reshape(*here.shape[:-1], -1)


def _peelable(ink: int, width: int, first: bool) -> int:
    """Pixels whose loss parts nothing, at the south and east (`first`) or the north and west of a line."""
    n, s, w, e = ink >> width, ink << width, ink >> 1, ink << 1
    nw, ne, sw, se = n >> 1, n << 1, s >> 1, s << 1
    some_part, two_parts, _ = _at_least(~n & (ne | e), ~e & (se | s), ~s & (sw | w), ~w & (nw | n))
    _, two, all_four = _at_least(nw | n, ne | e, se | s, sw | w)
    _, two_otherwise, all_four_otherwise = _at_least(n | ne, e | se, s | sw, w | nw)
    inner = ((n | ne | ~se) & e) if first else ((s | sw | ~nw) & w)
    return some_part & ~two_parts & two & two_otherwise & ~(all_four & all_four_otherwise) & ~inner


def _at_least(a: int, b: int, c: int, d: int) -> tuple[int, int, int]:
    """Bits at which at least one, at least two and all of four conditions hold."""
    return a | b | c | d, (a & b) | ((a | b) & c) | ((a | b | c) & d), a & b & c & d


def _chances(seed: int, code_point: int, hand: int) -> np.ndarray:
    """Random numbers of one hand, uniform in [0, 1): font, pen, 6 for the affine map, the control points."""
    stream = np.random.Philox(np.random.SeedSequence([seed, code_point, hand]))
    return np.random.Generator(stream).random(8 + 2 * CONTROL_POINTS**2)


def _where_ink_comes_from(amounts_DG: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of the undistorted character for each pixel of each drawing: float64 (D, H, W).

    In pixels from its middle. The third array: how many times as large it is as the drawing, (D, 1, 1).
    """
    turn, slant, wider, higher, right, down = (amount[:, None, None] for amount in amounts_DG[:, :6].T)
    middle = (FRAME - 1) / 2
    y = np.arange(FRAME)[:, None] - middle - SHIFT * down
    x = np.arange(FRAME)[None, :] - middle - SHIFT * right
    cosine, sine = np.cos(TURN * turn), np.sin(TURN * turn)
    x, y = cosine * x + sine * y, cosine * y - sine * x
    across, along = _magnification(wider), _magnification(higher)
    x, y = (x + SLANT * slant * y) * across, y * along
    bend_y, bend_x = _bends(amounts_DG[:, 6:])
    return y + bend_y, x + bend_x, np.sqrt(across * along)


def _bends(amounts_DG: np.ndarray) -> np.ndarray:
    """The elastic deformation, pixels down and right, from amounts in [-1, 1): float64 (2, D, H, W)."""
    spline_HG = _spline()
    control_2DGG = BEND * amounts_DG.reshape(-1, 2, CONTROL_POINTS, CONTROL_POINTS).swapaxes(0, 1)
    return spline_HG @ control_2DGG @ spline_HG.T


def _magnification(amount_D11: np.ndarray) -> np.ndarray:
    """Pixels of the undistorted character for one of the drawing, 1 to 1 / SMALLEST; amounts in [-1, 1)."""
    return SMALLEST ** (-(amount_D11 + 1) / 2)


def _finer(place_DHW: np.ndarray, side: int) -> np.ndarray:
    """Index into a distance field of a place in pixels from its middle; a place outside gets the empty edge."""
    place_DHW *= FINER
    place_DHW += side / 2
    return np.rint(place_DHW, out=place_DHW).clip(0, side - 1, out=place_DHW).astype(np.int64)


@cache
def _spline() -> np.ndarray:
    """Weight of each control point at each pixel, uniform cubic B-spline: (FRAME, CONTROL_POINTS)."""
    place = np.linspace(1, CONTROL_POINTS - 2, FRAME)
    away = np.abs(place[:, None] - np.arange(CONTROL_POINTS))
    near, outer = 2 / 3 - away**2 + away**3 / 2, (2 - away) ** 3 / 6
    return np.where(away < 1, near, np.where(away < 2, outer, 0.0))


def _mask(font: str, code_point: int) -> np.ndarray | None:
    """One character of one font, as `masks` has it; None if it is blank."""
    glyph = _font(font).getmask(chr(code_point), mode="L")
    image = Image.frombytes("L", glyph.size, bytes(glyph))
    ink = image.getbbox()
    if ink is None:
        return None
    image = image.crop(ink)
    width, height = (max(1, round(side * BOX / max(image.size))) for side in image.size)
    square_HW = np.zeros((BOX + 2 * PAD, BOX + 2 * PAD), dtype=bool)
    top, left = PAD + (BOX - height) // 2, PAD + (BOX - width) // 2
    fitted = image.resize((width, height), Image.Resampling.BOX)
    square_HW[top:top + height, left:left + width] = np.asarray(fitted) >= 128
    return square_HW


def _font_path(name: str) -> Path:
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_path(name), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


@cache
def code_points(name: str) -> frozenset[int]:
    """Code points that one of FONTS has a glyph for."""
    with TTFont(_font_path(name), lazy=True) as font:
        return frozenset(font.getBestCmap())
