"""A language model from shards to a model file, and a matching network that begins with it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matchnet.encoders.bag_of_words import BagOfWordsSpec
from matchnet.encoders.language_model import LanguageModelStatesSpec, ReaderSpec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods import LanguageModel, build_method
from matchnet.methods.language_model import NO_TARGET, LanguageModelSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.model_file import ModelFile, write_model
from matchnet.text_training import TextSpec, TextTask
from matchnet.tokens import END, FIRST_WORD
from matchnet.training import train
from pipeline.data.formats.word_table import WORDS, read_words
from pipeline.data.load.samples import load_samples, require_episodes
from pipeline.data.load.sentences import load_sentences
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.row import evaluate_row
from pipeline.params import ComputeParams, ModelParams, RowParams
from pipeline.params.sections import ClusterParams
from pipeline.training.data import load_task, training_classes
from pipeline.training.driver import run_training
from pipeline.training.initial import take_weights
from pipeline.training.runs import RunFiles

NUM_WORDS = FIRST_WORD + 33  # thirty words, "the", "<unk>" and "N"
READER = ReaderSpec(NUM_WORDS, direction="both", num_cells=8, dropout=0.2)
TRAINING = TextSpec(steps=20, targets="train", num_streams=4, window=10, learning_rate=0.01, valid_every=10,
                    checkpoint_every=10, log_every=5)
MODEL = ModelParams(dataset="small", split="words", context=9, training=TRAINING,
                    method=LanguageModelSpec(reader=READER, cutoffs=(5,)))
ORACLE = replace(MODEL, training=replace(TRAINING, targets="all"))


@pytest.fixture(scope="module")
def shards(small_corpus_shards: Path) -> Path:
    return small_corpus_shards


@pytest.mark.parametrize(("change", "message"), [
    ({"method": LanguageModelSpec(reader=replace(READER, num_words=NUM_WORDS - 1), cutoffs=(5,))},
     rf"^method language_model: num_words is {NUM_WORDS - 1}, and small has {NUM_WORDS} tokens: its words, and the "),
    ({"method": LanguageModelSpec(reader=READER, cutoffs=(500,))},
     r"^method language_model for \d+ classes of small: .*cutoffs"),
    ({"method": MatchingNetworkSpec(encoder=BagOfWordsSpec(NUM_WORDS)),
      "training": EpisodicSpec(episode=EpisodeSpec(3, 90, 5), steps=1)},
     r"^training\.episode: num_shots is 90 and num_queries 5, and 0 of \d+ words are in 95 sentences or more \(dataset "
     r"small, split words, train\); 3 ways need as many such words: lower num_ways, num_shots or num_queries$")])
def test_what_a_corpus_cannot_serve_is_refused_before_workers_start(shards, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr("pipeline.training.driver.workers_for", None)  # calling it would be a TypeError
    with pytest.raises(ValueError, match=message):
        run_training("small", replace(MODEL, **change), ComputeParams(), ClusterParams(),
                     RunFiles(ShardFolder(shards), tmp_path / "runs"))


@pytest.mark.parametrize("parts", [("train",), ("valid",), ("test",), ("train", "valid")])
@pytest.mark.parametrize("spec", [EpisodeSpec(*numbers) for numbers in (
    (3, 1, 2), (9, 2, 2), (0, 1, 1), (5, 9, 9))])
def test_words_are_refused_before_loading_just_if_they_are_afterwards(shards, parts, spec):
    samples = load_samples(ShardFolder(shards), "words", parts, (9,))
    accepted = []
    for check in (lambda: samples.classes_for(spec.among(samples.num_classes)),
                  lambda: require_episodes(ShardFolder(shards), "words", parts, spec, "training.episode")):
        try:
            check()
            accepted.append(True)
        except ValueError:
            accepted.append(False)
    assert accepted[0] == accepted[1]


def trained(model: ModelParams, shards: Path) -> LanguageModel:
    assert model.training is not None
    classes = training_classes(model, ShardFolder(shards))
    torch.manual_seed(model.training.seed)
    method = build_method(model.method, classes.sample_shape, len(classes.names))
    train(method, load_task(model, ShardFolder(shards)))
    assert isinstance(method, LanguageModel)
    return method


def file_of(model: ModelParams, method: LanguageModel, shards: Path) -> ModelFile:
    classes = training_classes(model, ShardFolder(shards))
    return ModelFile(model_name="lm", method=model.method, sample_shape=classes.sample_shape,
                     num_classes=len(classes.names), state_dict=method.state_dict(), step=20, seed=0,
                     dataset_sha256=ShardFolder(shards).sha256, split="words", train_classes=classes.names, seconds=1.0)


def test_words_held_out_are_never_targets(shards):
    """Neither valid nor test words have a row of the softmax; all others have, and so has the end of a sentence."""
    split, vocabulary = ShardFolder(shards).manifest.splits["words"], read_words(shards / WORDS).vocabulary
    held_out = {*split["valid"], *split["test"]}
    names, row_V = training_classes(MODEL, ShardFolder(shards)).names, trained(MODEL, shards).row_V
    assert len(held_out) == 14 and not held_out & set(names) and {"<eos>", "<unk>", "N"} <= set(names)
    for word, name in enumerate(vocabulary):
        assert (row_V[FIRST_WORD + word] == NO_TARGET) == (name in held_out), name
    assert row_V[END] == 0 and len(names) == len(vocabulary) + 1 - 14


def test_a_language_model_reads_the_training_file_alone(shards):
    task = load_task(MODEL, ShardFolder(shards))
    assert isinstance(task, TextTask)
    train_text, valid_text = (load_sentences(ShardFolder(shards), part).running_text() for part in ("train", "valid"))
    assert torch.equal(task.data.token_T, train_text) and torch.equal(task.data.valid_token_T, valid_text)
    assert (train_text == END).sum() == 120 and train_text[-1] == END


def test_training_under_ray_gives_the_weights_of_the_loop(ray_session, shards, tmp_path):
    state, log = run_training("small", MODEL, ComputeParams(num_workers=1, threads_per_worker=1, device="cpu",
                                                            precision="fp32"),
                              ClusterParams(), RunFiles(ShardFolder(shards), tmp_path / "runs"))
    assert [line["step"] for line in log if "valid_perplexity" in line] == [10, 20]
    for name, weight in trained(MODEL, shards).state_dict().items():
        assert torch.equal(weight, state["model"][name]), name


def test_the_oracles_perplexity_stands_in_the_details_and_in_the_metrics(shards):
    method = trained(ORACLE, shards)
    row = RowParams(model="lm", dataset="small", split="words", columns=("2w1s1q",), episodes=5)
    details = evaluate_row(row, file_of(ORACLE, method, shards), method, ShardFolder(shards)).details
    expected = method.perplexity(load_sentences(ShardFolder(shards), "test").running_text())
    assert details.perplexity == pytest.approx(expected, abs=1e-3)
    assert details.metrics["perplexity"] == pytest.approx(expected, abs=1e-2)


def test_an_encoder_begins_with_a_language_model_of_train_words_and_refuses_the_oracle(shards, tmp_path):
    network = ModelParams(dataset="small", split="words", context=9, init="lm",
                          method=MatchingNetworkSpec(encoder=LanguageModelStatesSpec(READER)),
                          training=EpisodicSpec(episode=EpisodeSpec(2, 1, 1), steps=1))
    method = build_method(network.method, network.sample_shape, 0)
    source = trained(MODEL, shards)
    write_model(tmp_path / "model.pt", file_of(MODEL, source, shards))
    take_weights(method, network, tmp_path / "model.pt", ShardFolder(shards))
    assert torch.equal(method.encoder_f.reader.embedding.weight, source.reader.embedding.weight)
    write_model(tmp_path / "oracle.pt", file_of(ORACLE, trained(ORACLE, shards), shards))
    with pytest.raises(ValueError, match=r"has been trained on .* \(14 such classes\), a valid or test class"):
        take_weights(method, network, tmp_path / "oracle.pt", ShardFolder(shards))
