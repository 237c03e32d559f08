"""The method as a whole: equation 2 by hand, and what must not change its answer."""

import math

import pytest
import torch
from torch import Tensor

from matchnet.attention import AttentionSpec
from matchnet.context import FullContextSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods import MatchingNetwork, build_method
from matchnet.methods.base import Batch, accuracy, episode_loss
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec

SHAPE = (1, 8, 8)
SMALL = Conv4Spec(num_filters=4, num_blocks=2)
VARIANTS = [MatchingNetworkSpec(encoder=SMALL),
            MatchingNetworkSpec(encoder=SMALL, tied=False),
            MatchingNetworkSpec(encoder=SMALL, fce=FullContextSpec(2)),
            MatchingNetworkSpec(encoder=SMALL, tied=False, fce=FullContextSpec(2)),
            MatchingNetworkSpec(encoder=SMALL, embedding_size=5, fce=FullContextSpec(2))]


def small_network(spec: MatchingNetworkSpec) -> MatchingNetwork:
    torch.manual_seed(0)
    method = build_method(spec, SHAPE, num_classes=0)
    assert isinstance(method, MatchingNetwork)
    return method


def random_batch(E: int = 2, N: int = 3, num_shots: int = 2, num_queries: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(1)
    way_ES = torch.stack([torch.randperm(N * num_shots, generator=generator) % N for _ in range(E)])
    return Batch(support_ES=torch.rand(E, N * num_shots, *SHAPE, generator=generator), support_way_ES=way_ES,
                 query_EQ=torch.rand(E, N * num_queries, *SHAPE, generator=generator),
                 query_way_EQ=torch.arange(N).repeat_interleave(num_queries).expand(E, -1),
                 class_EN=torch.arange(N).expand(E, N))


def log_probs(method: MatchingNetwork, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor) -> Tensor:
    E = len(support_ES)
    support, query = (method.embed(x.flatten(0, 1)).unflatten(0, (E, -1)) for x in (support_ES, query_EQ))
    return method.classify(support, way_ES, query, 3)


@torch.no_grad()
def test_a_linear_map_comes_before_context_and_attention() -> None:
    method = small_network(MatchingNetworkSpec(encoder=SMALL, embedding_size=5, fce=FullContextSpec(2))).eval()
    support_ES, query_EQ = method.embed_batch(batch := random_batch())
    assert method.linear is not None and method.context is not None
    support, query = (x[..., 0, :] @ method.linear.weight.T + method.linear.bias for x in (support_ES, query_EQ))
    expected = method.attention(*method.context(query, support), batch.support_way_ES, 3)
    torch.testing.assert_close(method.classify(support_ES, batch.support_way_ES, query_EQ, 3), expected)
    with pytest.raises(ValueError, match="embedding_size is 0; it must be at least 1, or null"):
        MatchingNetworkSpec(embedding_size=0)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_loss_is_the_mean_of_equation_2(tied: bool) -> None:
    """- log sum over the items of the right class of a(f(x^), g(x_i)), one query and one item at a time."""
    plain_cosine = AttentionSpec(scale="none")
    method = small_network(MatchingNetworkSpec(encoder=SMALL, tied=tied, attention=plain_cosine)).eval()
    batch = random_batch()
    f = method.encoder_f
    g = f if tied else method.encoder_g
    assert g is not None
    losses, right = [], []
    for e in range(2):
        support = [g(x[None])[0] for x in batch.support_ES[e]]
        for x, way in zip(batch.query_EQ[e], batch.query_way_EQ[e].tolist(), strict=True):
            query = f(x[None])[0]
            a = [math.exp(float(query @ g_i / (query.norm() * g_i.norm()))) for g_i in support]
            ways = batch.support_way_ES[e].tolist()
            p = [sum(a_i for a_i, w in zip(a, ways, strict=True) if w == n) / sum(a) for n in range(3)]
            losses.append(-math.log(p[way]))
            right.append(p.index(max(p)) == way)
    result = method(batch)
    assert result["loss"].item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert result["accuracy"].item() == pytest.approx(sum(right) / len(right))
    assert result["loss"].shape == result["accuracy"].shape == ()


@torch.no_grad()
def test_untied_encoders_are_each_on_their_own_side() -> None:
    method = small_network(MatchingNetworkSpec(encoder=SMALL, tied=False)).eval()
    batch = random_batch()
    before = log_probs(method, batch.support_ES, batch.support_way_ES, batch.query_EQ)
    assert method.encoder_g is not None
    for parameter in method.encoder_g.parameters():
        parameter.zero_()  # g' = 0: every item is as near as the next, whatever f' says
    after = log_probs(method, batch.support_ES, batch.support_way_ES, batch.query_EQ)
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after.exp(), torch.full_like(after, 1 / 3))


@pytest.mark.parametrize("spec", VARIANTS)
@torch.no_grad()
def test_names_of_ways_do_not_matter(spec: MatchingNetworkSpec) -> None:
    method, batch = small_network(spec).eval(), random_batch()
    new_name = torch.tensor([2, 0, 1])
    before = log_probs(method, batch.support_ES, batch.support_way_ES, batch.query_EQ)
    after = log_probs(method, batch.support_ES, new_name[batch.support_way_ES], batch.query_EQ)
    torch.testing.assert_close(after[..., new_name], before)


@pytest.mark.parametrize("spec", VARIANTS)
@torch.no_grad()
def test_order_of_the_support_matters_to_fce_alone(spec: MatchingNetworkSpec) -> None:
    method, batch = small_network(spec).eval(), random_batch()
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    before = log_probs(method, batch.support_ES, batch.support_way_ES, batch.query_EQ)
    after = log_probs(method, batch.support_ES[:, order], batch.support_way_ES[:, order], batch.query_EQ)
    assert torch.allclose(after, before, atol=1e-5) == (spec.fce is None)


@pytest.mark.parametrize("spec", VARIANTS)
@torch.no_grad()
def test_episodes_and_queries_do_not_see_one_another(spec: MatchingNetworkSpec) -> None:
    method, batch = small_network(spec).eval(), random_batch()
    together = log_probs(method, batch.support_ES, batch.support_way_ES, batch.query_EQ)
    alone = log_probs(method, batch.support_ES[1:], batch.support_way_ES[1:], batch.query_EQ[1:, 3:4])
    torch.testing.assert_close(together[1:, 3:4], alone)


@pytest.mark.parametrize("spec", VARIANTS)
def test_gradient_reaches_every_weight(spec: MatchingNetworkSpec) -> None:
    method = small_network(spec)
    method(random_batch())["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("spec", VARIANTS)
def test_forward_in_bf16_is_finite_and_near_that_in_fp32(spec: MatchingNetworkSpec) -> None:
    batch = random_batch()
    full = small_network(spec)(batch)["loss"]
    method = small_network(spec)
    with torch.autocast("cpu", torch.bfloat16):
        half = method(batch)["loss"]
    half.backward()
    assert half.dtype == torch.float32 and half.item() == pytest.approx(full.item(), rel=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@torch.no_grad()
def test_pixels_point_at_the_nearest_image() -> None:
    batch = random_batch(num_shots=1)
    method = build_method(PixelsSpec(), SHAPE, num_classes=0)
    support, query = (method.embed(samples.flatten(0, 1)).unflatten(0, (2, -1))
                      for samples in (batch.support_ES, batch.query_EQ))
    predicted = method.classify(support, batch.support_way_ES, query, 3).argmax(-1)
    for e in range(2):
        for q, image in enumerate(batch.query_EQ[e]):
            cosines = [float(torch.cosine_similarity(image.flatten(), x.flatten(), dim=0))
                       for x in batch.support_ES[e]]
            assert predicted[e, q] == batch.support_way_ES[e, cosines.index(max(cosines))]
    assert not [p for p in method.parameters() if p.requires_grad]


def test_accuracy_is_by_episode_and_loss_in_nats() -> None:
    log_probs_EQN = torch.tensor([[[0.7, 0.3], [0.4, 0.6]], [[0.9, 0.1], [0.8, 0.2]]]).log()
    way_EQ = torch.tensor([[0, 1], [1, 0]])
    assert accuracy(log_probs_EQN, way_EQ).tolist() == [1.0, 0.5]
    result = episode_loss(log_probs_EQN, way_EQ)
    assert result["loss"].item() == pytest.approx(-math.log(0.7 * 0.6 * 0.1 * 0.8) / 4)
    assert result["accuracy"].item() == 0.75
