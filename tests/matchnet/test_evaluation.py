"""Evaluation against the naive way: every episode by itself, every image embedded again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import matchnet.evaluation
from matchnet.context import FullContextSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import ClassRows, EpisodeSpec, sample_episodes
from matchnet.evaluation import (
    EpisodeResults,
    EpisodeStream,
    embed_rows,
    episode_results,
    evaluate,
    most_one_way,
    rows_drawn,
    run_episodes,
    to_input,
)
from matchnet.methods import Method, build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.store import MemoryStore

SHAPE = (1, 8, 8)
SPEC = EpisodeSpec(num_ways=4, num_shots=2, num_queries=3)
SMALL = Conv4Spec(num_filters=4, num_blocks=2)
METHODS = [PixelsSpec(), MatchingNetworkSpec(encoder=SMALL), MatchingNetworkSpec(encoder=SMALL, tied=False),
           MatchingNetworkSpec(encoder=SMALL, fce=FullContextSpec(2))]


def blurred_classes(num_classes: int = 9, count: int = 8) -> tuple[MemoryStore, np.ndarray]:
    """Noisy copies of one random image a class: hard enough that accuracies spread over [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    prototype = torch.rand(num_classes, 1, *SHAPE, generator=generator)
    noise = torch.rand(num_classes, count, *SHAPE, generator=generator)
    samples = ((0.3 * prototype + 0.7 * noise) * 255).to(torch.uint8).flatten(0, 1)
    order = torch.randperm(len(samples), generator=generator)
    return MemoryStore(samples[order]), np.repeat(np.arange(num_classes), count)[order.numpy()]


STORE, CLASS_ID_R = blurred_classes()
CLASSES = ClassRows.from_class_ids(CLASS_ID_R, classes=[8, 0, 5, 2, 6])
STREAM = EpisodeStream(CLASSES, SPEC, seed=5)


def trained_a_little(spec: PixelsSpec | MatchingNetworkSpec) -> Method:
    """A method whose normalisation has seen images: fresh, it would not tell train() from eval()."""
    torch.manual_seed(0)
    method = build_method(spec, SHAPE, num_classes=5)
    method.train()
    with torch.no_grad():
        method.embed(to_input(STORE.samples))
    return method


@torch.no_grad()
def naive_episode(method: Method, number: int) -> tuple[Tensor, float]:
    """log_probs_QN and accuracy of one episode, with no batch but its own images."""
    method.eval()
    episode = sample_episodes(5, [number], SPEC, CLASSES)
    support = method.embed(STORE.samples[episode.support_ES[0]].float() / 255)
    query = method.embed(STORE.samples[episode.query_EQ[0]].float() / 255)
    log_probs_QN = method.classify(support[None], episode.support_way_ES, query[None], SPEC.num_ways)[0]
    ways = episode.query_way_EQ[0].tolist()
    right = [row.index(max(row)) == way for row, way in zip(log_probs_QN.tolist(), ways, strict=True)]
    return log_probs_QN, sum(right) / len(right)


@pytest.mark.parametrize("spec", METHODS)
def test_embedding_once_is_embedding_in_every_episode(spec: PixelsSpec | MatchingNetworkSpec) -> None:
    method = trained_a_little(spec)
    naive = [naive_episode(method, number) for number in range(40)]
    features = embed_rows(method, STORE, rows_drawn(STREAM, 40), "cpu")
    batches = run_episodes(method, features, STREAM, range(40))
    log_probs_EQN = torch.cat([log_probs for _, log_probs in batches])
    naive_EQN = torch.stack([log_probs for log_probs, _ in naive])
    torch.testing.assert_close(log_probs_EQN, naive_EQN, rtol=1e-4, atol=1e-4)
    accuracy_E = evaluate(method, STORE, STREAM, 40)
    assert accuracy_E.dtype == np.float64 and accuracy_E.shape == (40,)
    assert accuracy_E.tolist() == pytest.approx([accuracy for _, accuracy in naive], abs=1e-7)
    assert 0 < accuracy_E.mean() < 1 and len(set(accuracy_E)) > 3


@pytest.mark.parametrize("spec", METHODS)
def test_batch_sizes_do_not_matter(spec: PixelsSpec | MatchingNetworkSpec,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    method = trained_a_little(spec)
    expected = evaluate(method, STORE, STREAM, 23)
    for embed_batch, features_per_batch in ((1, 1), (7, 4000), (1000, 2**30)):
        monkeypatch.setattr(matchnet.evaluation, "EMBED_BATCH", embed_batch)
        monkeypatch.setattr(matchnet.evaluation, "FEATURES_PER_BATCH", features_per_batch)
        assert evaluate(method, STORE, STREAM, 23).tolist() == expected.tolist()


def test_more_episodes_begin_with_the_same_ones() -> None:
    method = trained_a_little(PixelsSpec())
    few, many = (evaluate(method, STORE, STREAM, n) for n in (10, 30))
    assert many[:10].tolist() == few.tolist()
    assert evaluate(method, STORE, replace(STREAM, seed=6), 30).tolist() != many.tolist()


class RecordingMethod(Method):
    """Its feature is the image's first pixel; it keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded: list[Tensor] = []
        self.supports: list[Tensor] = []

    def embed(self, sample_B: Tensor) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.embedded.append(sample_B)
        return sample_B.flatten(1)[:, :1]

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        self.supports.append(support_ES)
        return torch.zeros(*query_EQ.shape[:2], num_ways)

    def forward(self, batch: object) -> dict[str, Tensor]:
        raise NotImplementedError


NUMBERED = MemoryStore(torch.arange(72, dtype=torch.uint8).view(72, 1, 1, 1))


def rows_by_hand(num_episodes: int) -> list[int]:
    """Those that the first episodes of seed 5 use."""
    episodes = sample_episodes(5, range(num_episodes), SPEC, CLASSES)
    return sorted({*episodes.support_ES.flatten().tolist(), *episodes.query_EQ.flatten().tolist()})


@pytest.mark.parametrize(("num_episodes", "embed_batch"), [(1, 256), (2, 7), (40, 7)])
def test_each_sample_that_occurs_is_embedded_once_as_a_number_from_0_to_1(
        num_episodes: int, embed_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matchnet.evaluation, "EMBED_BATCH", embed_batch)
    monkeypatch.setattr(matchnet.evaluation, "EPISODES_AT_ONCE", 3)
    method, done = RecordingMethod(), []
    rows = rows_drawn(STREAM, num_episodes)
    features = embed_rows(method, NUMBERED, rows, "cpu", done.append)
    assert rows.tolist() == rows_by_hand(num_episodes)
    assert (torch.cat(method.embedded).flatten() * 255).round().int().tolist() == rows.tolist()
    assert max(done) <= embed_batch and sum(done) == len(rows) == len(features.samples)
    shuffled = torch.from_numpy(rows).flip(0).view(-1, 1)
    assert torch.equal(features.gather(shuffled).flatten(), shuffled.flatten() / 255)
    assert len(features) == 72


def test_a_row_that_was_not_embedded_is_no_other_row() -> None:
    features = embed_rows(RecordingMethod(), NUMBERED, np.array([3, 5]), "cpu")
    with pytest.raises(IndexError):
        features.gather(torch.tensor([4]))


class FailingStore(MemoryStore):
    """Reads two batches of ten; the third has five."""

    def __init__(self, samples: Tensor, log: list[str]) -> None:
        super().__init__(samples)
        self.log = log

    def gather(self, rows: Tensor) -> Tensor:
        if len(rows) == 5:
            raise OSError("shard 3 is gone")
        self.log.append("read")
        return super().gather(rows)


def test_a_store_that_cannot_read_stops_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matchnet.evaluation, "EMBED_BATCH", 10)
    log: list[str] = []
    with pytest.raises(OSError, match="shard 3 is gone"):
        embed_rows(RecordingMethod(), FailingStore(NUMBERED.samples, log), np.arange(25), "cpu")
    assert log == ["read", "read"]


def test_large_images_are_embedded_a_few_at_a_time() -> None:
    method = RecordingMethod()
    embed_rows(method, MemoryStore(torch.zeros(20, 3, 299, 299, dtype=torch.uint8)), np.arange(20), "cpu")
    assert [len(batch) for batch in method.embedded] == [8, 8, 4]


def test_progress_counts_episodes_and_most_one_way_queries() -> None:
    done: list[int] = []
    method = trained_a_little(PixelsSpec())
    features = embed_rows(method, STORE, rows_drawn(STREAM, 23), "cpu")
    results = episode_results(method, features, STREAM, range(23), done.append)
    assert isinstance(results, EpisodeResults) and sum(done) == 23
    log_probs = torch.cat([batch for _, batch in run_episodes(method, features, STREAM, range(23))])
    answers = log_probs.argmax(-1).tolist()
    by_hand = [max(row.count(way) for way in range(4)) / 12 for row in answers]
    assert results.most_one_way_E.tolist() == pytest.approx(by_hand)
    assert len(set(by_hand)) > 2
    same = torch.zeros(1, 6, 3)
    assert most_one_way(same).tolist() == [1.0]


def test_support_reaches_the_method_in_the_order_of_its_episode() -> None:
    """FCE reads the support as a sequence: training and evaluation must agree on which."""
    method = RecordingMethod()
    evaluate(method, NUMBERED, STREAM, 6)
    rows = (torch.cat(method.supports)[..., 0] * 255).round().long()
    assert torch.equal(rows, sample_episodes(5, range(6), SPEC, CLASSES).support_ES)


def test_a_method_that_knows_nothing_is_right_once_in_n() -> None:
    store = MemoryStore(torch.zeros(72, *SHAPE, dtype=torch.uint8))
    accuracy_E = evaluate(trained_a_little(PixelsSpec()), store, replace(STREAM, seed=0), 50)
    assert accuracy_E.tolist() == [0.25] * 50


def test_tokens_are_left_as_they_are() -> None:
    tokens = torch.tensor([3, 999])
    assert to_input(tokens) is tokens
    assert to_input(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])


def test_classes_that_cannot_serve_the_spec_are_refused_before_any_work() -> None:
    method = RecordingMethod()
    with pytest.raises(ValueError, match="6 ways of 5 classes"):
        evaluate(method, STORE, EpisodeStream(CLASSES, EpisodeSpec(6, 1, 1), seed=0), 10)
    assert method.embedded == []
