"""Characters of the dataset `glyphs`, from scripts and blocks of symbols that matplotlib's fonts cover.

Shape letters: P characters, D features, H W pixels.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.data.raw.readers.glyph_drawing import BOX, PAD, masks, thin

WIDEST_STROKE = 17  # in pixels of a box of BOX; a wider one is a filled shape, which no pen draws
# Cosine of blurred strokes: above it are Latin A and Greek Alpha, o and O, T and tau; below it B and 8, C and G.
LOOKALIKE_COSINE = 0.88
LOOKALIKE_STRETCH = 1.4  # a hand makes a character wider by as much: a circle and an ellipse are look-alikes

LETTERS = ("Lu", "Ll", "Lo", "Nd")
SYMBOLS = ("Sm", "So")


@dataclass(frozen=True)
class Script:
    """A script or block of symbols: code point ranges (both ends included) and Unicode categories in them."""

    name: str
    ranges: tuple[tuple[int, int], ...]
    categories: tuple[str, ...] = LETTERS


@dataclass(frozen=True)
class Character:
    """A class of the dataset."""

    script: str
    code_point: int

    @property
    def class_name(self) -> str:
        """`Greek/03A9`."""
        return f"{self.script}/{self.code_point:04X}"


# If two characters look alike, the one of the script further up is kept.
SCRIPTS = (
    Script("Armenian", ((0x0531, 0x0587),)),
    Script("Georgian", ((0x10A0, 0x10FA), (0x2D00, 0x2D25))),
    Script("Hebrew", ((0x05D0, 0x05EA),)),
    Script("Arabic", ((0x0620, 0x06FF), (0x0750, 0x077F))),
    Script("Nko", ((0x07C0, 0x07EA),)),
    Script("Lao", ((0x0E81, 0x0EDF),)),
    Script("Coptic", ((0x03E2, 0x03EF),)),
    Script("Tifinagh", ((0x2D30, 0x2D6F),)),
    Script("Old_Italic", ((0x10300, 0x1031F),)),
    Script("Ogham", ((0x1681, 0x169A),)),
    Script("Greek", ((0x0370, 0x03E1), (0x03F0, 0x03FF))),
    Script("Latin", ((0x0030, 0x007A), (0x00C0, 0x02AF), (0x2C60, 0x2C7F), (0xA722, 0xA7FF))),
    Script("Cyrillic", ((0x0400, 0x052F), (0xA640, 0xA69F))),
    Script("Canadian_Aboriginal", ((0x1401, 0x1676),)),
    Script("Fraktur", ((0x1D504, 0x1D537),)),
    Script("Mathematical_Script", ((0x1D49C, 0x1D4CF),)),
    Script("Double_Struck", ((0x1D538, 0x1D56B),)),
    Script("Arrows", ((0x2190, 0x21FF), (0x2900, 0x297F)), SYMBOLS),
    Script("Operators", ((0x2200, 0x22FF),), SYMBOLS),
    Script("Supplemental_Operators", ((0x2A00, 0x2AFF),), SYMBOLS),
    Script("Technical", ((0x2300, 0x23FF),), SYMBOLS),
    Script("Miscellaneous_Symbols", ((0x2600, 0x2671), (0x267E, 0x26FF)), SYMBOLS),
)


def choose_characters(seed: int, max_per_script: int) -> tuple[Character, ...]:
    """Drawable characters without look-alikes, at most `max_per_script` of each script, drawn by `seed`.

    Sorted by class name.
    """
    chosen: list[Character] = []
    for number, script in enumerate(SCRIPTS):
        members = [character for character in distinct_characters() if character.script == script.name]
        stream = np.random.Philox(np.random.SeedSequence([seed, number]))
        order = np.random.Generator(stream).random(len(members))
        chosen += [members[place] for place in np.argsort(order)[:max_per_script]]
    return tuple(sorted(chosen, key=lambda character: character.class_name))


@cache
def distinct_characters() -> tuple[Character, ...]:
    """All drawable characters but those that look like one before them, in the order of SCRIPTS.

    Look-alikes are sought in all scripts: no class of a test script is the copy of one seen in training.
    """
    return tuple(_without_lookalikes(list(_drawable_characters())))


def _drawable_characters() -> Iterator[tuple[Character, np.ndarray]]:
    """Characters that a pen can draw, each with its bitmap in the first font that has it"""
    for script in SCRIPTS:
        for code_point in (point for first, last in script.ranges for point in range(first, last + 1)):
            if unicodedata.category(chr(code_point)) in script.categories and not _is_composed(code_point):
                bitmap = next(masks(code_point), None)
                if bitmap is not None and not _is_filled(bitmap):
                    yield Character(script.name, code_point), bitmap


def _is_composed(code_point: int) -> bool:
    """A letter with a diacritic, a ligature, ...; a letter in another style (Fraktur) is not."""
    decomposition = unicodedata.decomposition(chr(code_point))
    return decomposition != "" and not decomposition.startswith("<font>")


def _without_lookalikes(candidates: Sequence[tuple[Character, np.ndarray]]) -> list[Character]:
    """The candidates whose bitmap is unlike that of any candidate kept before it."""
    cropped = [_cropped(mask) for _, mask in candidates]
    vectors_PD = _blurred(np.stack([thin(_stretched(mask)) for mask in cropped]))
    shape_P = np.log([mask.shape[0] / mask.shape[1] for mask in cropped])
    similar_PP = vectors_PD @ vectors_PD.T > LOOKALIKE_COSINE
    similar_PP &= np.abs(shape_P[:, None] - shape_P) < np.log(LOOKALIKE_STRETCH)
    kept: list[int] = []
    for place in range(len(candidates)):
        if not similar_PP[place, kept].any():
            kept.append(place)
    return [candidates[place][0] for place in kept]


def _cropped(mask_HW: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask_HW)
    return mask_HW[rows.min():rows.max() + 1, columns.min():columns.max() + 1]


def _stretched(mask_HW: np.ndarray) -> np.ndarray:
    """The bitmap, stretched to BOX x BOX, with a free border for thinning."""
    rows, columns = (np.arange(BOX) * side // BOX for side in mask_HW.shape)
    return np.pad(mask_HW[np.ix_(rows, columns)], PAD)


def _blurred(lines_PHW: np.ndarray) -> np.ndarray:
    """Unit vectors (P, D): strokes counted in overlapping squares of 16 pixels, mean taken away."""
    sums = np.pad(lines_PHW.astype(np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    squares = sums[:, 16:, 16:] - sums[:, :-16, 16:] - sums[:, 16:, :-16] + sums[:, :-16, :-16]
    vectors_PD = squares[:, ::4, ::4].reshape(len(lines_PHW), -1)
    vectors_PD -= vectors_PD.mean(axis=1, keepdims=True)
    return vectors_PD / np.linalg.norm(vectors_PD, axis=1, keepdims=True)


def _is_filled(mask_HW: np.ndarray) -> bool:
    """Whether a square of WIDEST_STROKE pixels a side is all ink."""
    sums = np.pad(mask_HW.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    side = WIDEST_STROKE
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return bool(squares.max() == side * side)
