"""A picture of test episodes: each support set, some of its queries, and what the model said of them.

Which episodes are shown does not depend on how the model did: the first ones. Episodes with errors follow,
under a heading that says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipeline.files import atomic_write

WAYS_A_LINE, MOST_QUERIES = 10, 6
GAP, MARGIN, LABEL = 6, 20, 18  # pixels: between tiles, around the picture, a line of text
INK, MUTED, RIGHT, WRONG, PAPER = "#1f2630", "#6a7482", "#1a7f37", "#c9222e", "#ffffff"


@dataclass(frozen=True)
class EpisodePicture:
    """One episode, on the CPU: uint8 images (C of 1 or 3), ways int64 in [0, N), natural logarithms."""

    support_SCHW: Tensor
    support_way_S: Tensor
    query_QCHW: Tensor
    query_way_Q: Tensor
    log_probs_QN: Tensor

    @property
    def wrong_Q(self) -> np.ndarray:
        """Which queries got another way than their own."""
        return (self.log_probs_QN.argmax(-1) != self.query_way_Q).numpy()


def draw_episodes(path: Path, episodes: Sequence[EpisodePicture], num_first: int = 4,
                  num_with_errors: int = 3) -> None:
    """Write a PNG of the first episodes and, apart from them, of the first others that hold an error.

    Args:
        episodes: the first test episodes in their order, all of one shape; a hundred, say.
    """
    first, others = episodes[:num_first], episodes[num_first:]
    failed = [episode for episode in others if episode.wrong_Q.any()]
    strips = [_heading(f"The first {len(first)} test episodes: a query of each way, {MOST_QUERIES} at most")]
    strips += [_episode(episode, _one_query_a_way(episode)) for episode in first]
    if failed:
        shown = failed[:num_with_errors]
        strips.append(_heading(f"Chosen for their errors, wrong queries first: {len(shown)} of the "
                               f"{len(failed)} episodes with an error among the next {len(others)}"))
        strips += [_episode(episode, _wrong_first(episode)) for episode in shown]
    with atomic_write(path, "wb") as file:
        page = _stack(strips).quantize(256, dither=Image.Dither.NONE)  # half the bytes
        page.save(file, format="PNG", optimize=True)


def _one_query_a_way(episode: EpisodePicture) -> list[int]:
    ways = episode.query_way_Q.tolist()
    return [ways.index(way) for way in sorted(set(ways))][:MOST_QUERIES]


def _wrong_first(episode: EpisodePicture) -> list[int]:
    return np.argsort(~episode.wrong_Q, kind="stable")[:MOST_QUERIES].tolist()


def way_name(way: int) -> str:
    """A, B, ..., Z, then numbers."""
    return chr(ord("A") + way) if way < 26 else str(way)


def _episode(episode: EpisodePicture, queries: Sequence[int]) -> Image.Image:
    """Support set on the left, class by class, shots downwards; queries on the right."""
    support, answers = _support(episode), _queries(episode, queries)
    strip = _blank(support.width + 4 * GAP + answers.width, max(support.height, answers.height) + 2 * GAP)
    strip.paste(support, (0, GAP))
    strip.paste(answers, (support.width + 4 * GAP, GAP))
    x = support.width + 2 * GAP
    ImageDraw.Draw(strip).line([(x, GAP), (x, strip.height - GAP)], fill="#d5dae0")
    return strip


def _support(episode: EpisodePicture) -> Image.Image:
    size, num_ways = _tile_size(episode), episode.log_probs_QN.shape[-1]
    num_shots = max(int((episode.support_way_S == way).sum()) for way in range(num_ways))
    columns, lines = min(num_ways, WAYS_A_LINE), -(-num_ways // WAYS_A_LINE)
    height = LABEL + num_shots * (size + GAP)
    picture = _blank(columns * (size + GAP), lines * height)
    for way in range(num_ways):
        x, y = way % WAYS_A_LINE * (size + GAP), way // WAYS_A_LINE * height
        _text(picture, (x + size // 2, y), way_name(way), MUTED, bold=True)
        for shot, item in enumerate((episode.support_way_S == way).nonzero().flatten().tolist()):
            picture.paste(_tile(episode.support_SCHW[item], size), (x, y + LABEL + shot * (size + GAP)))
    return picture


def _queries(episode: EpisodePicture, queries: Sequence[int]) -> Image.Image:
    size = _tile_size(episode)
    pitch = max(size + 8, 60) + GAP
    picture = _blank(MOST_QUERIES * pitch + 80, size + 8 + 2 * LABEL)
    for position, query in enumerate(queries):
        _query(picture, position * pitch, size, episode, query)
    right, x = int((~episode.wrong_Q).sum()), len(queries) * pitch + GAP
    _text(picture, (x, size // 2), f"{right} of {len(episode.wrong_Q)}", INK, anchor="la")
    _text(picture, (x, size // 2 + LABEL), "right", MUTED, anchor="la")
    return picture


def _query(picture: Image.Image, x: int, size: int, episode: EpisodePicture, query: int) -> None:
    """A query in a frame; under it the predicted way and its probability; where wrong, the true way too."""
    log_probs_N, true_way = episode.log_probs_QN[query], int(episode.query_way_Q[query])
    predicted = int(log_probs_N.argmax())
    colour, mark = (RIGHT, "✓") if predicted == true_way else (WRONG, "✗")
    ImageDraw.Draw(picture).rectangle([x, 0, x + size + 7, size + 7], fill=colour)
    picture.paste(_tile(episode.query_QCHW[query], size), (x + 4, 4))
    middle, below = x + size // 2 + 4, size + 10
    probability = float(log_probs_N[predicted].exp())
    _text(picture, (middle, below), f"{mark} {way_name(predicted)} {probability:.0%}", colour, bold=True)
    if predicted != true_way:
        truth = float(log_probs_N[true_way].exp())
        _text(picture, (middle, below + LABEL - 3), f"is {way_name(true_way)} {truth:.0%}", MUTED)


def _tile_size(episode: EpisodePicture) -> int:
    return 56 if episode.query_QCHW.shape[-1] <= 56 else 84


def _tile(image_CHW: Tensor, size: int) -> Image.Image:
    pixels = image_CHW.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    kind = Image.Resampling.NEAREST if max(image.size) <= size else Image.Resampling.BOX
    return image.convert("RGB").resize((size, size), kind)


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def _heading(text: str) -> Image.Image:
    strip = _blank(int(_font(True, 14).getlength(text)) + GAP, 34)
    ImageDraw.Draw(strip).text((0, 8), text, fill=INK, font=_font(True, 14))
    return strip


def _text(picture: Image.Image, at: tuple[int, int], text: str, colour: str, bold: bool = False,
          anchor: str = "ma") -> None:
    ImageDraw.Draw(picture).text(at, text, fill=colour, font=_font(bold, 12), anchor=anchor)


@cache
def _font(bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """DejaVu as matplotlib ships it: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _stack(strips: Sequence[Image.Image]) -> Image.Image:
    width, height = max(strip.width for strip in strips), sum(strip.height for strip in strips)
    page = _blank(width + 2 * MARGIN, height + 2 * MARGIN)
    y = MARGIN
    for strip in strips:
        page.paste(strip, (MARGIN, y))
        y += strip.height
    return page
