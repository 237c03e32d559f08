"""Classifier and siamese net: what they solve, what they cannot, and their objectives by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_problem import (
    CHANCE,
    EASY,
    SHAPE,
    SMALL,
    TRAIN_CLASSES,
    accuracy_on_test_classes,
    log_probs,
    random_episodes,
    train_on,
)

from matchnet.attention import Attention, AttentionSpec
from matchnet.episodes import EpisodeSpec
from matchnet.methods import Batch, Method, build_method
from matchnet.methods.classifier import Classifier, ClassifierSpec
from matchnet.methods.siamese import Siamese, SiameseSpec

ROWS = [(ClassifierSpec(encoder=SMALL), EpisodeSpec(32, 0, 1)),
        (SiameseSpec(encoder=SMALL), EpisodeSpec(20, 1, 1))]
IDS = ["classifier", "siamese"]


def small(spec: ClassifierSpec | SiameseSpec) -> Method:
    torch.manual_seed(0)
    return build_method(spec, SHAPE, len(TRAIN_CLASSES))


@pytest.mark.parametrize(("spec", "episode"), ROWS, ids=IDS)
def test_solves_patterns_of_unseen_classes(spec: ClassifierSpec | SiameseSpec, episode: EpisodeSpec) -> None:
    method = train_on(EASY, small(spec), episode, steps=80)
    one_shot, _ = accuracy_on_test_classes(method, EASY, EpisodeSpec(5, 1, 5))
    five_shot, _ = accuracy_on_test_classes(method, EASY, EpisodeSpec(5, 5, 5))
    assert one_shot > 0.9
    assert five_shot >= max(0.97, one_shot)


@pytest.mark.parametrize(("spec", "episode"), ROWS, ids=IDS)
def test_is_at_chance_when_samples_know_nothing_of_their_class(
        spec: ClassifierSpec | SiameseSpec, episode: EpisodeSpec) -> None:
    method = train_on(CHANCE, small(spec), episode, steps=30)
    mean, ci95 = accuracy_on_test_classes(method, CHANCE, EpisodeSpec(5, 1, 5), episodes=1000)
    assert abs(mean - 0.2) < 2 * ci95


@pytest.mark.parametrize(("spec", "episode"), ROWS, ids=IDS)
def test_log_probs_are_normalised_and_equivariant(
        spec: ClassifierSpec | SiameseSpec, episode: EpisodeSpec) -> None:
    method = small(spec).eval()
    support_ES, way_ES, query_EQ = random_episodes(E=3, N=4, k=2, Q=6)
    probs_EQN = log_probs(method, support_ES, way_ES, query_EQ, 4).exp()
    torch.testing.assert_close(probs_EQN.sum(-1), torch.ones(3, 6))
    renamed_EQN = log_probs(method, support_ES, (way_ES + 1) % 4, query_EQ, 4).exp()
    torch.testing.assert_close(renamed_EQN.roll(-1, -1), probs_EQN)


@pytest.mark.parametrize(("spec", "episode"), ROWS, ids=IDS)
def test_gradients_flow_into_every_weight(spec: ClassifierSpec | SiameseSpec, episode: EpisodeSpec) -> None:
    method = small(spec)
    support_ES, way_ES, query_EQ = random_episodes(E=2, N=4, k=1, Q=4)
    method(Batch(support_ES, way_ES, query_EQ, torch.arange(4).expand(2, 4), way_ES))["loss"].backward()
    for name, weight in method.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_classifier_is_trained_on_global_classes_not_ways() -> None:
    """Support and queries both count, each with the class of its way."""
    method = small(ClassifierSpec(encoder=SMALL))
    assert isinstance(method, Classifier)
    method.eval()
    support_ES, way_ES, query_EQ = random_episodes(E=2, N=3, k=1, Q=3)
    class_EN = torch.tensor([[7, 30, 11], [30, 2, 5]])
    query_way_EQ = torch.tensor([[2, 0, 1], [0, 1, 2]])
    loss = method(Batch(support_ES, way_ES, query_EQ, query_way_EQ, class_EN))["loss"]
    losses = []
    for e in range(2):
        image_T, way_T = torch.cat([support_ES[e], query_EQ[e]]), torch.cat([way_ES[e], query_way_EQ[e]])
        for image, way in zip(image_T, way_T, strict=True):
            logits_C = method.softmax(method.encoder(image[None]))[0]
            losses.append(-F.log_softmax(logits_C, 0)[class_EN[e, way]])
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def siamese_with_identity_features(weight: list[float], bias: float) -> Siamese:
    method = small(SiameseSpec(encoder=SMALL))
    assert isinstance(method, Siamese)
    with torch.no_grad():
        method.log_weight_D = torch.nn.Parameter(torch.tensor(weight).log())
        method.bias.fill_(bias)
    return method


def test_siamese_metric_by_hand() -> None:
    """b - sum_j a_j |x_j - y_j| = 1 - (0.5 * 2 + 2 * 3) = -6."""
    method = siamese_with_identity_features([0.5, 2.0], bias=1.0)
    logit_EQS = method.same_logit(torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[3.0, 2.0], [1.0, -1.0]]]))
    torch.testing.assert_close(logit_EQS, torch.tensor([[[-6.0, 1.0]]]))


def test_siamese_votes_are_odds() -> None:
    """Odds e^1 for way 0, e^0 + e^-1 for way 1."""
    method = siamese_with_identity_features([1.0], bias=1.0)
    support_ES, way_ES = torch.tensor([[[0.0], [1.0], [2.0]]]), torch.tensor([[0, 1, 1]])
    probs_EQN = method.classify(support_ES, way_ES, torch.tensor([[[0.0]]]), 2).exp()
    odds = math.e, 1 + math.exp(-1)
    assert probs_EQN[0, 0].tolist() == pytest.approx([odds[0] / sum(odds), odds[1] / sum(odds)])


def test_siamese_may_match_by_the_cosine_of_its_features() -> None:
    attention = AttentionSpec("cosine", "fixed", 30.0)
    method = small(SiameseSpec(encoder=SMALL, attention=attention))
    support_ES, query_EQ, way_ES = torch.randn(1, 4, 3), torch.randn(1, 5, 3), torch.tensor([[0, 1, 1, 0]])
    expected = Attention(attention)(query_EQ, support_ES, way_ES, 2)
    assert torch.equal(method.classify(support_ES, way_ES, query_EQ, 2), expected)
    with pytest.raises(ValueError, match=r"attention\.scale is learned, and no training reaches it"):
        SiameseSpec(attention=AttentionSpec())


def test_siamese_balances_same_and_different_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 same and 12 different pairs, all with a logit of 1: either kind is half of the loss."""
    method = siamese_with_identity_features([1.0], bias=1.0)
    monkeypatch.setattr(method, "embed_batch", lambda batch: (batch.support_ES, batch.query_EQ))
    same_place = torch.zeros(1, 4, 1)
    way = torch.arange(4).expand(1, 4)
    loss = method(Batch(same_place, way, same_place, way, way))["loss"]
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2)
