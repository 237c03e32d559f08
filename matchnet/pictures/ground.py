"""Brings a drawing onto a pure ground, as the drawings are that models were trained on: ink 255, all else exactly 0.

Paper is never quite white, a photograph of it is shaded, and a pencil is grey. A model that crops a drawing to its ink
would take all of that for ink. Shapes: H x W pixels of a picture, ink in [0, 255].
"""

import numpy as np
from PIL import Image, ImageFilter

from matchnet.pictures.pixels import Ink, prepared_for, to_pixels
from matchnet.preparation import Preparation

LARGEST = 1024  # pixels of the longer side of a picture on paper that is not pure; larger ones are made smaller first
SMALL = 96  # pixels of the longer side of the copy in which the paper is found
PURE = 0.25  # a ground is pure if this share of all pixels has no ink at all
FULL = 250  # the darkest ink of a drawing that is not made darker
STRONG = 0.3  # of the darkest ink: fainter pixels count as ink only if they lie beside strong ones
FAINT, NOISE = 0.12, 3.0  # what is taken off: this share of the darkest ink, and no less than 3 sigma of the paper
LEAST, LEAST_NOISE = 12.0, 5.0  # ink is darker than its paper by this, and by 5 sigma of the paper


def as_the_model_sees(image: Image.Image, preparation: Preparation, ink: Ink,
                      clean: bool) -> tuple[np.ndarray, bool]:
    """A user's picture as (channels, size, size) uint8, and whether it is a drawing without any ink.

    clean: bring a drawing onto a pure ground first.
    """
    prepared = prepared_for(image, preparation, ink)
    if not clean or preparation.kind != "drawings" or preparation.channels != 1:
        return to_pixels(image, prepared), False
    drawing = on_pure_ground(image, prepared.invert)
    return to_pixels(drawing or image, prepared), drawing is None


def on_pure_ground(image: Image.Image, dark_ink: bool) -> Image.Image | None:
    """The drawing in grey, on white with black ink if `dark_ink`, else the opposite; None if nothing stands out.

    A drawing that has a pure ground and full ink already is returned as it is.
    """
    grey = image.convert("L")
    ink_HW = _ink(grey, dark_ink)
    if (ink_HW == 0).mean() >= PURE:
        clean_HW = _stretched(ink_HW, 0.0)
    else:
        factor = -(-max(grey.size) // LARGEST)
        ink_HW = _ink(grey.reduce(factor), dark_ink) if factor > 1 else ink_HW
        over_HW = ink_HW - _paper(ink_HW)
        noise = 1.4826 * float(np.median(np.abs(over_HW[over_HW <= _threshold(over_HW)])))
        clean_HW = _stretched(over_HW, noise)
    if clean_HW is None:
        return None
    if clean_HW is ink_HW:
        return grey
    pixels_HW = np.rint(clean_HW).astype(np.uint8)
    return Image.fromarray(255 - pixels_HW if dark_ink else pixels_HW)


def _ink(grey: Image.Image, dark_ink: bool) -> np.ndarray:
    pixels_HW = np.asarray(grey, np.float32)
    return 255 - pixels_HW if dark_ink else pixels_HW


def _stretched(over_HW: np.ndarray, noise: float) -> np.ndarray | None:
    """From what is darker than paper to ink: the paper's noise to 0, the darkest ink to 255. None without ink."""
    strokes = over_HW[over_HW > _threshold(over_HW)]
    darkest = float(np.percentile(strokes, 95)) if len(strokes) else 0.0
    if darkest < max(LEAST, LEAST_NOISE * noise):
        return None
    reach = 2 * max(1, max(over_HW.shape) // 200) + 1
    strong = Image.fromarray(np.where(over_HW > STRONG * darkest, 255, 0).astype(np.uint8))
    beside_HW = np.asarray(strong.filter(ImageFilter.MaxFilter(reach))) > 0
    if not noise and darkest >= FULL:
        return over_HW if beside_HW[over_HW > 0].all() else np.where(beside_HW, over_HW, 0)
    least = max(FAINT * darkest, NOISE * noise) if noise else 0.0
    return np.where(beside_HW, np.clip((over_HW - least) / (darkest - least), 0, 1) * 255, 0)


def _paper(ink_HW: np.ndarray) -> np.ndarray:
    """The tone of the paper at each pixel: a surface of second degree through the pixels without strokes.

    It is a plane through the edge of the picture at first, where paper is likely; then what stands out is left out.
    """
    height, width = ink_HW.shape
    step = max(1, max(height, width) // SMALL)
    small_HW = ink_HW[step // 2::step, step // 2::step]
    all_terms_HWK = _terms(height, width)
    terms_HWK = all_terms_HWK[step // 2::step, step // 2::step]
    edge = max(1, min(small_HW.shape) // 16)
    paper_HW = np.ones(small_HW.shape, bool)
    paper_HW[edge:-edge, edge:-edge] = False
    for degree in (3, 3, 6, 6):
        weights_K = np.linalg.lstsq(terms_HWK[paper_HW][:, :degree], small_HW[paper_HW], rcond=None)[0]
        over_HW = small_HW - terms_HWK[..., :degree] @ weights_K
        paper_HW = over_HW <= _threshold(over_HW)
    return all_terms_HWK @ weights_K


def _terms(height: int, width: int) -> np.ndarray:
    """1, y, x, y^2, x y, x^2 of each pixel, with coordinates in [-1, 1]."""
    y_HW, x_HW = np.meshgrid(np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32),
                             indexing="ij")
    return np.stack([np.ones_like(x_HW), y_HW, x_HW, y_HW ** 2, x_HW * y_HW, x_HW ** 2], axis=-1)


def _threshold(value_HW: np.ndarray) -> float:
    """What divides the values into two kinds with the least variance within each  [Otsu 1979]."""
    counts, edges = np.histogram(value_HW, bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(edges[1:][np.nanargmax(np.where(above > 0, between, -1))])
