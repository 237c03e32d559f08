"""One row on sentences, from shards to details, the episodes shown and the report."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods import build_method
from matchnet.methods.pixels import PixelsSpec
from matchnet.model_file import ModelFile
from matchnet.text import SentenceStore
from matchnet.tokens import BEGIN, BLANK, END, FIRST_WORD, PADDING
from pipeline import paths
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.row import Measured, evaluate_row
from pipeline.params import ModelParams, RowParams
from pipeline.results.columns import column_order, column_title
from pipeline.results.episode_text import sentence, write_episodes
from pipeline.results.metrics import read_details, write_details
from pipeline.results.report import write_report
from pipeline.results.shown_episode import ShownEpisode
from pipeline.results.tables import Row, RowInfo, Table
from pipeline.training.data import load_task, training_classes

MODEL = ModelParams(dataset="small", split="words", context=8, method=PixelsSpec(), training=None)
ROW = RowParams(model="m", dataset="small", split="words", columns=("2w1s", "2w1s3q"), queries=1, episodes=50)


@pytest.fixture(scope="module")
def shards(small_corpus_shards: Path) -> Path:
    return small_corpus_shards


@pytest.fixture(scope="module")
def model_file(shards: Path) -> ModelFile:
    """Matching on the numbers of tokens: no method for sentences, but one that learns nothing."""
    classes = training_classes(MODEL, ShardFolder(shards))
    return ModelFile(model_name="m", method=MODEL.method, sample_shape=classes.sample_shape,
                     num_classes=len(classes.names), state_dict={}, step=0, seed=0,
                     dataset_sha256=ShardFolder(shards).sha256, split="words", train_classes=classes.names, seconds=0.0)


@pytest.fixture(scope="module")
def measured(shards: Path, model_file: ModelFile) -> Measured:
    method = build_method(MODEL.method, model_file.sample_shape, model_file.num_classes)
    return evaluate_row(ROW, model_file, method, ShardFolder(shards))


def test_a_model_of_other_sentences_is_refused(shards: Path, model_file: ModelFile) -> None:
    other = replace(model_file, dataset_sha256="ab" * 32)
    method = build_method(MODEL.method, other.sample_shape, other.num_classes)
    with pytest.raises(ValueError, match=r"model m: was trained on data of SHA-256 abab\w+, and small is now of \w+: "
                                         r"a token may be another word; train the model again"):
        evaluate_row(ROW, other, method, ShardFolder(shards))


def test_no_test_or_valid_word_is_a_training_class(shards: Path) -> None:
    classes, split = training_classes(MODEL, ShardFolder(shards)), ShardFolder(shards).manifest.splits["words"]
    assert classes.sample_shape == (17,) and set(classes.names) == set(split["train"])
    assert not set(classes.names) & {*split["valid"], *split["test"], "<unk>", "N"}


def test_training_and_validation_have_their_own_words_and_sentences(shards: Path) -> None:
    spec = EpisodicSpec(episode=EpisodeSpec(4, 1, 2), steps=1, valid_episode=EpisodeSpec(2, 1, 1))
    model = ModelParams(dataset="small", split="words", context=8, method=PixelsSpec(), training=spec)
    data = load_task(model, ShardFolder(shards)).data
    assert isinstance(data.store, SentenceStore) and isinstance(data.valid_store, SentenceStore)
    assert not set(data.store.word_R.tolist()) & set(data.valid_store.word_R.tolist())
    assert data.classes.counts.min() >= 3 and data.classes.origin_R is not None
    assert data.valid_classes is not None and data.valid_classes.counts.min() >= 2


def test_details_say_how_many_words_took_part(measured: Measured, tmp_path: Path) -> None:
    write_details(tmp_path / "details.json", measured.details)
    columns = read_details(tmp_path / "details.json").columns
    assert 2 <= (columns["2w1s3q"].num_classes or 0) < (columns["2w1s"].num_classes or 0) <= 8
    assert columns["2w1s"].episodes == len(measured.episodes["2w1s"].accuracy_E) == 50


def test_what_is_shown_has_its_words_blanked_and_named(measured: Measured, tmp_path: Path) -> None:
    assert measured.vocabulary is not None
    write_episodes(tmp_path / "episodes.html", measured.shown, measured.vocabulary)
    page = (tmp_path / "episodes.html").read_text()
    rows = re.findall(r"<tr><td>(?:✓ |✗ )?<b>([A-Z])</b> (\S+?)(?: \d+%(<br>is .*?)?)?</td><td>(.*?)</td></tr>", page)
    assert len(rows) > 10
    for _, word, wrong, text in rows:
        assert "<kbd>" in text and (wrong or word not in text.split())
    assert "&lt;unk&gt;" in page and "<unk>" not in page


def test_the_report_shows_it(measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert measured.vocabulary is not None
    write_episodes(paths.sentences_file("t/row"), measured.shown, measured.vocabulary)
    row = Row(RowInfo("t/row", "Pixels", of_sentences=True), measured.details)
    write_report(Table("t", "T", "", False, [row]), {}, [], Path("report.md"), Path("report.html"))
    for name in ("report.md", "report.html"):
        text = Path(name).read_text()
        assert re.search(r"Words that have enough sentences: \d in 2w1s, \d in 2w1s3q\.", text)
        assert "2-way 1-shot, 3 queries a way" in text
    page = Path("report.html").read_text().replace(' role="presentation"', "")
    assert paths.sentences_file("t/row").read_text().strip() in page


def test_a_sentence_as_it_is_shown() -> None:
    words, gap = ["a", "b&", "c"], "<kbd>&nbsp;?&nbsp;</kbd>"
    a, b, c = (FIRST_WORD + number for number in range(3))
    assert sentence(torch.tensor([PADDING, BEGIN, a, BLANK, b, END, PADDING]), words) == f"a {gap} b&amp;"
    assert sentence(torch.tensor([BLANK, c, BLANK, b, a]), words) == f"… {gap} c {gap} b&amp; a …"
    assert sentence(torch.tensor([BEGIN, c, a, c, END, c]), words) == f"{gap} a {gap}", "an oracle's sample"


def test_a_wrong_answer_names_both_words() -> None:
    samples = torch.tensor([[BEGIN, BLANK, END], [BEGIN, BLANK, END]])
    episode = ShownEpisode(samples, torch.tensor([1, 0]), samples, torch.tensor([0, 1]),
                           torch.tensor([[0.25, 0.75], [0.4, 0.6]]).log(), ["cat", "<dog>"])
    from pipeline.results.episode_text import _episode

    page = _episode(episode, [0, 1], ["x"])
    assert page.index("<b>A</b> cat") < page.index("<b>B</b> &lt;dog&gt;"), "supports way by way"
    assert "✗ <b>B</b> &lt;dog&gt; 75%<br>is <b>A</b> cat 25%" in page and "✓ <b>B</b> &lt;dog&gt; 60%" in page
    assert "1 of 2 right" in page


def test_columns_that_name_their_queries() -> None:
    names = ["5w3s1q", "20w1s", "5w1s4q", "other", "5w5s", "5w1s1q", "5w2s4q", "5w1s"]
    assert sorted(names, key=column_order) == ["5w1s", "5w5s", "20w1s", "5w1s4q", "5w2s4q", "5w1s1q", "5w3s1q", "other"]
    assert column_title("5w1s4q") == "5-way 1-shot, 4 queries a way" and column_title("5w1s") == "5-way 1-shot"
    assert column_title("5w3s1q") == "5-way 3-shot, 1 query a way"
