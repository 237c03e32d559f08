"""Two rows on the same episodes: what is counted, which episodes are drawn, and that both answers are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT
from small_omniglot import PARAMS

from matchnet.methods import MethodSpec, build_method
from matchnet.methods.pixels import PixelsSpec
from matchnet.model_file import ModelFile, write_model
from matchnet.preparation import Preparation
from matchnet.statistics import mean_and_interval
from pipeline import paths
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.compare import compare, most_ahead
from pipeline.evaluate.row import evaluate_row, write_columns
from pipeline.params import ModelParams, Params, ParamsError, RowParams, read_params
from pipeline.params.rules import check_params
from pipeline.params.sections import ComparisonParams, ReportParams
from pipeline.resolve import title_of
from pipeline.results.comparison import compared, difference_of, read_comparison, write_comparison
from pipeline.results.comparison_grid import Group, SharedEpisode, draw_comparison
from pipeline.results.metrics import MetricsError, read_details, write_details
from pipeline.results.report import write_report
from pipeline.results.shown_episode import ShownEpisode
from pipeline.results.tables import Row, RowInfo, Table
from stages.compare import compare as compare_stage

PREPARATION = Preparation(channels=1, size=16, kind="drawings", invert=True)
SHAPE = PREPARATION.sample_shape
COLUMN = "3w1s4q"
METHODS = {"t/ours": PixelsSpec(), "t/baseline": PixelsSpec(invert=True)}
ROWS = {name: RowParams(model=name, dataset="small", split="random", columns=(COLUMN,), episodes=40, seed=3)
        for name in METHODS}
TITLES = {"ours": "Ours", "baseline": "Baseline"}
COMPARISON = ComparisonParams(row="t/ours", baseline="t/baseline", column=COLUMN)


def test_figures_are_those_of_paired_differences() -> None:
    generator = np.random.default_rng(0)
    ours, baseline = (generator.integers(0, 26, 500) / 25 for _ in range(2))
    baseline[:20] = ours[:20]
    most = np.full(500, 0.2)
    most[:5], most[5:50] = 0.64, 0.6  # 60% is not more than 60%
    found = compared(("a", "b", "5w1s"), difference_of(ours, baseline), most, np.full(500, 1.0))
    signs = [(a > b) - (a < b) for a, b in zip(ours.tolist(), baseline.tolist(), strict=True)]
    assert (found.better, found.worse, found.equal) == (signs.count(1), signs.count(-1), signs.count(0))
    assert found.better + found.worse + found.equal == found.episodes == 500
    assert found.difference == pytest.approx(100 * (ours.mean() - baseline.mean()), abs=1e-4)
    assert found.ci95 == pytest.approx(100 * mean_and_interval(ours - baseline)[1], abs=1e-4)
    assert (found.hubness, found.baseline_hubness) == (1.0, 100.0)


def test_two_ways_to_the_same_share_are_equal() -> None:
    assert difference_of(np.array([0.1 + 0.2]), np.array([0.3])).tolist() == [0.0]


def test_the_largest_leads_are_chosen_and_of_equals_the_first() -> None:
    difference_E = np.array([0.2, -0.4, 0.6, 0.0, 0.2, 0.6, -0.4])
    assert most_ahead(difference_E, 3) == [2, 5, 0]
    assert most_ahead(-difference_E, 1) == [1]
    assert most_ahead(difference_E, 10) == [2, 5, 0, 4]  # no episode where it is not ahead


def prepared(shards: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Both rows evaluated, in a folder laid out as the repository."""
    monkeypatch.chdir(folder)
    (folder / "data").mkdir()
    (folder / "data/shards").mkdir()
    (folder / "data/shards/small").symlink_to(shards)
    for name, spec in METHODS.items():
        evaluated(name, spec, shards)
    models = {name: ModelParams(dataset="small", split="random", image_size=16, method=spec, training=None)
              for name, spec in METHODS.items()}
    return Params(table="t", folder=Path("experiments/t"), datasets={"small": PARAMS}, models=models, rows=ROWS,
                  comparisons={"t/figure2": COMPARISON}, report=ReportParams(title="T", titles=TITLES))


def evaluated(name: str, spec: MethodSpec, shards: Path) -> None:
    method = build_method(spec, SHAPE, 1)
    model = ModelFile(model_name=name, method=spec, preparation=PREPARATION, sample_shape=SHAPE,
                      num_classes=1, state_dict=method.state_dict(),
                      step=0, seed=0, dataset_sha256=ShardFolder(shards).sha256, split="random", train_classes=["a"],
                      seconds=0.0)
    write_model(paths.model_file(name), model)
    measured = evaluate_row(ROWS[name], model, method, ShardFolder(shards))
    results = measured.episodes[COLUMN]
    write_columns(paths.accuracies_file(name), {COLUMN: results.accuracy_E})
    write_columns(paths.most_one_way_file(name), {COLUMN: results.most_one_way_E})
    write_details(paths.details_file(name), measured.details)


def test_from_evaluations_to_picture_figures_and_report(small_shards: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    params = prepared(small_shards, tmp_path, monkeypatch)
    found = compare(COMPARISON, params)
    shown = [episode for group in found.groups for episode in group.episodes]
    assert len(found.groups[0].episodes) == 3 and found.figures.better >= 3
    drawn = [*most_ahead(found.difference_E, 3), *most_ahead(-found.difference_E, 1)]
    for number, episode in zip(drawn, shown, strict=True):  # run anew, they are what evaluate measured
        difference = float(episode.baseline.wrong_Q.mean() - episode.ours.wrong_Q.mean())
        assert difference == pytest.approx(found.difference_E[number])
        assert torch.equal(episode.ours.query_Q, episode.baseline.query_Q)
    counts = [f"{count:,}" for count in (found.figures.better, found.figures.worse, found.figures.equal)]
    assert all(count in found.groups[0].heading for count in counts)
    compare_stage("t/figure2", params)
    assert read_comparison(paths.comparison_file("t/figure2")) == found.figures
    assert Image.open(paths.comparison_picture("t/figure2")).size[0] > 400
    rows = [Row(RowInfo(name, title_of(params, name)), read_details(paths.details_file(name))) for name in METHODS]
    pages = [paths.report_file("t", kind) for kind in ("md", "html")]
    write_report(Table("t", "T", "", False, rows), {}, ["t/figure2", "t/not-made-yet"], *pages)
    for text in (page.read_text() for page in pages):
        assert "Ours against Baseline, 3-way 1-shot, 4 queries a way" in text
        assert f"ahead in {found.figures.better}, behind in {found.figures.worse}, equal in" in text
    assert pages[1].read_text().count("data:image/webp;base64,") == 1


def test_a_model_file_in_the_place_of_another_is_refused(small_shards: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    params = prepared(small_shards, tmp_path, monkeypatch)
    paths.model_file("t/baseline").write_bytes(paths.model_file("t/ours").read_bytes())
    with pytest.raises(ValueError, match=r"baseline/model\.pt: holds the model t/ours, and not t/baseline: it"):
        compare(COMPARISON, params)


def test_evaluations_that_do_not_fit_are_refused(small_shards: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    params = prepared(small_shards, tmp_path, monkeypatch)
    more = replace(params, rows={**ROWS, "t/ours": replace(ROWS["t/ours"], episodes=50)})
    with pytest.raises(ValueError, match=r"t/ours/accuracies\.parquet: 40 episodes of 3w1s4q, and its parameters say "
                                         "50 of 3w1s4q; make it with the stage evaluate@ours of t"):
        compare(COMPARISON, more)
    details = paths.details_file("t/baseline")
    content = json.loads(details.read_text())
    content["dataset"]["manifest_sha256"] = "ab" * 32
    details.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"details/t/baseline\.json: was measured on data of SHA-256 abab.*/dataset"
                                         r"\.json is now of \w+; make it again with the stage evaluate@baseline of t"):
        compare(COMPARISON, params)
    content["dataset"]["manifest_sha256"] = ShardFolder(small_shards).sha256
    details.write_text(json.dumps(content))
    paths.most_one_way_file("t/baseline").unlink()
    with pytest.raises(ValueError, match=r"most_one_way\.parquet: there is no such file; make it with the stage "
                                         "evaluate@baseline of t"):
        compare(COMPARISON, params)


def test_a_malformed_comparison_is_named(tmp_path: Path) -> None:
    figures = compared(("a", "b", "5w1s"), np.array([0.2, 0.4]), np.zeros(2), np.zeros(2))
    path = tmp_path / "t/c.json"
    write_comparison(path, figures)
    path.write_text(path.read_text().replace('"better": 2', '"better": -2'))
    with pytest.raises(MetricsError, match=r"c\.json: better: .*\(found -2\); make it again with the stage compare@c"
                                           " of t"):
        read_comparison(path)


def photograph_episode(wrong: set[int]) -> ShownEpisode:
    """Saturated gradients of all colours, 2 ways, 4 queries."""
    y, x = torch.meshgrid(torch.arange(84), torch.arange(84), indexing="ij")
    image = torch.stack([3 * x, 3 * y, 255 - 3 * x]).to(torch.uint8)
    way_Q = torch.tensor([0, 0, 1, 1])
    said_Q = torch.tensor([1 - way if query in wrong else way for query, way in enumerate(way_Q.tolist())])
    log_probs_QN = torch.where(torch.nn.functional.one_hot(said_Q, 2).bool(), 0.9, 0.1).log()
    return ShownEpisode(image.expand(2, 3, 84, 84), torch.tensor([0, 1]), image.expand(4, 3, 84, 84), way_Q,
                        log_probs_QN, ["cat", "dog"])


def test_photographs_keep_their_colours(tmp_path: Path) -> None:
    episode = SharedEpisode(photograph_episode(set()), photograph_episode({1, 3}))
    assert episode.queries()[:2] == [1, 3]  # where they differ
    draw_comparison(tmp_path / "c.png", "title", [Group("heading", [episode])], ("ours", "baseline"))
    page = np.asarray(Image.open(tmp_path / "c.png").convert("RGB")).reshape(-1, 3)
    expected = episode.ours.query_Q[0].permute(1, 2, 0).reshape(-1, 3).numpy()
    found = {tuple(pixel) for pixel in page.tolist()}
    assert all(tuple(pixel) in found for pixel in expected.tolist())


@pytest.mark.parametrize(("changes", "message"), [
    ({"baseline": "omniglot/pixel"}, "comparisons.figure2.baseline: there is no 'pixel'; did you mean 'pixels'?"),
    ({"row": "omniglot/matchin"}, "comparisons.figure2.row: there is no 'matchin'; did you mean 'matching'?"),
    ({"column": "5w2s"}, "comparisons.figure2.column: of row matching: there is no '5w2s'; did you mean"),
    ({"baseline": "omniglot/matching-tuned"},
     "comparisons.figure2.baseline: 'matching-tuned' has episodes 2000, and 'matching' has 10000; two rows are "
     "compared on the same episodes: name rows that agree in dataset, split, part, seed, episodes, queries"),
    ({"baseline": "omniglot/matching"}, "comparisons.figure2.baseline: found 'matching', the row itself; name another"),
])
def test_what_cannot_be_compared_is_refused(changes: dict[str, str], message: str) -> None:
    params = read_params("omniglot", ROOT)
    assert params.comparisons == {"omniglot/figure2": ComparisonParams(row="omniglot/matching",
                                                                      baseline="omniglot/pixels", column="5w1s")}
    comparison = replace(params.comparisons["omniglot/figure2"], **changes)
    with pytest.raises(ParamsError) as refusal:
        check_params(replace(params, comparisons={"omniglot/figure2": comparison}))
    assert message in str(refusal.value)


def test_rows_of_sentences_have_no_picture() -> None:
    comparison = ComparisonParams(row="ptb/bilstm", baseline="ptb/lm-states", column="5w1s")
    with pytest.raises(ParamsError, match=r"comparisons\.figure2\.row: 'bilstm' is of sentences, and the figure is of"):
        check_params(replace(read_params("ptb", ROOT), comparisons={"ptb/figure2": comparison}))
