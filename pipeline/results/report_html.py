"""The report as one HTML file that holds all it shows: no script, nothing from the network."""

import io
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path

from PIL import Image

from matchnet.messages import said
from pipeline.results.episode_text import read_episodes
from pipeline.results.report_content import COMPARED, LEAD, STAND_IN, ComparisonSection, ModelSection, Report
from pipeline.results.tables import STALE, STALE_SAYS, Row, Table, column_title, signed, stale_by_reason

STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>{STYLE}</style>
"""


def html_report(report: Report) -> str:
    """The whole page."""
    table = report.table
    lead = "".join(f'<p class="lead">{escape(words)}</p>' for words in (table.about, LEAD) if words)
    warning = f'<p class="warn">{escape(STAND_IN)}</p>' if table.stand_in else ""
    parts = [f"{HEAD}<title>{escape(table.title)}</title>\n</head>\n<body>\n<main>\n"
             f"<header><h1>{escape(table.title)}</h1>{lead}</header>",
             _section("Results", warning + _table(report) + _stale(table), "stand-in" if table.stand_in else "plain"),
             _what_ran(report)]
    if report.comparisons:
        parts.append(_section("Row against row", f"<p>{escape(COMPARED)}</p>"
                              + "".join(map(_comparison, report.comparisons))))
    if report.models:
        parts.append(_section("Models", "".join(map(_model, report.models))))
    if report.episodes:
        parts.append(_section("Test episodes", _episodes(report)))
    return "\n".join([*parts, "</main>", "</body>", "</html>", ""])


def _stale(table: Table) -> str:
    items = "".join(f"<li><b>{escape(', '.join(rows))}</b>: {escape(reason)}</li>"
                    for reason, rows in stale_by_reason(table.rows).items())
    return f'<div class="warn"><p>{STALE} {escape(STALE_SAYS)}:</p><ul>{items}</ul></div>' if items else ""


def _section(title: str, inner: str, kind: str = "plain") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>\n{inner}</section>'


def _what_ran(report: Report) -> str:
    datasets = [f"<li><b>{escape(name)}</b> {escape(part)} <code>{escape(digest[:12])}</code></li>"
                for name, part, digest in report.datasets()]
    machines = [f"<li><b>{escape(machine.gpu or machine.cpu)}</b> "
                f"{escape(machine.cpu) + ', ' if machine.gpu else ''}{machine.cores} cores, "
                f"torch {escape(machine.torch)}, {count} row{'s' * (count != 1)}</li>"
                for machine, count in report.machines().items()]
    if not datasets:
        return _section("What ran", "<p>Nothing yet: run <code>dvc repro</code>.</p>")
    return _section("What ran", f'<div class="facts"><div><h4>Tested on (split: part, manifest)</h4>'
                                f'<ul>{"".join(datasets)}</ul></div><div><h4>Machines</h4><ul>{"".join(machines)}</ul>'
                                f"</div></div>")


def _table(report: Report) -> str:
    columns = report.table.columns
    titles = [*map(column_title, columns), "Episodes", "Train, s", "Evaluate, s"]
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(_row(report, row, columns) for row in report.table.rows)
    return (f'<div class="scroll"><table><thead><tr><th scope="col" class="name">Row</th>{heads}'
            f"</tr></thead>\n{body}</table></div>\n")


def _row(report: Report, row: Row, columns: list[str]) -> str:
    cells = "".join(_cell(row, column) for column in columns)
    rest = "".join(f'<td class="small">{value}</td>' for value in (row.episodes(), *row.seconds()))
    method = f' <span class="method">{escape(report.method(row))}</span>' if report.method(row) else ""
    kind = "off" if any(row.points_off(column) for column in row.columns) else "note"
    remark = f'<p class="{kind}">{escape(row.remark())}</p>' if row.remark() else ""
    return (f'<tbody><tr><th scope="row">{escape(row.info.title)}{method}</th>{cells}{rest}</tr>\n'
            f'<tr class="below"><td colspan="{len(columns) + 4}">{remark}'
            f'<p class="again">{_again(row)}</p></td></tr></tbody>\n')


def _again(row: Row) -> str:
    command = f"<code>{escape(row.info.command)}</code>"
    return command if row.details else f"Not run yet: {command}"


def _cell(row: Row, column: str) -> str:
    paper, points, ours = row.paper(column), row.points_off(column), row.ours(column)
    number, _, interval = ours.partition(" ± ")
    shown = f'<b>{number}</b> <span class="ci">± {interval}</span>' if interval else ours
    off = f' <span class="{"above" if points > 0 else "under"}">{signed(points)}</span>' if points else ""
    beside = f'<span class="paper">paper {paper:.1f}{off}</span>' if paper is not None else ""
    return f"<td>{shown}{beside}</td>"


def _model(model: ModelSection) -> str:
    return (f'<article><h3>{escape(model.name)}</h3><p class="again">{escape(model.facts)}</p>'
            f"{_speed(model)}{model.curve or ''}{_parameters(model.parameters)}</article>\n")


def _speed(model: ModelSection) -> str:
    workers = model.speed.workers
    line = f'<p class="again">Training: {escape(model.speed.facts)}</p>' if workers else ""
    return line + (f"<details><summary>Each worker</summary>{_workers(model)}</details>" if len(workers) > 1 else "")


def _workers(model: ModelSection) -> str:
    head, rows = model.speed.table()
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _parameters(parameters: Mapping[str, str]) -> str:
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
                    for name, value in parameters.items())
    return f"<details><summary>Parameters</summary><dl>{pairs}</dl></details>" if pairs else ""


def _comparison(comparison: ComparisonSection) -> str:
    picture = comparison.picture
    shown = "" if picture is None else \
        f'<img alt="Test episodes with the answers of both" src="{_data_uri(picture)}">'
    return (f"<details open><summary>{escape(comparison.heading)}</summary><p>{escape(comparison.facts)}</p>"
            f"{shown}</details>\n")


def _episodes(report: Report) -> str:
    return "".join(f"<details{' open' * (number == 0)}><summary>{escape(report.title(row))}</summary>"
                   f"{_shown(path)}</details>\n" for number, (row, path) in enumerate(report.episodes.items()))


def _shown(path: Path) -> str:
    if path.suffix == ".html":
        return read_episodes(path)
    return f'<img alt="Test episodes with predictions" src="{_data_uri(path)}">'


def _data_uri(path: Path) -> str:
    """A picture as WebP: photographs in a fifth of a PNG's bytes, since the page is one file."""
    webp = io.BytesIO()
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            is_drawn = picture.mode == "P"
            picture.convert("RGB").save(webp, "WEBP", lossless=is_drawn, quality=85)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises errors of many kinds for damaged bytes
        raise ValueError(f"{path}: not a whole picture ({said(error)}); make it again with the stage that draws it"
                         ) from error
    return "data:image/webp;base64," + b64encode(webp.getvalue()).decode("ascii")
