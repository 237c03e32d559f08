"""The report as one HTML file that holds all it shows, and the front page: no script, nothing from the network.

The templates escape everything; only what this module marks as Markup goes into the page as it is.
"""

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from matchnet.messages import said
from pipeline.results.curve_svg import curve_svg
from pipeline.results.dots_svg import dots_svg
from pipeline.results.episode_text import read_episodes
from pipeline.results.grids import STALE, STALE_SAYS
from pipeline.results.report_content import COMPARED, INTRODUCTION, NOTHING, STAND_IN, Report

LARGEST_PAGE = 2_000_000  # bytes; pictures that would make it larger are left out and named
LONGEST_SIDE = 16_383  # pixels of a WebP
WORDS = {"INTRODUCTION": INTRODUCTION, "STAND_IN": STAND_IN, "COMPARED": COMPARED, "NOTHING": NOTHING,
         "STALE": STALE, "STALE_SAYS": STALE_SAYS}
INCLUDED = ("page.html", "style.css")  # parts of other templates: stage_code.py counts the files that are named here
ENVIRONMENT = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True,
                          undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@dataclass(frozen=True)
class Listed:
    """A table on the front page. page: the file's name, if the page is there."""

    title: str
    about: str
    num_run: int
    num_rows: int
    page: str
    command: str


@dataclass(frozen=True)
class _Plot:
    """An SVG figure under a heading."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class _Shown:
    """Episodes under a heading: markup, or what stands in its place and a link to the file."""

    title: str
    markup: Markup | None
    link: str


def html_report(report: Report) -> str:
    """The whole page, of LARGEST_PAGE bytes at most."""
    template = ENVIRONMENT.get_template("report.html")
    values = {"report": report, "found": report.found, "table": report.table, "plots": _dots(report),
              "curves": _curves(report), **WORDS}
    pictures = [(one.heading, one.picture) for one in report.comparisons if one.picture]
    episodes = [*pictures, *report.episodes]
    without = template.render(**values, episodes=[_Shown(title, None, _link(path)) for title, path in episodes])
    left, shown = LARGEST_PAGE - len(without.encode()) - 1, []
    for title, path in episodes:
        markup = _episodes(title, path)
        fits = len(markup.encode()) <= left
        left -= len(markup.encode()) * fits
        shown.append(_Shown(title, markup if fits else None, _link(path)))
    return template.render(**values, episodes=shown)


def html_front_page(tables: Sequence[Listed], others: Sequence[str]) -> str:
    """Links to the tables that have results, or the command of a missing page; the names of the other tables."""
    return ENVIRONMENT.get_template("index.html").render(tables=tables, others=others)


def _dots(report: Report) -> list[tuple[bool, str, list[_Plot]]]:
    """(is open, heading, a figure a column) of each grid. Grids in the paper are open, or all if none is there."""
    grids = report.found.grids
    has_paper = any(grid.in_paper for grid in grids)
    return [(grid.in_paper or not has_paper, grid.title,
             [_Plot(column.title, Markup(dots_svg(grid, column, f"d{number}x{position}")))
              for position, column in enumerate(grid.columns)
              if any(line.row.details and column.name in line.row.details.columns for line in grid.lines)])
            for number, grid in enumerate(grids)]


def _curves(report: Report) -> list[_Plot]:
    return [_Plot(model.name, Markup(drawn)) for number, model in enumerate(report.models)
            if (drawn := curve_svg(model.curve, f"c{number}", f"Learning curves of {model.name}"))]


def _link(path: Path) -> str:
    """Link from the page, which lies in results/, to a file of the repository."""
    return f"../{quote(path.as_posix())}"


def _episodes(title: str, path: Path) -> Markup:
    if path.suffix == ".html":
        tables = read_episodes(path).replace('<table class="episode">', '<table class="episode" role="presentation">')
        return Markup(tables)
    return Markup('<img alt="{}" src="{}">').format(
        f"Test episodes of {title}: support sets, queries, and what was predicted", _data_uri(path))


def _data_uri(path: Path) -> str:
    """A picture as WebP: photographs in a fifth of a PNG's bytes, as the page is one file. A longer one stays PNG."""
    webp = io.BytesIO()
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            is_drawn = picture.mode == "P"
            pixels = picture.convert("RGB")
            if max(pixels.size) > LONGEST_SIDE:
                return "data:image/png;base64," + b64encode(path.read_bytes()).decode("ascii")
            pixels.save(webp, "WEBP", lossless=is_drawn, quality=85)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises errors of many kinds for damaged bytes
        raise ValueError(f"{path}: not a whole picture ({said(error)}); make it again with the stage that draws it"
                         ) from error
    return "data:image/webp;base64," + b64encode(webp.getvalue()).decode("ascii")
