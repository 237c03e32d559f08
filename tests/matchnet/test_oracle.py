"""The oracle: a full softmax restricted to the classes of the episode, for images that a classifier has seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_problem import CLASS_R, EASY, SHAPE, SMALL

from matchnet.episodes import ClassRows, EpisodeSpec, sample_episodes
from matchnet.evaluation import EpisodeStream, embed_rows, evaluate, rows_drawn, run_episodes, to_input
from matchnet.methods import Classifier, Oracle, build_method
from matchnet.methods.classifier import ClassifierSpec

SPEC = EpisodeSpec(num_ways=5, num_shots=1, num_queries=4)
CLASSES = ClassRows.from_class_ids(CLASS_R, [50, 7, 41, 59, 8, 30, 2])  # in this order
STREAM = EpisodeStream(CLASSES, SPEC, seed=3)
OUTPUT_C = torch.tensor([50, 7, 41, 59, 8, 30, 2])


def classifier() -> Classifier:
    torch.manual_seed(0)
    method = build_method(ClassifierSpec(encoder=SMALL), SHAPE, 60)
    assert isinstance(method, Classifier)
    method.embed(to_input(EASY.samples[::7]))  # statistics of its own
    return method.eval()


@torch.no_grad()
def test_probabilities_are_those_of_the_full_softmax_given_that_it_is_one_of_the_ways() -> None:
    method = classifier()
    oracle = Oracle(method, OUTPUT_C)
    features = embed_rows(oracle, EASY, rows_drawn(STREAM, 6), "cpu")
    [(episodes, log_probs_EQN)] = run_episodes(oracle, features, STREAM, range(6))
    class_ids = [50, 7, 41, 59, 8, 30, 2]
    for e in range(6):
        for query in range(20):
            image = to_input(EASY.samples[episodes.query_EQ[e, query]])[None]
            full = method.softmax(method.embed(image)).softmax(-1)[0]
            ways = torch.tensor([full[class_ids[position]] for position in episodes.class_EN[e]])
            torch.testing.assert_close(log_probs_EQN[e, query].exp(), ways / ways.sum(), atol=1e-5, rtol=1e-4)


def test_only_the_classes_of_the_support_set_matter_not_its_images() -> None:
    oracle = Oracle(classifier(), OUTPUT_C)
    features = embed_rows(oracle, EASY, rows_drawn(STREAM, 4), "cpu")
    episodes = sample_episodes(3, range(4), SPEC, CLASSES)
    other = replace(episodes, support_ES=episodes.query_EQ[:, :5], support_way_ES=episodes.support_way_ES.flip(1))
    assert torch.equal(oracle.classify_rows(features, other), oracle.classify_rows(features, episodes))


@pytest.mark.parametrize(("rolled_by", "expected"), [(0, 1.0), (1, 0.0)])
def test_it_is_as_good_as_the_classifier(rolled_by: int, expected: float) -> None:
    """Each class with its own output: all right; with that of another: all wrong."""
    method = classifier()
    nearest = torch.nn.functional.normalize(method.embed(to_input(EASY.samples)), dim=-1)
    oracle = Oracle(method, OUTPUT_C.roll(rolled_by))
    with torch.no_grad():  # a classifier by heart: one sample a class, and the test is on that sample
        oracle.classifier.softmax.weight.copy_(1000 * nearest[::20])
        oracle.classifier.softmax.bias.zero_()
    rows = ClassRows(np.arange(0, 1200, 20), np.array([50, 7, 41, 59, 8, 30, 2]), np.ones(7, dtype=np.int64))
    accuracy_E = evaluate(oracle, EASY, EpisodeStream(rows, EpisodeSpec(7, 0, 1), seed=0), 3)
    assert accuracy_E.tolist() == [expected] * 3


def test_it_is_no_method_of_one_shot_learning() -> None:
    with pytest.raises(NotImplementedError, match="an oracle has to know which classes the ways are"):
        Oracle(classifier(), OUTPUT_C).classify(torch.zeros(1), torch.zeros(1), torch.zeros(1), 5)
