"""Figure 2: episodes on which two models differ, with the answers of both  [Vinyals et al. 2016, section 4.1.2]."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.results.episode_grid import (
    GAP,
    INK,
    LABEL,
    MUTED,
    RIGHT,
    WRONG,
    blank,
    font,
    has_colour,
    heading_strip,
    save_page,
    side_by_side,
    support_picture,
    tile,
    tile_size,
    write,
)
from pipeline.results.short_title import short_title
from pipeline.results.shown_episode import MOST_QUERIES, ShownEpisode, way_name

LONGEST = 44  # characters of a model's title beside its answers


@dataclass(frozen=True)
class SharedEpisode:
    """One episode as two models answered it."""

    ours: ShownEpisode
    baseline: ShownEpisode

    def queries(self) -> list[int]:
        """The queries to show: first those that only one model answers right, spread over many ways."""
        same_Q = self.ours.wrong_Q == self.baseline.wrong_Q
        ways = self.ours.query_way_Q.tolist()
        before_Q = [ways[:query].count(way) - same_Q[:query][np.array(ways[:query], dtype=int) == way].sum()
                    for query, way in enumerate(ways)]  # earlier queries of its way that differ
        return np.lexsort((before_Q, same_Q))[:MOST_QUERIES].tolist()


@dataclass(frozen=True)
class Group:
    """Episodes under a heading that says how they were chosen."""

    heading: str
    episodes: Sequence[SharedEpisode]


def draw_comparison(path: Path, title: str, groups: Sequence[Group], titles: tuple[str, str]) -> None:
    """Write a PNG.

    Args:
        titles: the titles of our model and of the baseline.
    """
    strips = [heading_strip(title)]
    for group in groups:
        strips.append(heading_strip(group.heading))
        strips += [side_by_side(support_picture(episode.ours), _answers(episode, titles)) for episode in group.episodes]
    save_page(path, strips, has_colour([episode.ours for group in groups for episode in group.episodes]))


def _answers(episode: SharedEpisode, titles: tuple[str, str]) -> Image.Image:
    """Draw queries from left to right; below each both answers, and the true way if an answer is wrong."""
    size, queries = tile_size(episode.ours), episode.queries()
    shown = [short_title(title, LONGEST) for title in titles]
    left = int(max(font(True, 12).getlength(title) for title in shown)) + 2 * GAP
    pitch = max(size + 8, 70) + GAP
    picture = blank(left + len(queries) * pitch + 130, size + 14 + 3 * LABEL)
    for line, (title, answered) in enumerate(zip(shown, (episode.ours, episode.baseline), strict=True)):
        y = size + 12 + line * LABEL
        write(picture, (0, y), title, INK, bold=True, anchor="la")
        right = int((~answered.wrong_Q).sum())
        write(picture, (left + len(queries) * pitch + GAP, y), f"{right} of {len(answered.wrong_Q)} right", INK,
              anchor="la")
        for position, query in enumerate(queries):
            _answer(picture, (left + position * pitch + (size + 8) // 2, y), answered, query)
    for position, query in enumerate(queries):
        _query(picture, left + position * pitch, size, episode, query)
    return picture


def _query(picture: Image.Image, x: int, size: int, episode: SharedEpisode, query: int) -> None:
    """Draw a query in a frame of the colour of our answer."""
    colour = WRONG if episode.ours.wrong_Q[query] else RIGHT
    ImageDraw.Draw(picture).rectangle([x, 0, x + size + 7, size + 7], fill=colour)
    picture.paste(tile(episode.ours.query_Q[query], size), (x + 4, 4))
    if episode.ours.wrong_Q[query] or episode.baseline.wrong_Q[query]:
        true_way = way_name(int(episode.ours.query_way_Q[query]))
        write(picture, (x + (size + 8) // 2, size + 12 + 2 * LABEL), f"is {true_way}", MUTED)


def _answer(picture: Image.Image, at: tuple[int, int], answered: ShownEpisode, query: int) -> None:
    log_probs_N = answered.log_probs_QN[query]
    predicted, wrong = int(log_probs_N.argmax()), bool(answered.wrong_Q[query])
    text = f"{'✗' if wrong else '✓'} {way_name(predicted)} {float(log_probs_N[predicted].exp()):.0%}"
    write(picture, at, text, WRONG if wrong else RIGHT, bold=True)
