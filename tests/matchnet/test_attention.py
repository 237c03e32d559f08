"""Equation 1 against Python loops, and the two methods that section 2.1 says it contains."""

import math

import pytest
import torch
from torch import Tensor

from matchnet.attention import Attention, AttentionSpec, attend, similarity

KERNELS = ["cosine", "dot_product", "euclidean", "projection"]


def slow_similarity(kernel: str, x: list[float], x_i: list[float]) -> float:
    """One pair, with Python's floats (64 bits)."""
    dot = sum(a * b for a, b in zip(x, x_i, strict=True))
    norm, norm_i = math.sqrt(sum(a * a for a in x)), math.sqrt(sum(b * b for b in x_i))
    return {"cosine": dot / (norm * norm_i), "dot_product": dot, "projection": dot / norm_i,
            "euclidean": -sum((a - b) ** 2 for a, b in zip(x, x_i, strict=True))}[kernel]


def slow_probabilities(scores: list[float], ways: list[int], num_ways: int) -> list[float]:
    """y^ = sum_i a(x^, x_i) y_i, y_i one-hot labels, a = e^c / sum_j e^c      [eq. 1, section 2.1.1]"""
    total = sum(math.exp(score) for score in scores)
    y = [0.0] * num_ways
    for score, way in zip(scores, ways, strict=True):
        y[way] += math.exp(score) / total
    return y


def episode(E: int = 3, Q: int = 4, S: int = 6, D: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Random queries, support items and their ways, of which there are 3."""
    generator = torch.Generator().manual_seed(0)
    query_EQD, support_ESD = (torch.randn(E, n, D, generator=generator) for n in (Q, S))
    way_ES = torch.stack([torch.randperm(S, generator=generator) % 3 for _ in range(E)])
    return query_EQD, support_ESD, way_ES


@pytest.mark.parametrize("kernel", KERNELS)
def test_similarity_is_the_formula_of_its_kernel(kernel: str) -> None:
    query_EQD, support_ESD, _ = episode()
    expected = [[[slow_similarity(kernel, x, x_i) for x_i in support] for x in query]
                for query, support in zip(query_EQD.tolist(), support_ESD.tolist(), strict=True)]
    torch.testing.assert_close(similarity(kernel, query_EQD, support_ESD), torch.tensor(expected))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale, value, factor", [
    ("none", 7.0, 1.0), ("fixed", 7.0, 7.0), ("learned", 0.5, 0.5)])
def test_attention_is_equation_1(kernel: str, scale: str, value: float, factor: float) -> None:
    query_EQD, support_ESD, way_ES = episode()
    attention = Attention(AttentionSpec(kernel, scale, value))  # type: ignore[arg-type]
    log_probs_EQN = attention(query_EQD, support_ESD, way_ES, 3)
    assert log_probs_EQN.dtype == torch.float32
    for e in range(3):
        for q in range(4):
            x = query_EQD[e, q].tolist()
            scores = [factor * slow_similarity(kernel, x, x_i) for x_i in support_ESD[e].tolist()]
            expected = slow_probabilities(scores, way_ES[e].tolist(), 3)
            torch.testing.assert_close(log_probs_EQN[e, q].exp(), torch.tensor(expected))


def test_only_a_learned_scale_is_trained() -> None:
    query_EQD, support_ESD, way_ES = episode()
    query_EQD.requires_grad_()
    trained = {}
    for scale in ("none", "fixed", "learned"):
        attention = Attention(AttentionSpec("cosine", scale, 3.0))
        attention(query_EQD, support_ESD, way_ES, 3)[..., 0].sum().backward()
        trained[scale] = attention.log_scale.grad is not None and bool(attention.log_scale.grad.abs() > 0)
    assert trained == {"none": False, "fixed": False, "learned": True}


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_scale_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match=f"scale_value is {value}; a scale is above 0"):
        AttentionSpec(scale_value=value)


@pytest.mark.parametrize("kernel", KERNELS)
def test_autocast_keeps_the_scores_in_32_bits(kernel: str) -> None:
    """bf16 has 8 bits: a squared distance of 500 would be off by 2, a probability by a factor of 7."""
    query_EQD, support_ESD, way_ES = (t * 5 if t.is_floating_point() else t for t in episode())
    attention = Attention(AttentionSpec(kernel, "fixed", 10.0))  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        inside = attention(query_EQD, support_ESD, way_ES, 3)
    assert torch.equal(inside, attention(query_EQD, support_ESD, way_ES, 3))


# ---- attend ----

def test_attend_gives_probabilities_whatever_the_number_of_items_of_a_way() -> None:
    score_EQS = torch.tensor([[[0.3, -1.0, 2.0, 0.0]]])
    log_probs = attend(score_EQS, torch.tensor([[2, 0, 2, 2]]), num_ways=4)
    expected = slow_probabilities([0.3, -1.0, 2.0, 0.0], [2, 0, 2, 2], 4)
    torch.testing.assert_close(log_probs[0, 0].exp(), torch.tensor(expected))
    assert log_probs[0, 0, 1] == log_probs[0, 0, 3] == -math.inf  # ways without an item
    assert log_probs.exp().sum().item() == pytest.approx(1)


def test_each_episode_has_its_own_ways() -> None:
    score_EQS = torch.tensor([[[0.0, 5.0]], [[0.0, 5.0]]])
    log_probs = attend(score_EQS, torch.tensor([[0, 1], [1, 0]]), 2)
    assert log_probs.argmax(-1).tolist() == [[1], [0]]


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_a_way_far_behind_keeps_a_finite_log_probability(shift: float) -> None:
    """The log of a sum of probabilities would be -inf for it, and its gradient lost."""
    score_EQS = torch.tensor([[[0.0, -300.0, -300.0]]]) + shift
    score_EQS.requires_grad_()
    log_probs = attend(score_EQS, torch.tensor([[0, 1, 1]]), 2)
    assert log_probs[0, 0].tolist() == pytest.approx([0.0, -300 + math.log(2)], abs=1e-3)
    log_probs[0, 0, 1].backward()
    assert score_EQS.grad is not None
    assert score_EQS.grad[0, 0].tolist() == pytest.approx([-1.0, 0.5, 0.5], abs=1e-3)


def test_gradient_is_that_of_the_log_of_equation_1() -> None:
    generator = torch.Generator().manual_seed(1)
    score_EQS = torch.randn(2, 3, 6, generator=generator, requires_grad=True)
    way_ES = torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 1, 0, 0, 0]])
    weight_EQN = torch.randn(2, 3, 3, generator=generator)
    y_ESN = torch.nn.functional.one_hot(way_ES, 3).float()
    plain, = torch.autograd.grad(((score_EQS.softmax(-1) @ y_ESN).log() * weight_EQN).sum(), score_EQS)
    ours, = torch.autograd.grad((attend(score_EQS, way_ES, 3) * weight_EQN).sum(), score_EQS)
    torch.testing.assert_close(ours, plain)


def test_a_way_whose_items_are_all_taken_out_leaves_the_gradient_finite() -> None:
    score_EQS = torch.tensor([[[0.0, 1.0, -math.inf]]], requires_grad=True)
    log_probs = attend(score_EQS, torch.tensor([[0, 1, 2]]), 3)
    assert log_probs[0, 0, 2] == -math.inf
    gradient, = torch.autograd.grad(log_probs[0, 0, 0], score_EQS)
    probability = 1 / (1 + math.e)
    assert gradient[0, 0].tolist() == pytest.approx([1 - probability, probability - 1, 0.0])


@pytest.mark.parametrize("way", [-1, 3])
def test_a_way_out_of_range_is_named_with_its_episode(way: int) -> None:
    with pytest.raises(ValueError, match=f"way {way} in episode 1; ways are 0 to 2"):
        attend(torch.zeros(2, 1, 3), torch.tensor([[0, 1, 2], [0, way, 1]]), num_ways=3)


# ---- "Thus (1) subsumes both KDE and kNN methods."  (section 2.1) ----

@pytest.mark.parametrize("num_nearest", [1, 3, 5])
def test_k_nearest_neighbours_are_a_special_case(num_nearest: int) -> None:
    """Attention "zero for the b furthest" and "an appropriate constant otherwise": the nearest vote."""
    query_EQD, support_ESD, way_ES = episode(E=4, Q=5, S=9)
    nearness_EQS = similarity("euclidean", query_EQD, support_ESD)
    nearest = nearness_EQS.topk(num_nearest, dim=-1).indices
    score_EQS = torch.full_like(nearness_EQS, -math.inf).scatter(-1, nearest, 0.0)
    shares_EQN = attend(score_EQS, way_ES, 3).exp()
    for e in range(4):
        for q in range(5):
            distance = [math.dist(query_EQD[e, q].tolist(), x_i) for x_i in support_ESD[e].tolist()]
            neighbours = sorted(range(9), key=distance.__getitem__)[:num_nearest]
            votes = [sum(way_ES[e, i].item() == way for i in neighbours) for way in range(3)]
            assert shares_EQN[e, q].mul(num_nearest).tolist() == pytest.approx(votes, abs=1e-5)


def test_a_kernel_density_estimate_is_a_special_case() -> None:
    """A Gaussian kernel gives Bayes' posterior of one Parzen density by class, with priors n_y / |S|."""
    width = 0.8
    query_EQD, support_ESD, _ = episode(E=1, Q=4, S=7, D=2)
    ways = [0, 0, 0, 0, 1, 1, 2]  # unequal priors
    scores = similarity("euclidean", query_EQD, support_ESD) / (2 * width**2)
    posterior_QN = attend(scores, torch.tensor([ways]), 3)[0].exp()
    for x, posterior in zip(query_EQD[0].tolist(), posterior_QN.tolist(), strict=True):
        joint = []
        for way in range(3):
            items = [x_i for x_i, w in zip(support_ESD[0].tolist(), ways, strict=True) if w == way]
            gauss = [math.exp(-math.dist(x, x_i) ** 2 / (2 * width**2)) for x_i in items]
            density = sum(gauss) / len(gauss) / (2 * math.pi * width**2)
            joint.append(len(items) / len(ways) * density)
        assert posterior == pytest.approx([value / sum(joint) for value in joint], rel=1e-4)
