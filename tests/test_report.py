"""The report and the terminal's table, made from a table's rows and a folder of results."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pipeline import paths
from pipeline.results.curves import CurvePoint, write_curve
from pipeline.results.metrics import ColumnResult, DatasetUsed, Details, Machine, ModelUsed, SecondsSpent
from pipeline.results.report import write_report
from pipeline.results.report_content import flattened
from pipeline.results.tables import Row, RowInfo, Table, terminal_table

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


def rendered(table: Table = TABLE) -> tuple[str, str]:
    """Markdown and HTML."""
    write_report(table, MODELS, [], *REPORT)
    return REPORT[0].read_text(), REPORT[1].read_text()


def words_of(page: str) -> str:
    """The page's text without its tags and style."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def stale(**reasons: str) -> Table:
    """The same table, with reasons by row."""
    return replace(TABLE, rows=[replace(row, stale=reasons.get(row.info.name.removeprefix("t/"), "")) for row in ROWS])


def test_paper_stands_beside_ours(results: Path) -> None:
    markdown, page = rendered()
    row = "| 99.3 ± 0.1 (paper 98.1) | 90.0 ± 0.1 (paper 93.8, **−3.8**) | 10,000 | 1,012 | 4.2 |"
    assert row in markdown
    assert "99.3 ± 0.1 paper 98.1" in words_of(page)
    assert "90.0 ± 0.1 paper 93.8 −3.8" in words_of(page)


def test_missing_columns_and_rows_not_run_are_dashes(results: Path) -> None:
    markdown, page = rendered()
    assert re.search(r"\| Classifier \| 95.0 ± 0.1 \(paper 80.0, \*\*\+15.0\*\*\) \| – \|", markdown)
    assert re.search(r"\| Siamese \| – \(paper 96.7\) \| – \| – \| – \| – \|", markdown)
    assert "Not run yet: dvc repro experiments/t/dvc.yaml:evaluate@absent" in words_of(page)


def test_note_stands_under_a_row_that_is_off(results: Path) -> None:
    markdown, page = rendered()
    assert ("- **Classifier**: Off by more than 2 points (5-way 1-shot +15.0): a stronger one \\| is right"
            in markdown)
    assert "Off by more than 2 points (5-way 1-shot +15.0): a stronger one | is right" in words_of(page)


def test_row_that_is_off_without_a_note_says_so(results: Path) -> None:
    markdown, page = rendered()
    for text in (markdown, words_of(page)):
        assert "Off by more than 2 points (20-way 1-shot −3.8): no explanation yet." in text
        assert text.count("no explanation yet") == 1


@pytest.mark.parametrize(("ours", "off"), [(82.0, False), (82.01, True), (78.0, False), (77.99, True)])
def test_two_points_are_the_limit(ours: float, off: bool) -> None:
    remark = Row(RowInfo("t/row", "Row", "as expected", {"5w1s": 80.0}), details({"5w1s": ours})).remark()
    assert remark.startswith("Off by") == off and remark.endswith("as expected")


def test_rows_keep_their_order_and_columns_are_sorted(results: Path) -> None:
    assert TABLE.columns == ["5w1s", "20w1s"]
    for text in rendered():
        places = [text.index(title) for title in ("Matching nets &lt;b&gt;", "Classifier", "Siamese")]
        assert places == sorted(places) and text.index("5-way 1-shot") < text.index("20-way 1-shot")


def test_a_stand_in_says_that_it_is_one(results: Path) -> None:
    assert not [text for text in rendered() if "stand in for the paper's" in text]
    markdown, page = rendered(replace(TABLE, stand_in=True))
    assert markdown.index("stand in for the paper's") < markdown.index("99.3")
    assert '<section class="stand-in">' in page and "stand in for the paper&#x27;s" in page


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
        assert shown.count(figure) == shown.count(figure + mark) == 1
    if kind != "terminal":
        assert f"{mark} made with other parameters, data or code than the files now say" in shown


@pytest.mark.parametrize("kind", ["md", "html", "terminal"])
def test_figures_that_are_not_stale_bear_no_mark(results: Path, kind: str) -> None:
    table = stale(classifier="the model is new")
    text = terminal_table(table) if kind == "terminal" else rendered(table)[kind == "html"]
    shown = words_of(text) if kind == "html" else text.replace("\\*", "*")
    assert "95.0 ± 0.1*" in shown and "99.3 ± 0.1 " in shown and shown.count("0.1*") == 1
    fresh = terminal_table(TABLE) if kind == "terminal" else rendered()[kind == "html"]
    assert "0.1*" not in words_of(fresh) and "0.1\\*" not in fresh and "other parameters, data or code" not in fresh


class Loads(HTMLParser):
    """Collects the tags, and everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs
                       if name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster")]


def test_html_holds_all_it_shows(results: Path) -> None:
    _, page = rendered()
    parser = Loads()
    parser.feed(page)
    assert len(parser.loads) == 1 and parser.loads[0].startswith("data:image/webp;base64,")
    assert not {"script", "link", "iframe", "object", "embed"} & set(parser.tags)
    assert parser.tags.count("svg") == 1 and "url(" not in page and "@import" not in page
    assert parser.tags.count("section") == 4  # results, what ran, models, episodes


def test_markdown_needs_no_other_file(results: Path) -> None:
    """Git keeps it; pictures and curves are in the HTML."""
    markdown, _ = rendered()
    assert "](" not in markdown and "<img" not in markdown and "svg" not in markdown


@pytest.mark.parametrize("table", [TABLE, stale(zebra="changed")], ids=["fresh", "stale"])
def test_html_tags_are_balanced(results: Path, table: Table) -> None:
    _, page = rendered(table)
    for tag in ("section", "table", "thead", "tbody", "tr", "th", "td", "p", "div", "ul", "li", "details", "article",
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
    assert re.search(r"\| old\\_row \| 55.5 ± 0.1 \| – \| 10,000 \| 1,012 \| 4.2 \| – \|", markdown)
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
        assert "Nothing yet: run `dvc repro`." in text.replace("<code>", "`").replace("</code>", "`")
    assert terminal_table(nothing) == "Table 1: <Omniglot>: no results yet"


def test_terminal_table() -> None:
    lines = terminal_table(TABLE).splitlines()
    assert lines[0] == "Table 1: <Omniglot>" and len(lines) == 6
    assert lines[1].split("  ")[0] == "% (95% interval) [paper]"
    assert re.fullmatch(r"Matching nets <b> +99\.3 ± 0\.1 \[98\.1\] +90\.0 ± 0\.1 \[93\.8\]", lines[3])
    assert re.fullmatch(r"Classifier +95\.0 ± 0\.1 \[80\.0\] +–", lines[4])
    assert lines[3].index("99.3") == lines[4].index("95.0") == lines[5].index("55.5")
    assert not any("Siamese" in line for line in lines)
    assert terminal_table(replace(TABLE, stand_in=True)).splitlines()[0] == "Table 1: <Omniglot> (stand-in data)"


@pytest.mark.parametrize(("of_sentences", "expected"), [
    (True, "Words that have enough sentences: 40 in 5w1s, 30 in 5w5s."),
    (False, "Classes that episodes are drawn from: 40 in 5w1s, 30 in 5w5s.")])
def test_columns_of_different_numbers_of_classes_say_so(of_sentences: bool, expected: str) -> None:
    columns = {"5w5s": ColumnResult(50.0, 0.1, 10, 5, 30), "5w1s": ColumnResult(50.0, 0.1, 10, 5, 40)}
    row = Row(RowInfo("t/row", "Row", of_sentences=of_sentences), replace(details({}), columns=columns))
    assert row.remark() == expected


def test_a_perplexity_stands_among_the_remarks() -> None:
    row = Row(RowInfo("t/row", "Row", "a note"), replace(details({"5w1s": 70.0}), perplexity=114.54))
    assert row.remark() == "a note Perplexity 114.5."
