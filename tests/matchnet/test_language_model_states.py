"""The states of a language model as an encoder: the blank is not read, and its weights come from a model that may."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from matchnet.encoders.language_model import LanguageModelStatesSpec, ReaderSpec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods import build_method
from matchnet.methods.language_model import LanguageModelSpec
from matchnet.methods.matching_network import MatchingNetwork, MatchingNetworkSpec
from matchnet.model_file import ModelFile, write_model
from matchnet.parsing import ParamsError, parse
from matchnet.text_training import TextSpec
from matchnet.tokens import BEGIN, BLANK, END, PADDING
from matchnet.weights import CheckpointError
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ModelParams
from pipeline.training.initial import take_weights

READER = ReaderSpec(30, direction="both", num_cells=8, dropout=0.5)
SHAPE = (9,)
SAMPLES = torch.tensor([[PADDING, BEGIN, 7, 8, BLANK, 9, END, PADDING, PADDING],
                        [10, 11, 12, BLANK, BLANK, END, PADDING, PADDING, PADDING],
                        [PADDING, PADDING, PADDING, BEGIN, BLANK, 13, 14, 15, 16]])


def network(seed: int = 0, **encoder: object) -> MatchingNetwork:
    torch.manual_seed(seed)
    spec = LanguageModelStatesSpec(**{"reader": READER, **encoder})  # type: ignore[arg-type]
    method = build_method(MatchingNetworkSpec(encoder=spec, tied=False), SHAPE, 0)
    assert isinstance(method, MatchingNetwork)
    return method


# ---- the encoder ----

def test_what_stands_in_the_blank_is_not_read():
    encoder = network().eval().encoder_f
    filled = SAMPLES.clone()
    filled[:, 4] = torch.tensor([20, 21, 22])
    assert torch.equal(encoder(SAMPLES), encoder(filled))
    for place in (3, 5):  # but its neighbours are
        changed = SAMPLES.clone()
        changed[:, place] = 25
        assert (encoder(SAMPLES) != encoder(changed)).any(1).all()


def test_padding_and_the_mark_of_the_sentences_edge_leave_no_trace():
    encoder = network().eval().encoder_f
    wide = torch.cat([torch.full((3, 4), PADDING), SAMPLES, torch.full((3, 4), PADDING)], dim=1)
    encoder.centre += 4
    together = encoder(wide)
    encoder.centre -= 4
    torch.testing.assert_close(encoder(SAMPLES), together)
    assert torch.equal(encoder(SAMPLES), encoder(SAMPLES.masked_fill(SAMPLES == BEGIN, END)))


@pytest.mark.parametrize(("size", "expected"), [(None, 16), (5, 5)])
def test_the_embedding_has_the_states_of_both_directions_or_a_map_of_them(size, expected):
    encoder = network(embedding_size=size).encoder_f
    assert encoder.embedding_size == expected == encoder(SAMPLES).shape[1]


def test_a_frozen_language_model_neither_learns_nor_drops_anything():
    method = network(frozen=True, embedding_size=5).train()
    encoder = method.encoder_f
    assert torch.equal(encoder(SAMPLES), encoder(SAMPLES))
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trained == {"linear.weight", "linear.bias"}
    loose = network(frozen=False).train().encoder_f
    assert not torch.equal(loose(SAMPLES), loose(SAMPLES)) and all(w.requires_grad for w in loose.parameters())


@pytest.mark.parametrize(("change", "message"), [
    ({"reader": ReaderSpec(30)}, "reader.direction is 'forward'; around a blank both are read: write both"),
    ({"reader": replace(READER, mask="variational")}, "reader.mask is 'variational'; samples around a blank are read "
     "packed, which has plain masks alone: write plain, whatever the language model was trained with"),
    ({"embedding_size": 0}, "embedding_size is 0; it must be at least 1, or null for no map"),
])
def test_spec_is_checked(change, message):
    with pytest.raises(ValueError, match=message):
        LanguageModelStatesSpec(**{"reader": READER, **change})


def test_a_token_above_num_words_is_refused():
    encoder = network().encoder_f
    with pytest.raises(ValueError, match="token 30 with num_words = 30; num_words counts the vocabulary and the 4 "
                                         "tokens that are no words: set it to the dataset's"):
        encoder(torch.full((1, *SHAPE), 30))


# ---- its first weights ----

MODEL = ModelParams(dataset="ptb", split="words", context=4, init="lm",
                    method=MatchingNetworkSpec(encoder=LanguageModelStatesSpec(READER)),
                    training=EpisodicSpec(episode=EpisodeSpec(2, 1, 1), steps=1))


def language_model_file(path: Path, train_classes: list[str], reader: ReaderSpec = READER) -> Path:
    spec = LanguageModelSpec(reader=reader, cutoffs=(2,))
    torch.manual_seed(5)
    write_model(path, ModelFile(
        model_name="lm", method=spec, sample_shape=(10,), num_classes=20, state_dict=build_method(
            spec, (10,), 20).state_dict(), step=1, seed=0, dataset_sha256="this", split="words",
        train_classes=train_classes, seconds=1.0))
    return path


@pytest.fixture(autouse=True)
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    split = {"train": ["the", "of"], "valid": ["cat"], "test": ["dog"]}
    monkeypatch.setattr(ShardFolder, "sha256", "this")
    monkeypatch.setattr(ShardFolder, "manifest", SimpleNamespace(splits={"words": split}))


def test_both_encoders_begin_with_the_language_models_weights(tmp_path):
    path = language_model_file(tmp_path / "model.pt", ["<eos>", "the", "<unk>", "of"])
    method = network()
    take_weights(method, MODEL, path, ShardFolder(tmp_path))
    for encoder in (method.encoder_f, method.encoder_g):
        assert encoder is not None
        for name, weight in encoder.reader.state_dict().items():
            assert torch.equal(weight, torch.load(path)["state_dict"][f"reader.{name}"]), name


@pytest.mark.parametrize("word", ["cat", "dog"])
def test_a_language_model_that_has_predicted_a_word_to_be_learnt_in_one_shot_is_refused(tmp_path, word):
    path = language_model_file(tmp_path / "model.pt", ["<eos>", "the", word])
    with pytest.raises(ValueError, match=rf"model\.pt: has been trained on '{word}' \(1 such classes\), a valid or "
                                         "test class of split words, to be learnt in one shot; begin with a model"):
        take_weights(network(), MODEL, path, ShardFolder(tmp_path))


def test_a_language_model_of_other_data_or_size_is_refused(tmp_path, monkeypatch):
    path = language_model_file(tmp_path / "model.pt", ["<eos>"], ReaderSpec(30, direction="both", num_cells=4))
    with pytest.raises(CheckpointError, match=r"embedding\.weight: expected \(30, 8\), found \(30, 4\)"):
        take_weights(network(), MODEL, path, ShardFolder(tmp_path))
    monkeypatch.setattr(ShardFolder, "sha256", "other")
    with pytest.raises(ValueError, match="a language model of other data"):
        take_weights(network(), MODEL, path, ShardFolder(tmp_path))


def test_without_init_nothing_is_taken(tmp_path):
    method, same = network(), network()
    take_weights(method, MODEL, None, ShardFolder(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), same.parameters(), strict=True))


def test_texts_and_episodes_are_told_apart_by_their_keys():


    union = EpisodicSpec | TextSpec | None
    episode = {"num_ways": 2, "num_shots": 1, "num_queries": 1}
    assert isinstance(parse(union, {"steps": 5, "episode": episode}, "training"), EpisodicSpec)
    assert isinstance(parse(union, {"steps": 5, "num_streams": 20, "window": 35}, "training"), TextSpec)
    with pytest.raises(ParamsError, match=r"training\.episod: there is no such parameter; did you mean 'episode'"):
        parse(union, {"steps": 5, "episod": episode}, "training")
    with pytest.raises(ParamsError, match=r"training\.windw: there is no such parameter; did you mean 'window'"):
        parse(union, {"steps": 5, "num_streams": 20, "windw": 35}, "training")
