"""The report and the terminal table, made from a folder of results."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pipeline.results.curves import CurvePoint, write_curve
from pipeline.results.metrics import (
    ColumnResult,
    DatasetUsed,
    Machine,
    Metrics,
    MetricsError,
    ModelUsed,
    SecondsSpent,
    write_metrics,
)
from pipeline.results.report import write_report
from pipeline.results.report_content import ModelSection, flattened
from pipeline.results.tables import RowInfo, collect_tables, terminal_table

ROWS = [
    RowInfo("zebra", "Matching nets <b>", "Table 1", "", {"5w1s": 98.1, "20w1s": 93.8}),
    RowInfo("classifier", "Classifier", "Table 1", "a stronger one | is right", {"5w1s": 80.0}),
    RowInfo("absent", "Siamese", "Table 1", "", {"5w1s": 96.7}),
    RowInfo("glyphs", "Matching nets", "Glyphs", stand_in=True),
]
PARAMETERS = {"conv4": {"image_size": 28, "method": {"name": "matching_network", "scale": None},
                        "rotations": True}}


def put(results: Path, experiment: str, columns: dict[str, float], model: str = "conv4") -> None:
    metrics = Metrics({name: ColumnResult(value, 0.12, 10000, 5) for name, value in columns.items()},
                      SecondsSpent(1012.3, 4.2), Machine("a processor", 2, None, "2.13.0"),
                      DatasetUsed("omniglot", "vinyals", "test", "ab" * 32),
                      ModelUsed(model, 20000, 111936, 0))
    write_metrics(results / experiment / "metrics.json", metrics)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    put(tmp_path, "zebra", {"5w1s": 99.3, "20w1s": 90.0})
    put(tmp_path, "classifier", {"5w1s": 95.0})
    put(tmp_path, "glyphs", {"5w1s": 91.0})
    put(tmp_path, "old_row", {"5w1s": 55.5}, model="gone")
    points = [CurvePoint(1, 2.0, 20.0), CurvePoint(2, 1.0, valid_accuracy=50.0)]
    write_curve(tmp_path / "training" / "conv4.csv", points)
    Image.new("RGB", (4, 4)).save(tmp_path / "zebra" / "episodes.png")
    return tmp_path


def rendered(results: Path) -> tuple[str, str]:
    write_report(results, ROWS, PARAMETERS, results)
    return (results / "report.md").read_text(), (results / "report.html").read_text()


def words_of(page: str) -> str:
    """The page's text without its tags and style."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_paper_stands_beside_ours(results: Path) -> None:
    markdown, page = rendered(results)
    row = "| 99.3 ± 0.1 (paper 98.1) | 90.0 ± 0.1 (paper 93.8, **−3.8**) | 10,000 | 1,012 | 4.2 |"
    assert row in markdown
    assert "99.3 ± 0.1 paper 98.1" in words_of(page)
    assert "90.0 ± 0.1 paper 93.8 −3.8" in words_of(page)


def test_missing_columns_and_rows_not_run_are_dashes(results: Path) -> None:
    markdown, page = rendered(results)
    assert re.search(r"\| Classifier \| 95.0 ± 0.1 \(paper 80.0, \*\*\+15.0\*\*\) \| – \|", markdown)
    assert re.search(r"\| Siamese \| – \(paper 96.7\) \| – \| – \| – \| – \|", markdown)
    assert "Not run yet: dvc repro evaluate@absent" in words_of(page)


def test_note_stands_under_a_row_that_is_off(results: Path) -> None:
    markdown, page = rendered(results)
    assert ("- **Classifier**: Off by more than 2 points (5-way 1-shot +15.0): a stronger one \\| is right"
            in markdown)
    assert "Off by more than 2 points (5-way 1-shot +15.0): a stronger one | is right" in words_of(page)


def test_row_that_is_off_without_a_note_says_so(results: Path) -> None:
    markdown, page = rendered(results)
    for text in (markdown, words_of(page)):
        assert "Off by more than 2 points (20-way 1-shot −3.8): no explanation yet." in text
        assert text.count("no explanation yet") == 1


@pytest.mark.parametrize(("ours", "off"), [(82.0, False), (82.01, True), (78.0, False), (77.99, True)])
def test_two_points_are_the_limit(tmp_path: Path, ours: float, off: bool) -> None:
    put(tmp_path, "row", {"5w1s": ours})
    [table] = collect_tables(tmp_path, [RowInfo("row", "Row", "Table", "as expected", {"5w1s": 80.0})])
    assert table.rows[0].remark().startswith("Off by") == off
    assert table.rows[0].remark().endswith("as expected")


def test_rows_keep_the_order_of_the_parameters_and_others_follow(results: Path) -> None:
    tables = collect_tables(results, ROWS)
    assert [(table.title, [row.info.experiment for row in table.rows]) for table in tables] == [
        ("Table 1", ["zebra", "classifier", "absent"]), ("Glyphs", ["glyphs"]), ("Other", ["old_row"])]
    assert tables[0].columns == ["5w1s", "20w1s"]
    markdown, _ = rendered(results)
    names = ["## Table 1", "@zebra", "@classifier", "@absent", "## Other", "old\\_row"]
    places = [markdown.index(name) for name in names]
    assert places == sorted(places)
    assert "evaluate@old_row" not in markdown  # nothing would make it


def test_stand_ins_have_a_section_of_their_own(results: Path) -> None:
    markdown, page = rendered(results)
    before, after = markdown.split("## Stand-in data")
    assert "@glyphs" not in before and "evaluate@glyphs" in after and "@zebra" not in after
    assert "stand in for the paper's" in after
    assert '<section class="stand-in">' in page


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
    _, page = rendered(results)
    parser = Loads()
    parser.feed(page)
    assert len(parser.loads) == 1 and parser.loads[0].startswith("data:image/webp;base64,")
    assert not {"script", "link", "iframe", "object", "embed"} & set(parser.tags)
    assert "svg" in parser.tags and "url(" not in page and "@import" not in page
    assert parser.tags.count("section") == 6  # what ran, table 1, other, stand-ins, models, episodes


def test_html_tags_are_balanced(results: Path) -> None:
    _, page = rendered(results)
    for tag in ("section", "table", "thead", "tbody", "tr", "th", "td", "p", "div", "article", "svg"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_words_of_the_user_are_escaped(results: Path) -> None:
    markdown, page = rendered(results)
    assert "Matching nets <b>" not in markdown and "Matching nets &lt;b&gt;" in markdown
    assert "Matching nets <b>" not in page and "Matching nets &lt;b&gt;" in page


def test_pictures_are_linked_relatively_and_exist(results: Path) -> None:
    markdown, _ = rendered(results)
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown)
    assert links == ["curves/conv4.svg", "zebra/episodes.png"]
    assert all((results / link).exists() for link in links)


def test_report_elsewhere_still_finds_its_pictures(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    write_report(results, ROWS, PARAMETERS, out)
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (out / "report.md").read_text())
    assert len(links) == 2 and all((out / link).exists() for link in links)


def test_same_results_give_the_same_bytes(results: Path) -> None:
    assert rendered(results) == rendered(results)


def test_models_show_their_parameters(results: Path) -> None:
    markdown, page = rendered(results)
    for text in (markdown, words_of(page)):
        assert "20,000 steps · 111,936 trainable parameters · seed 0" in text
    parameters = "`image_size: 28`, `method.name: matching_network`, `method.scale: –`, `rotations: true`"
    assert parameters in markdown
    assert "dvc repro train@conv4" in page and "train@gone" not in page


def test_a_model_with_an_init_is_trained_by_its_own_stage() -> None:
    commands = [ModelSection("m", flattened({"init": init}), None, None).command for init in (None, "lm")]
    assert commands == ["dvc repro train@m", "dvc repro train_on@m"]


def test_flattened_parameters() -> None:
    nested = {"a": {"b": [1, True], "c": False}, "d": None}
    assert flattened(nested) == {"a.b": "1, true", "a.c": "false", "d": "–"}


def test_malformed_metrics_stop_the_report_and_leave_the_old_one(results: Path) -> None:
    before = rendered(results)
    (results / "zebra" / "metrics.json").write_text('{"columns": {"5w1s": {"accuracy": "x"}}}')
    with pytest.raises(MetricsError, match=r"zebra/metrics\.json: columns\.5w1s\.accuracy"):
        write_report(results, ROWS, PARAMETERS, results)
    assert ((results / "report.md").read_text(), (results / "report.html").read_text()) == before


def test_report_without_results_says_what_to_do(tmp_path: Path) -> None:
    write_report(tmp_path, [], {}, tmp_path)
    assert "Nothing yet: run `dvc repro`." in (tmp_path / "report.md").read_text()
    assert terminal_table(tmp_path, ROWS) == "no results yet: run `dvc repro`"


def test_terminal_table(results: Path) -> None:
    lines = terminal_table(results, ROWS).splitlines()
    assert lines[0] == "Table 1"
    assert lines[1].split("  ")[0] == "accuracy, % (95% interval) [paper]"
    assert re.fullmatch(r"Matching nets <b> +99\.3 ± 0\.1 \[98\.1\] +90\.0 ± 0\.1 \[93\.8\]", lines[3])
    assert re.fullmatch(r"Classifier +95\.0 ± 0\.1 \[80\.0\] +–", lines[4])
    assert "Glyphs (stand-in data)" in lines
    assert not any(name in line for line in lines for name in ("Siamese", "old_row"))
    assert lines[3].index("99.3") == lines[4].index("95.0")


@pytest.mark.parametrize(("of_sentences", "expected"), [
    (True, "Words that have enough sentences: 40 in 5w1s, 30 in 5w5s."),
    (False, "Classes that episodes are drawn from: 40 in 5w1s, 30 in 5w5s.")])
def test_columns_of_different_numbers_of_classes_say_so(tmp_path: Path, of_sentences: bool, expected: str) -> None:
    columns = {"5w5s": ColumnResult(50.0, 0.1, 10, 5, None, 30), "5w1s": ColumnResult(50.0, 0.1, 10, 5, None, 40)}
    write_metrics(tmp_path / "row" / "metrics.json",
                  Metrics(columns, SecondsSpent(0.0, 4.2), Machine("a processor", 2, None, "2.13.0"),
                          DatasetUsed("d", "s", "test", "ab" * 32), ModelUsed("m", 0, 0, 0)))
    [table] = collect_tables(tmp_path, [RowInfo("row", "Row", "Table", of_sentences=of_sentences)])
    assert table.rows[0].remark() == expected
