"""The report and the terminal's table, made from a table's rows and a folder of results."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import paths
from pipeline.results.comparison import Comparison, write_comparison
from pipeline.results.curves import CurvePoint, write_curve
from pipeline.results.grids import collect_grids
from pipeline.results.metrics import (
    ColumnResult,
    DatasetUsed,
    Details,
    Machine,
    ModelUsed,
    SecondsSpent,
    write_details,
)
from pipeline.results.report import write_report
from pipeline.results.report_content import flattened
from pipeline.results.report_html import LARGEST_PAGE, Listed, html_front_page
from pipeline.results.report_terminal import terminal_table
from pipeline.results.tables import UNEXPLAINED, Row, RowInfo, Table

MODELS = {"t/conv4": {"image_size": 28, "method": {"name": "matching_network", "scale": None}, "rotations": True},
          "t/not-trained-yet": {"image_size": 28}}
REPORT = [paths.report_file("t", kind) for kind in ("md", "html")]


def details(accuracies: Mapping[str, float], model: str = "t/conv4") -> Details:
    return Details({name: ColumnResult(value, 0.12, 10000, 5) for name, value in accuracies.items()},
                   SecondsSpent(1012.3, 4.2), Machine("a processor", 2, None, "2.13.0"),
                   DatasetUsed("omniglot", "vinyals", "test", "ab" * 32), ModelUsed(model, 20000, 111936, 0))


ROWS = [
    Row(RowInfo("t/zebra", "Matching nets <b>", "", {"5w1s": 98.1, "20w1s": 93.8}),
        details({"5w1s": 99.3, "20w1s": 90.0})),
    Row(RowInfo("t/classifier", "Classifier", "a stronger one | is right", {"5w1s": 80.0}), details({"5w1s": 95.0})),
    Row(RowInfo("t/absent", "Siamese", "", {"5w1s": 96.7}, command="dvc repro experiments/t/dvc.yaml:evaluate@absent"),
        None),
    Row(RowInfo("t/old_row", "old_row"), details({"5w1s": 55.5}, model="t/gone")),
]
TABLE = Table("t", "Table 1: <Omniglot>", "All & sundry.", False, ROWS)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's root with a curve and a picture."""
    monkeypatch.chdir(tmp_path)
    points = [CurvePoint(1, 2.0, 20.0), CurvePoint(2, 1.0, valid_accuracy=50.0)]
    write_curve(paths.curve_file("t/conv4"), points)
    paths.picture_file("t/zebra").parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(paths.picture_file("t/zebra"))
    return tmp_path


def rendered(table: Table = TABLE, comparisons: tuple[str, ...] = ()) -> tuple[str, str]:
    """Markdown and HTML."""
    write_report(table, MODELS, comparisons, *REPORT)
    return REPORT[0].read_text(), REPORT[1].read_text()


def words_of(page: str) -> str:
    """The page's text without its tags and style."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def stale(**reasons: str) -> Table:
    """The same table, with reasons by row."""
    return replace(TABLE, rows=[replace(row, stale=reasons.get(row.info.name.removeprefix("t/"), "")) for row in ROWS])


def cells_of(page: str) -> dict[str, list[str]]:
    """Title of a row, without its notes -> its figures, of all tables of results."""
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page[:page.index('id="speed"')], re.DOTALL)
    return {re.sub(r"<sup>.*?</sup>", "", title): [words_of(cell) for cell in re.findall(r"<td.*?</td>", cells)]
            for title, cells in rows}


def test_paper_and_difference_stand_beside_ours(results: Path) -> None:
    markdown, page = rendered()
    assert ("| Matching nets &lt;b&gt; <sup>1</sup> | 99.3 ± 0.1 | 98.1 | +1.2 | 90.0 ± 0.1 | 93.8 | **−3.8** |"
            in markdown)
    assert cells_of(page)["Matching nets &lt;b&gt;"] == ["99.3 ± 0.1", "98.1", "+1.2", "90.0 ± 0.1", "93.8", "−3.8"]
    assert "<b>−3.8</b>" in page and "<b>+1.2</b>" not in page


def test_each_row_that_ran_appears_once_and_the_others_in_one_line(results: Path) -> None:
    markdown, page = rendered()
    assert list(cells_of(page)) == ["Matching nets &lt;b&gt;", "Classifier", "old_row"]
    assert cells_of(page)["Classifier"][3:] == ["–", "", ""] and cells_of(page)["old_row"] == ["55.5 ± 0.1"]
    assert page.count('<th scope="row">Classifier') == 2, "in its table, and in the one of how it was made"
    command = "dvc repro experiments/t/dvc.yaml:evaluate@absent"
    for text, shown in ((words_of(page), command), (markdown, f"`{command}`.")):
        assert text.count("Siamese") == 1 and f"Not run: Siamese. To run the first: {shown}" in text
        assert "3 of 4 rows have figures." in text


def test_rows_are_apart_that_share_no_column_or_are_not_in_the_paper(results: Path) -> None:
    rows = [Row(RowInfo(f"t/{name}", name, paper=paper), details(columns)) for name, paper, columns in (
        ("a", {"5w1s": 1.0}, {"5w1s": 2.0}), ("b", {"10w1s": 1.0}, {"10w1s": 2.0}), ("c", {}, {"20w1s": 2.0}),
        ("d", {"5w5s": 1.0}, {"5w1s": 2.0, "5w5s": 3.0}), ("e", {}, {"5w5s": 2.0}))]
    found = collect_grids(replace(TABLE, rows=rows))
    assert [[line.title for line in grid.lines] for grid in found.grids] == [["a", "d"], ["b"], ["e"], ["c"]]
    assert [grid.in_paper for grid in found.grids] == [True, True, False, False]
    assert found.grids[0].title == "Tested on omniglot" and found.grids[2].title.startswith("Not in the paper, tested")


def test_notes_are_footnotes(results: Path) -> None:
    markdown, page = rendered()
    assert "1. More than 2 points off" in markdown and "2. a stronger one \\| is right" in markdown
    assert '<li id="note-1">More than 2 points off the paper&#39;s figure. No explanation yet.</li>' in page
    assert '<li id="note-2">a stronger one | is right</li>' in page
    assert re.search(r'Classifier<sup><a href="#note-2" aria-label="note 2">2</a></sup></th>', page)


@pytest.mark.parametrize(("ours", "off"), [(82.0, False), (82.01, True), (78.0, False), (77.99, True)])
def test_two_points_are_the_limit(ours: float, off: bool) -> None:
    row = Row(RowInfo("t/row", "Row", "", {"5w1s": 80.0}), details({"5w1s": ours}))
    assert row.is_off("5w1s") == off and row.notes() == [UNEXPLAINED] * off
    assert replace(row, info=replace(row.info, note="as expected")).notes() == ["as expected"]


def test_rows_keep_their_order_and_columns_are_sorted(results: Path) -> None:
    for text in rendered():
        places = [text.index(title) for title in ("Matching nets &lt;b&gt;", "Classifier", "Siamese")]
        assert places == sorted(places) and text.index("5-way 1-shot") < text.index("20-way 1-shot")


def test_a_stand_in_says_that_it_is_one(results: Path) -> None:
    assert not [text for text in rendered() if "stand in for the paper's" in text]
    markdown, page = rendered(replace(TABLE, stand_in=True))
    assert markdown.index("stand in for the paper's") < markdown.index("99.3")
    assert page.index("stand in for the paper&#39;s") < page.index("<h2")


@pytest.mark.parametrize("kind", ["md", "html", "terminal"])
def test_stale_figures_are_marked_and_grouped_by_reason(results: Path, kind: str) -> None:
    table = stale(zebra="code <x> changed", old_row="code <x> changed", classifier="the model | is new")
    if kind == "terminal":
        text, reasons = terminal_table(table), ["* Matching nets <b>, old_row: code <x> changed",
                                                "* Classifier: the model | is new"]
    elif kind == "md":
        text, reasons = rendered(table)[0], ["- **Matching nets &lt;b&gt;, old\\_row**: code &lt;x&gt; changed",
                                             "- **Classifier**: the model \\| is new"]
    else:
        text, reasons = rendered(table)[1], ["<li><b>Matching nets &lt;b&gt;, old_row</b>: code &lt;x&gt; changed</li>",
                                             "<li><b>Classifier</b>: the model | is new</li>"]
    assert [text.count(reason) for reason in reasons] == [1, 1] and text.index(reasons[0]) < text.index(reasons[1])
    mark = "\\*" if kind == "md" else "*"
    shown = words_of(text) if kind == "html" else text
    for figure in ("99.3 ± 0.1", "90.0 ± 0.1", "95.0 ± 0.1", "55.5 ± 0.1"):
        assert shown.count(figure) == shown.count(figure + mark) == 1, figure
    if kind != "terminal":
        assert f"{mark} These figures were made with other parameters, data or code" in shown


@pytest.mark.parametrize("kind", ["md", "html", "terminal"])
def test_figures_that_are_not_stale_bear_no_mark(results: Path, kind: str) -> None:
    table = stale(classifier="the model is new")
    text = terminal_table(table) if kind == "terminal" else rendered(table)[kind == "html"]
    shown = words_of(text) if kind == "html" else text.replace("\\*", "*")
    assert "95.0 ± 0.1*" in shown and "99.3 ± 0.1 " in shown and shown.count("0.1*") == 1
    if kind == "html":
        assert "Classifier: 95.0 ± 0.1*" in text and ">Classifier*</text>" in text, "in the figure too"
    fresh = terminal_table(TABLE) if kind == "terminal" else rendered()[kind == "html"]
    assert "0.1*" not in words_of(fresh) and "0.1\\*" not in fresh and "other parameters, data or code" not in fresh


COMPARISON = Comparison("t/zebra", "t/classifier", "5w1s", 100, 4.3, 0.2, 60, 30, 10, 0.0, 1.0)


@pytest.mark.parametrize("kind", ["md", "html"])
def test_a_stale_comparison_is_marked(results: Path, kind: str) -> None:
    write_comparison(paths.comparison_file("t/figure2"), COMPARISON)
    for stale, mark in (({}, ""), ({"t/figure2": "row <zebra> was made anew since"}, "*")):
        text = rendered(replace(TABLE, stale_comparisons=stale), ("t/figure2",))[kind == "html"]
        shown = words_of(text) if kind == "html" else text.replace("\\*", "*")
        assert f"+4.3 ± 0.2{mark} points" in shown and "is ahead in 60, behind in 30, equal in 10" in shown
        assert ("It gave one answer to more than 60% of the queries in 0 of 100 episodes, the baseline in 1."
                in shown)
        assert ("row &lt;zebra&gt; was made anew since" in shown) == ("0.2*" in shown) == bool(mark)


class Parsed(HTMLParser):
    """Collects the tags with their attributes, and everything that a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.loads += [value or "" for name, value in attrs if tag != "a"
                       and name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster")]

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_html_holds_all_it_shows(results: Path) -> None:
    page = rendered()[1]
    parsed = Parsed(page)
    loads = [load for load in parsed.loads if not load.startswith("#")]
    assert len(loads) == 1 and loads[0].startswith("data:image/webp;base64,")
    assert not parsed.all("script", "link", "iframe", "object", "embed")
    assert len(parsed.all("svg")) == 4, "two columns, one of them of a row that is not in the paper, and a curve"
    assert "@import" not in page and not re.search(r"url\((?!#)", page) and len(page.encode()) < LARGEST_PAGE
    assert all(str(a["href"]).startswith(("#", "index.html", "../data/")) for a in parsed.all("a"))
    assert "default-src 'none'" in str(parsed.all("meta"))


def test_html_can_be_read_by_a_screen_reader(results: Path) -> None:
    write_comparison(paths.comparison_file("t/figure2"), COMPARISON)
    parsed = Parsed(rendered(replace(TABLE, stand_in=True), ("t/figure2",))[1])
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    assert all(img.get("alt") for img in parsed.all("img"))
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in parsed.all("svg"))
    assert all(th.get("scope") in ("row", "col", "colgroup") for th in parsed.all("th")) and parsed.all("th")
    assert len(parsed.all("main")) == len(parsed.all("header")) == len(parsed.all("nav")) == 1
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for a in parsed.all("a") if str(a["href"]).startswith("#")} <= set(ids)
    assert all(section.get("aria-labelledby") in ids for section in parsed.all("section"))
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in parsed.all("div")
               if box.get("class") == "scroll")


def test_pictures_that_would_make_the_page_too_large_are_named(results: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    for row in ("t/zebra", "t/classifier", "t/old_row"):
        paths.picture_file(row).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).quantize(256).save(paths.picture_file(row))
    page = rendered()[1]
    assert len(page.encode()) < LARGEST_PAGE and page.count("data:image/webp") == 1
    assert page.count("too large for this page") == 2
    assert '<a href="../data/evaluations/t/old_row/episodes.png">' in page


@pytest.mark.parametrize(("size", "kind"), [((16_383, 2), "webp"), ((2, 16_384), "png")])
def test_a_picture_longer_than_a_webp_can_be_stays_a_png(results: Path, size: tuple[int, int], kind: str) -> None:
    """A row of 20-way tasks can have such a page of episodes."""
    Image.new("RGB", size).save(paths.picture_file("t/zebra"))
    assert rendered()[1].count(f'src="data:image/{kind};base64,') == 1


def test_the_page_says_what_ran_here_last(results: Path) -> None:
    assert "no row was run in this folder" in rendered()[1]
    for row, seconds in (("t/zebra", 1_000_000_000), ("t/classifier", 2_000_000_000)):
        write_details(paths.details_file(row), ROWS[0].details or details({}))
        os.utime(paths.details_file(row), (seconds, seconds))
    markdown, page = rendered()
    assert "The last to run here was Matching nets &lt;b&gt; , on 9 September 2001, 01:46 UTC" in words_of(page)
    assert "2001" not in markdown, "git keeps it"
    assert "No pictures here" not in page
    shutil.rmtree("data")
    assert "No pictures here: git does not keep them." in rendered()[1]


def test_the_front_page_links_the_tables_that_have_results() -> None:
    page = html_front_page([Listed("Table <1>", "A & b", 2, 3, "t.html", "python -m stages.report t"),
                            Listed("Table 2", "", 1, 1, "", "python -m stages.report u")], [])
    parsed = Parsed(page)
    assert [a["href"] for a in parsed.all("a")] == ["#main", "t.html"] and not parsed.loads
    assert '<a href="t.html">Table &lt;1&gt;</a>' in page and "A &amp; b" in page
    assert "2 of 3 rows have figures." in page


def test_the_front_page_says_how_to_get_what_it_does_not_link() -> None:
    linked, unlinked = (Listed(f"Table {name}", "", 1, 1, page, f"python -m stages.report {name}")
                        for name, page in (("t", "t.html"), ("u", "")))
    words = words_of(html_front_page([linked, unlinked], ["mini", "ptb"]))
    assert words.count("Its page is not here: git keeps the figures only.") == 1
    assert "To make the page: python -m stages.report u" in words and "stages.report t" not in words
    assert "Not run here: mini, ptb. To run a table: make TABLE . The README says what each table needs." in words
    assert "Not run here" not in html_front_page([linked], [])


def test_markdown_needs_no_other_file(results: Path) -> None:
    """Git keeps it; pictures and curves are in the HTML."""
    markdown, _ = rendered()
    assert "](" not in markdown and "<img" not in markdown and "svg" not in markdown


@pytest.mark.parametrize("table", [TABLE, stale(zebra="changed")], ids=["fresh", "stale"])
def test_html_tags_are_balanced(results: Path, table: Table) -> None:
    _, page = rendered(table)
    for tag in ("section", "table", "thead", "tbody", "tr", "th", "td", "p", "div", "ul", "li", "details", "figure",
                "svg"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>") > 0, tag


def test_words_of_the_user_are_escaped(results: Path) -> None:
    for text in rendered():
        assert "Matching nets <b>" not in text and "Matching nets &lt;b&gt;" in text
        assert "<Omniglot>" not in text and "Table 1: &lt;Omniglot&gt;" in text
        assert "All &amp; sundry." in text


def test_same_results_give_the_same_bytes(results: Path) -> None:
    assert rendered() == rendered()


def test_models_show_their_parameters(results: Path) -> None:
    markdown, page = rendered()
    for text in (markdown, words_of(page)):
        assert "20,000 steps · 111,936 trainable parameters · seed 0" in text
        assert "t/conv4" in text and "t/not-trained-yet" not in text
    parameters = "`image_size: 28`, `method.name: matching_network`, `method.scale: –`, `rotations: true`"
    assert parameters in markdown
    assert words_of(page).count("Parameters image_size 28 method.name matching_network") == 1


def test_a_model_that_is_trained_and_not_evaluated_is_shown(results: Path) -> None:
    for text in rendered(replace(TABLE, rows=ROWS[2:3])):
        assert "t/conv4" in text and "not evaluated yet" in text


def test_a_row_of_a_model_that_the_parameters_no_longer_have_is_shown(results: Path) -> None:
    markdown, page = rendered()
    assert "| old\\_row | 55.5 ± 0.1 |" in markdown
    assert "| old\\_row | – | 10,000 | 1,012 | 4.2 | – |" in markdown
    assert "t/gone" not in markdown and "t/gone" not in page


def test_flattened_parameters() -> None:
    nested = {"a": {"b": [1, True], "c": False}, "d": None}
    assert flattened(nested) == {"a.b": "1, true", "a.c": "false", "d": "–"}


def test_a_malformed_curve_stops_the_report_and_leaves_the_old_one(results: Path) -> None:
    before = rendered()
    paths.curve_file("t/conv4").write_text("step,loss\n")
    with pytest.raises(ValueError, match=r"results/curves/t/conv4\.csv: columns are \['step', 'loss'\], expected"):
        rendered()
    assert tuple(path.read_text() for path in REPORT) == before


def test_a_table_without_results_says_what_to_do(results: Path) -> None:
    nothing = replace(TABLE, rows=ROWS[2:3])
    assert not nothing.has_results and TABLE.has_results
    for text in rendered(nothing):
        assert "No row has run yet." in text and "Not run: Siamese." in text
    assert terminal_table(nothing) == "Table 1: <Omniglot>: no results yet"


def test_terminal_table() -> None:
    lines = terminal_table(TABLE).splitlines()
    assert lines[0] == "Table 1: <Omniglot>" and lines[2] == "Tested on omniglot"
    assert lines[3].split("  ")[0] == "% (95% interval) [paper]"
    assert re.fullmatch(r"Matching nets <b> +99\.3 ± 0\.1 \[98\.1\] +90\.0 ± 0\.1 \[93\.8\]", lines[5])
    assert re.fullmatch(r"Classifier +95\.0 ± 0\.1 \[80\.0\] +–", lines[6])
    assert lines[5].index("99.3") == lines[6].index("95.0")
    assert lines[8] == "Not in the paper, tested on omniglot" and re.fullmatch(r"old_row +55\.5 ± 0\.1", lines[11])
    assert lines[12:] == ["not run: Siamese"]
    alone = terminal_table(replace(TABLE, stand_in=True, rows=ROWS[:1])).splitlines()
    assert alone[0] == "Table 1: <Omniglot> (on other data than the paper's)" and len(alone) == 4


def test_control_codes_do_not_reach_the_terminal() -> None:
    rows = [replace(row, info=replace(row.info, title="\x1b[2Jgone\r\u202e")) for row in (ROWS[0], ROWS[2])]
    text = terminal_table(replace(TABLE, title="a\x1b]0;b\x07", rows=rows))
    assert text.startswith("a�]0;b�\n") and text.endswith("not run: �[2Jgone��") and text.count("�[2J") == 2
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    spaced = "Table\N{NO-BREAK SPACE}1:\N{THIN SPACE}5%"
    assert terminal_table(replace(TABLE, title=spaced)).startswith(spaced), "wide or narrow, a space is no control code"


@pytest.mark.parametrize("title", ["$\\bad$", "$x_1$", "a \\$ b"])
def test_titles_and_columns_are_no_mathematics(results: Path, title: str) -> None:
    """Matplotlib would take them for that, and refuse what is none."""
    row = Row(RowInfo("t/zebra", title, "", {title: 98.1}), details({title: 99.3}))
    assert rendered(replace(TABLE, rows=[row]))[1].count(title) > 2


@pytest.mark.parametrize(("of_sentences", "expected"), [
    (True, "Words that have enough sentences: 40 in 5w1s, 30 in 5w5s."),
    (False, "Classes that episodes are drawn from: 40 in 5w1s, 30 in 5w5s.")])
def test_columns_of_different_numbers_of_classes_say_so(of_sentences: bool, expected: str) -> None:
    columns = {"5w5s": ColumnResult(50.0, 0.1, 10, 5, 30), "5w1s": ColumnResult(50.0, 0.1, 10, 5, 40)}
    row = Row(RowInfo("t/row", "Row", of_sentences=of_sentences), replace(details({}), columns=columns))
    assert row.notes() == [expected]


def test_only_a_table_with_figures_of_the_paper_explains_them(results: Path) -> None:
    ours_alone = replace(TABLE, rows=ROWS[3:])
    for table, explained in ((TABLE, True), (ours_alone, False)):
        assert ["are bold, and a note says why" in text for text in rendered(table)] == [explained] * 2
    assert "[paper]" not in terminal_table(ours_alone)


def in_classes(counts: Mapping[str, int]) -> Row:
    """A row whose columns were tested on so many classes."""
    columns = {name: ColumnResult(50.0, 0.1, 10, 5, count) for name, count in counts.items()}
    return Row(RowInfo("t/row", "Row"), replace(details({}), columns=columns))


def test_the_number_of_test_classes_stands_beside_the_data(results: Path) -> None:
    for row, shown in ((in_classes({"5w1s": 1234}), "1,234"), (in_classes({"5w1s": 40, "5w5s": 30}), "30–40"),
                       (ROWS[3], "–")):
        markdown, page = rendered(replace(TABLE, rows=[row]))
        assert f"| omniglot | vinyals: test | {shown} | `abababababab` |" in markdown
        assert f"omniglot vinyals: test {shown} abababababab" in words_of(page)


@pytest.mark.parametrize(("row", "begins"), [
    (in_classes({"5w1s": 5, "5w5s": 5}), "All test episodes have the same 5 classes; the interval does not tell how"),
    (in_classes({"5w1s": 20, "20w1s": 20, "20w5s": 20}),
     "In 20w1s, 20w5s, all test episodes have the same 20 classes; the"),
    (in_classes({"all-1s": 64}), "All test episodes have the same 64 classes; the"), (in_classes({"5w1s": 6}), "")])
def test_a_row_whose_episodes_all_have_the_same_classes_says_so(row: Row, begins: str) -> None:
    assert [note.startswith(begins) for note in row.notes()] == [True] * bool(begins)


def test_a_perplexity_stands_among_the_remarks() -> None:
    row = Row(RowInfo("t/row", "Row", "a note"), replace(details({"5w1s": 70.0}), perplexity=114.54))
    assert row.notes() == ["a note", "Perplexity 114.5."]
