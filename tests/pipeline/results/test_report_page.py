"""The report in a browser, narrow and wide, light and dark: no errors, nothing fetched, no sideways scrolling."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from headless_browser import CHROMIUM, Browser
from test_report import MODELS, REPORT, TABLE, results

from pipeline.results.report import write_front_page, write_report

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
__all__ = ["results"]
LOOK = {
    "wide": "document.documentElement.scrollWidth - document.documentElement.clientWidth",
    "page": "getComputedStyle(document.body).backgroundColor",
    "dot": "getComputedStyle(document.querySelector('svg.plot [style*=\"stroke: var(--ours)\"]')).stroke",
    "smallest": "Math.min(...[...document.querySelectorAll('#figure > .plots svg text')]"
                ".map(it => it.getBoundingClientRect().height))",
    "reached": "(() => { const boxes = [...document.querySelectorAll('a, summary, .scroll')];"
               " return boxes.every(it => { it.focus();"
               " return document.activeElement === it || !it.checkVisibility(); }); })()",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(results: Path, browser: Browser, width: int, scheme: str) -> None:
    write_report(TABLE, MODELS, [], *REPORT)
    seen = browser.look(REPORT[1], width, scheme, LOOK)
    assert seen.console == [] and [url[:5] for url in seen.fetched if not url.startswith("data:")] == ["file:"]
    assert seen.values["wide"] == 0 and seen.values["reached"] and seen.values["smallest"] >= 9
    assert seen.values["page"] == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 28)")
    assert seen.values["dot"] == ("rgb(0, 114, 178)" if scheme == "light" else "rgb(86, 180, 233)")


def test_the_front_page_in_a_browser(results: Path, browser: Browser) -> None:
    Path("params.yaml").write_text("table: demo\ndatasets: {}\nmodels: {}\nrows: {}\ncomparisons: {}\n"
                                   "report: {title: The demo}\n")
    write_front_page()
    looks = {"wide": LOOK["wide"], "h1": "document.querySelector('h1').innerText"}
    seen = browser.look(Path("results/index.html"), 400, "light", looks)
    assert seen.console == [] and seen.values == {"wide": 0, "h1": "Results"}
