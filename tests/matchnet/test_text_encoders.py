"""Encoders of text: against slow references, what must not matter to them, and what they can learn and cannot."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from matchnet.encoders import EncoderSpec, build_encoder
from matchnet.encoders.bag_of_words import BagOfWords, BagOfWordsSpec
from matchnet.encoders.bilstm import BiLstm, BiLstmSpec
from matchnet.encoders.conv4 import Conv4, Conv4Spec
from matchnet.encoders.window import Window, WindowSpec
from matchnet.encoders.words import padding_last
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.evaluation import EpisodeStream, evaluate
from matchnet.methods import MatchingNetwork, Method
from matchnet.methods.fine_tuning import FineTuned, FineTuningSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.statistics import mean_and_interval
from matchnet.store import MemoryStore
from matchnet.tokens import BEGIN, BLANK, END, FIRST_WORD, PADDING
from matchnet.training import train

CONTEXT = 5
SHAPE = (2 * CONTEXT + 1,)
NUM_WORDS = 30
BAG = BagOfWordsSpec(NUM_WORDS, embedding_size=6)
WINDOW = WindowSpec(NUM_WORDS, embedding_size=6)
BILSTM = BiLstmSpec(NUM_WORDS, word_size=6, state_size=7)
SPECS = [BAG, WINDOW, BILSTM]


def window_of(before: list[int], after: list[int], context: int = CONTEXT) -> Tensor:
    """The sample of a sentence with the blank between these words."""
    left = [BEGIN, *before][-context:]
    right = [*after, END][:context]
    return torch.tensor([PADDING] * (context - len(left)) + left + [BLANK] + right + [PADDING] * (context - len(right)))


def random_windows(count: int, context: int = CONTEXT, longest: int = 7) -> Tensor:
    """Sentences of all lengths around the blank, from none to more words than the window has room for."""
    generator = np.random.default_rng(0)
    def words() -> list[int]:
        return generator.integers(FIRST_WORD, NUM_WORDS, generator.integers(0, longest + 1)).tolist()
    return torch.stack([window_of(words(), words(), context) for _ in range(count)])


def fresh(spec: EncoderSpec, shape: tuple[int, ...] = SHAPE) -> BagOfWords | Window | BiLstm:
    torch.manual_seed(0)
    encoder = build_encoder(spec, shape).eval()
    assert not isinstance(encoder, Conv4)
    if isinstance(encoder, Window):
        torch.nn.init.normal_(encoder.weight_LD)  # at first it is the same on both sides
    return encoder


@pytest.mark.parametrize("spec, size", [(BAG, 6), (WINDOW, 6), (BILSTM, 14)])
def test_sizes(spec: EncoderSpec, size: int) -> None:
    encoder = fresh(spec)
    assert encoder.embedding_size == size
    embedding_BD = encoder(random_windows(9))
    assert embedding_BD.shape == (9, size)
    assert embedding_BD.dtype == torch.float32


@torch.no_grad()
def test_bag_of_words_is_the_mean_of_the_words() -> None:
    encoder = fresh(BAG)
    assert isinstance(encoder, BagOfWords)
    sample_BL = random_windows(50)
    for sample, embedding in zip(sample_BL.tolist(), encoder(sample_BL), strict=True):
        words = [encoder.words.weight[token] for token in sample if token not in (PADDING, BLANK, BEGIN, END)]
        mean = sum(words, torch.zeros(6)) / max(len(words), 1)
        torch.testing.assert_close(embedding, mean)


@torch.no_grad()
def test_window_weighs_each_entry_by_its_place() -> None:
    encoder = fresh(WINDOW)
    assert isinstance(encoder, Window)
    sample_BL = random_windows(20)
    for sample, embedding in zip(sample_BL.tolist(), encoder(sample_BL), strict=True):
        total = torch.zeros(6)
        for place, token in enumerate(sample):
            if token != PADDING:
                total += encoder.words.weight[token] * encoder.weight_LD[place]
        torch.testing.assert_close(embedding, total)


@torch.no_grad()
def test_bilstm_reads_each_side_from_its_edge_to_the_blank() -> None:
    """One sample at a time, one token at a time, in a cell with the same weights; PADDING is not read."""
    encoder = fresh(BILSTM)
    assert isinstance(encoder, BiLstm)
    sample_BL = random_windows(20)
    for sample, embedding in zip(sample_BL.tolist(), encoder(sample_BL), strict=True):
        states = []
        for lstm, side in ((encoder.before, sample[:CONTEXT]), (encoder.after, sample[:CONTEXT:-1])):
            cell = torch.nn.LSTMCell(6, 7)
            cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in lstm.state_dict().items()})
            h_H = c_H = torch.zeros(7)
            for token in side:
                if token != PADDING:
                    h_H, c_H = cell(encoder.words.weight[token], (h_H, c_H))
            states.append(h_H)
        torch.testing.assert_close(embedding, torch.cat(states))


@pytest.mark.parametrize("spec", [BAG, BILSTM])
@torch.no_grad()
def test_more_padding_changes_nothing(spec: EncoderSpec) -> None:
    """The same sentences in a wider window. Window has weights for its places, so one of another width is another."""
    near, wide = random_windows(20, longest=4), random_windows(20, context=12, longest=4)
    torch.testing.assert_close(fresh(spec)(near), fresh(spec, (25,))(wide))


@pytest.mark.parametrize("spec", SPECS)
@torch.no_grad()
def test_the_vector_of_padding_does_not_matter(spec: EncoderSpec) -> None:
    encoder, sample_BL = fresh(spec), random_windows(20)
    before = encoder(sample_BL)
    encoder.words.weight[PADDING] = 100.0
    torch.testing.assert_close(encoder(sample_BL), before, rtol=0, atol=0)


@pytest.mark.parametrize("spec", SPECS)
@torch.no_grad()
def test_samples_do_not_see_one_another(spec: EncoderSpec) -> None:
    encoder, sample_BL = fresh(spec), random_windows(20)
    together = encoder(sample_BL)
    for sample_L, embedding in zip(sample_BL, together, strict=True):
        torch.testing.assert_close(encoder(sample_L[None])[0], embedding)


@pytest.mark.parametrize("spec, order_matters", [(BAG, False), (WINDOW, True), (BILSTM, True)])
@torch.no_grad()
def test_order(spec: EncoderSpec, order_matters: bool) -> None:
    """A bag of words knows neither the words' order nor their side of the blank."""
    encoder = fresh(spec)
    sentence = encoder(window_of([4, 5, 6], [7, 8])[None])
    for before, after in (([5, 4, 6], [7, 8]), ([7, 5, 6], [4, 8])):
        other = encoder(window_of(before, after)[None])
        assert torch.allclose(sentence, other, atol=1e-6) != order_matters


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_reach_every_parameter_and_the_read_words_alone(spec: EncoderSpec) -> None:
    encoder = fresh(spec)
    sample_BL = torch.stack([window_of([4, 5], [6, 7]), window_of([8, 4, 9, 11, 12, 13, 14], [10, 5])])
    encoder(sample_BL).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in encoder.parameters())
    assert encoder.words.weight.grad is not None
    moved = encoder.words.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    read = {*range(4, 15)} - {8, 4}  # 8 and 4 of the second sentence lie outside, but 4 is in the first
    assert {token for token in moved if token >= FIRST_WORD} == read | {4}
    assert PADDING not in moved


@torch.no_grad()
def test_without_a_word_beside_the_blank() -> None:
    alone = window_of([], [])[None]
    assert not fresh(BAG)(alone).any()
    for spec in (WINDOW, BILSTM):
        assert fresh(spec)(alone).isfinite().all()


@pytest.mark.parametrize("spec", [BagOfWordsSpec(NUM_WORDS, dropout=0.5), WindowSpec(NUM_WORDS, dropout=0.5),
                                  BiLstmSpec(NUM_WORDS, dropout=0.5)])
@torch.no_grad()
def test_dropout_in_training_alone(spec: EncoderSpec) -> None:
    encoder, sample_BL = fresh(spec), random_windows(5)
    torch.testing.assert_close(encoder(sample_BL), encoder(sample_BL), rtol=0, atol=0)
    encoder.train()
    assert not torch.allclose(encoder(sample_BL), encoder(sample_BL))


def test_padding_last() -> None:
    moved, length_B = padding_last(torch.tensor([[0, 0, 0, 5], [0, 2, 6, 7], [0, 0, 8, 9]]))
    assert moved.tolist() == [[5, 0, 0], [2, 6, 7], [8, 9, 0]]
    assert length_B.tolist() == [1, 3, 2]


@pytest.mark.parametrize("make, text", [
    (lambda: BagOfWordsSpec(4), "num_words is 4; the first 4 tokens are no words, so it must be above that"),
    (lambda: WindowSpec(NUM_WORDS, embedding_size=0), "embedding_size is 0; it must be at least 1"),
    (lambda: BiLstmSpec(NUM_WORDS, state_size=-1), "state_size is -1; it must be at least 1"),
    (lambda: BiLstmSpec(NUM_WORDS, dropout=1.0), "dropout is 1.0; it must be at least 0 and below 1"),
    (lambda: build_encoder(BAG, (1, 28, 28)), "samples of shape (1, 28, 28); an encoder of text takes windows"),
    (lambda: build_encoder(BILSTM, (12,)), "samples of shape (12,); an encoder of text takes windows of 2"),
    (lambda: build_encoder(Conv4Spec(), (17,)), "samples of shape (17,); conv4 takes images"),
    (lambda: build_encoder(WINDOW, SHAPE)(torch.full((1, *SHAPE), 30)), "token 30 with num_words = 30"),
    (lambda: FineTuned(MatchingNetwork(MatchingNetworkSpec(encoder=BAG), SHAPE), FineTuningSpec()),
     "fine-tuning of MatchingNetwork with BagOfWords: it takes"),
])
def test_errors(make, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as error:
        make()
    assert text in str(error.value)


# Tiny languages. A class is a word of one of four kinds. CUE: the word right before the blank tells the kind. SIDES:
# two words, one on each side of the blank, tell two kinds by their order, which a bag cannot see. NOISE: nothing does.
KINDS, CLASSES, SAMPLES = 4, 40, 12
CLASS_R = np.repeat(np.arange(CLASSES), SAMPLES)
TRAIN_CLASSES, TEST_CLASSES = range(20), range(20, 24)  # one test class of each kind


def language(name: Literal["cue", "sides", "noise"]) -> MemoryStore:
    generator = np.random.default_rng(0)
    samples = []
    for class_id in CLASS_R:
        noise = generator.integers(FIRST_WORD + 8, NUM_WORDS, 6).tolist()
        cue = FIRST_WORD + int(class_id) % KINDS
        if name == "cue":
            samples.append(window_of([*noise[:3], cue], noise[3:]))
        elif name == "sides":
            first, second = (FIRST_WORD, FIRST_WORD + 1) if class_id % 2 else (FIRST_WORD + 1, FIRST_WORD)
            samples.append(window_of([*noise[:3], first], [second, *noise[3:]]))
        else:
            samples.append(window_of(noise[:3], noise[3:]))
    return MemoryStore(torch.stack(samples))


def trained(spec: EncoderSpec, store: MemoryStore, ways: int) -> Method:
    torch.manual_seed(0)
    method = MatchingNetwork(MatchingNetworkSpec(encoder=spec), SHAPE)
    data = EpisodicData(store, ClassRows.from_class_ids(CLASS_R, TRAIN_CLASSES))
    spec = EpisodicSpec(episode=EpisodeSpec(ways, 1, 2), steps=150, episodes_per_step=8, learning_rate=1e-2)
    train(method, EpisodicTask(data, spec))
    return method


def accuracy(method: Method, store: MemoryStore, classes: range) -> tuple[float, float]:
    rows = ClassRows.from_class_ids(CLASS_R, classes)
    stream = EpisodeStream(rows, EpisodeSpec(len(classes), 1, 3), seed=1)
    return mean_and_interval(evaluate(method, store, stream, 300))


@pytest.mark.parametrize("spec", SPECS)
def test_learns_a_word_that_tells_the_classes(spec: EncoderSpec) -> None:
    store = language("cue")
    mean, _ = accuracy(trained(spec, store, 4), store, TEST_CLASSES)
    assert mean > 0.9


@pytest.mark.parametrize("spec, solves", [(BAG, False), (WINDOW, True), (BILSTM, True)])
def test_the_side_of_the_blank(spec: EncoderSpec, solves: bool) -> None:
    store = language("sides")
    mean, ci95 = accuracy(trained(spec, store, 2), store, range(20, 22))
    assert mean > 0.9 if solves else abs(mean - 0.5) < 2 * ci95


@pytest.mark.parametrize("spec", SPECS)
def test_noise_gives_chance(spec: EncoderSpec) -> None:
    store = language("noise")
    mean, ci95 = accuracy(trained(spec, store, 4), store, TEST_CLASSES)
    assert abs(mean - 0.25) < 2 * ci95 + 0.03  # few samples: a chance likeness may last
