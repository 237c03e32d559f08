"""A picture of test episodes of images: each support set, some of its queries, and the model's answers."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from matchnet.files import atomic_write
from pipeline.results.shown_episode import MOST_PIXELS, MOST_QUERIES, ShownEpisode, choose, way_name

WAYS_A_LINE = 10
GAP, MARGIN, LABEL = 6, 20, 18  # pixels: between tiles, around the picture, a line of text
INK, MUTED, RIGHT, WRONG, PAPER = "#1f2630", "#6a7482", "#1a7f37", "#c9222e", "#ffffff"


def draw_episodes(path: Path, episodes: Sequence[ShownEpisode], num_first: int = 4) -> None:
    """Write a PNG of the first episodes, and some with errors, of a model of images."""
    strips = []
    for choice in choose(episodes, num_first):
        strips.append(heading_strip(choice.heading))
        strips += [_episode(episode, queries) for episode, queries in choice.episodes]
    save_page(path, strips, in_colour=has_colour(episodes))


def has_colour(episodes: Sequence[ShownEpisode]) -> bool:
    return any(episode.query_Q.shape[1] == 3 for episode in episodes)


def save_page(path: Path, strips: Sequence[Image.Image], in_colour: bool) -> None:
    """Save strips one below the other. A palette halves the bytes of drawings; photographs would get bands."""
    page = stack(strips)
    with atomic_write(path, "wb") as file:
        (page if in_colour else page.quantize(256, dither=Image.Dither.NONE)).save(file, format="PNG", optimize=True)


def _episode(episode: ShownEpisode, queries: Sequence[int]) -> Image.Image:
    """Draw the support set on the left, class by class, shots downwards; the queries on the right."""
    return side_by_side(support_picture(episode), _queries(episode, queries))


def side_by_side(support: Image.Image, answers: Image.Image) -> Image.Image:
    strip = blank(support.width + 4 * GAP + answers.width, max(support.height, answers.height) + 2 * GAP)
    strip.paste(support, (0, GAP))
    strip.paste(answers, (support.width + 4 * GAP, GAP))
    x = support.width + 2 * GAP
    ImageDraw.Draw(strip).line([(x, GAP), (x, strip.height - GAP)], fill="#d5dae0")
    return strip


def support_picture(episode: ShownEpisode) -> Image.Image:
    size, num_ways = tile_size(episode), episode.log_probs_QN.shape[-1]
    num_shots = max(int((episode.support_way_S == way).sum()) for way in range(num_ways))
    columns, lines = min(num_ways, WAYS_A_LINE), -(-num_ways // WAYS_A_LINE)
    height = LABEL + num_shots * (size + GAP)
    picture = blank(columns * (size + GAP), lines * height)
    for way in range(num_ways):
        x, y = way % WAYS_A_LINE * (size + GAP), way // WAYS_A_LINE * height
        write(picture, (x + size // 2, y), way_name(way), MUTED, bold=True)
        for shot, item in enumerate((episode.support_way_S == way).nonzero().flatten().tolist()):
            picture.paste(tile(episode.support_S[item], size), (x, y + LABEL + shot * (size + GAP)))
    return picture


def _queries(episode: ShownEpisode, queries: Sequence[int]) -> Image.Image:
    size = tile_size(episode)
    pitch = max(size + 8, 60) + GAP
    picture = blank(MOST_QUERIES * pitch + 80, size + 8 + 2 * LABEL)
    for position, query in enumerate(queries):
        _query(picture, position * pitch, size, episode, query)
    right, x = int((~episode.wrong_Q).sum()), len(queries) * pitch + GAP
    write(picture, (x, size // 2), f"{right} of {len(episode.wrong_Q)}", INK, anchor="la")
    write(picture, (x, size // 2 + LABEL), "right", MUTED, anchor="la")
    return picture


def _query(picture: Image.Image, x: int, size: int, episode: ShownEpisode, query: int) -> None:
    """Draw a query in a frame, under it the predicted way and its probability, and the true way if it is wrong."""
    log_probs_N, true_way = episode.log_probs_QN[query], int(episode.query_way_Q[query])
    predicted = int(log_probs_N.argmax())
    colour, mark = (RIGHT, "✓") if predicted == true_way else (WRONG, "✗")
    ImageDraw.Draw(picture).rectangle([x, 0, x + size + 7, size + 7], fill=colour)
    picture.paste(tile(episode.query_Q[query], size), (x + 4, 4))
    middle, below = x + size // 2 + 4, size + 10
    probability = float(log_probs_N[predicted].exp())
    write(picture, (middle, below), f"{mark} {way_name(predicted)} {probability:.0%}", colour, bold=True)
    if predicted != true_way:
        truth = float(log_probs_N[true_way].exp())
        write(picture, (middle, below + LABEL - 3), f"is {way_name(true_way)} {truth:.0%}", MUTED)


def tile_size(episode: ShownEpisode) -> int:
    return 56 if episode.query_Q.shape[-1] <= 56 else MOST_PIXELS


def tile(image_CHW: Tensor, size: int) -> Image.Image:
    """Scale a picture to a tile: an enlarged drawing keeps its pixels, a photograph is made smooth."""
    pixels = image_CHW.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    is_enlarged = max(image.size) <= size
    drawing = Image.Resampling.NEAREST if is_enlarged else Image.Resampling.BOX
    kind = drawing if image.mode == "L" else Image.Resampling.LANCZOS
    return image.convert("RGB").resize((size, size), kind)


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def heading_strip(text: str) -> Image.Image:
    strip = blank(int(font(True, 14).getlength(text)) + GAP, 34)
    ImageDraw.Draw(strip).text((0, 8), text, fill=INK, font=font(True, 14))
    return strip


def write(picture: Image.Image, at: tuple[int, int], text: str, colour: str, bold: bool = False,
          anchor: str = "ma") -> None:
    ImageDraw.Draw(picture).text(at, text, fill=colour, font=font(bold, 12), anchor=anchor)


@cache
def font(bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """DejaVu as matplotlib ships it: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def stack(strips: Sequence[Image.Image]) -> Image.Image:
    width, height = max(strip.width for strip in strips), sum(strip.height for strip in strips)
    page = blank(width + 2 * MARGIN, height + 2 * MARGIN)
    y = MARGIN
    for strip in strips:
        page.paste(strip, (MARGIN, y))
        y += strip.height
    return page
