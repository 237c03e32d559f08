"""Training and attention in chunks against the plain path, which holds everything: losses, gradients, statistics."""

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import DATA, SPEC, fresh_network, run, states_of
from torch import Tensor, nn

import matchnet.running_attention
from matchnet.attention import Attention, AttentionSpec, attend, similarity
from matchnet.chunks import ChunkSpec, embed_in_chunks
from matchnet.context import FullContextSpec, read
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodic_training import EpisodicTask
from matchnet.methods import Batch, Method, build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.siamese import SiameseSpec
from matchnet.running_attention import Support, log_probs_in_chunks, own_way_in_chunks

SHAPE = (1, 8, 8)
SMALL = Conv4Spec(num_filters=6, num_blocks=3)
SPECS = {"plain": MatchingNetworkSpec(encoder=SMALL), "untied": MatchingNetworkSpec(encoder=SMALL, tied=False),
         "fce": MatchingNetworkSpec(encoder=SMALL, fce=FullContextSpec(3)),
         "linear": MatchingNetworkSpec(encoder=SMALL, embedding_size=6, fce=FullContextSpec(3)),
         "siamese": SiameseSpec(encoder=SMALL),
         "euclidean": MatchingNetworkSpec(encoder=SMALL, attention=AttentionSpec("euclidean", "fixed", 0.1))}
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-11}  # relative to the largest number of a tensor


def episodes(dtype: torch.dtype, E: int = 2, N: int = 7, k: int = 3, q: int = 2) -> Batch:
    """Random episodes whose ways come in random order; images of a way are alike."""
    generator = torch.Generator().manual_seed(0)
    prototype_EN = torch.rand(E, N, *SHAPE, generator=generator)
    support_way_ES = torch.stack([torch.randperm(N * k, generator=generator) % N for _ in range(E)])
    query_way_EQ = torch.arange(N).repeat_interleave(q).expand(E, -1)
    images = []
    for way_EB in (support_way_ES, query_way_EQ):
        of_way = torch.stack([prototype_N[way_B] for prototype_N, way_B in zip(prototype_EN, way_EB, strict=True)])
        images.append((0.5 * of_way + 0.5 * torch.rand(of_way.shape, generator=generator)).to(dtype))
    return Batch(images[0], support_way_ES, images[1], query_way_EQ, torch.arange(N).expand(E, N))


def step(method: Method, batch: Batch) -> dict[str, Tensor]:
    """What a training step makes: loss, accuracy, gradients, and what batch normalisation remembers."""
    method.train().zero_grad()
    result = method(batch)
    result["loss"].backward()
    found = {"loss": result["loss"].detach(), "accuracy": result["accuracy"].detach()}
    found |= {name: weight.grad for name, weight in method.named_parameters() if weight.grad is not None}
    return found | dict(method.named_buffers())


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name].double() - value.double()).abs().max() / value.double().abs().max().clamp(min=1e-3))
               for name, value in expected.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECS)
def test_a_step_in_chunks_is_the_plain_step(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    method = build_method(SPECS[name], SHAPE, num_classes=5).to(dtype)
    batch = episodes(dtype)
    expected = step(copy.deepcopy(method), batch)
    assert 0 < expected["accuracy"] < 1 and len(expected) > 15
    for size in (9, 1000):
        found = step(copy.deepcopy(method), replace(batch, chunk=ChunkSpec(size)))
        assert largest_difference(found, expected) < TOLERANCE[dtype], size


class BytesNetwork(nn.Module):
    """A normalisation that depends on one before it, and a dropout after."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4),
                                    nn.BatchNorm1d(4, momentum=None, affine=False), nn.Dropout(dropout))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.layers(image_BCHW)


def test_statistics_of_each_chunk_are_those_of_embedding_each_by_itself() -> None:
    torch.manual_seed(0)
    network, images = BytesNetwork(dropout=0.5), torch.rand(10, *SHAPE)
    twin = copy.deepcopy(network)
    torch.manual_seed(1)
    [found] = embed_in_chunks(network, network, [images], ChunkSpec(4, "chunk"))
    found.square().sum().backward()
    torch.manual_seed(1)
    expected = torch.cat([twin(chunk) for chunk in images.split([4, 3, 3])])
    expected.square().sum().backward()
    assert torch.equal(found, expected) and bool((found == 0).any())
    for (name, weight), of_twin in zip(network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, of_twin.grad, msg=name)
    for (name, value), of_twin in zip(network.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(value, of_twin), name  # the second pass has not moved them again
    assert network.layers[2].num_batches_tracked == 3
    assert network.layers[2].track_running_stats


def test_statistics_of_the_set_are_those_of_one_pass_whatever_the_momentum() -> None:
    torch.manual_seed(0)
    network, sets = BytesNetwork(dropout=0.0).double(), [torch.rand(n, *SHAPE).double() for n in (10, 7)]
    twin = copy.deepcopy(network)
    for _ in range(2):
        parts = embed_in_chunks(network, network, sets, ChunkSpec(3))
        expected = twin(torch.cat(sets))
    assert [len(part) for part in parts] == [10, 7]
    torch.testing.assert_close(torch.cat(parts), expected)
    for (name, value), of_twin in zip(network.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(value, of_twin, msg=name)


def test_a_normalisation_that_uses_its_running_statistics_needs_one_pass_and_leaves_them() -> None:
    torch.manual_seed(0)
    network, images = BytesNetwork(dropout=0.0).eval(), torch.rand(10, *SHAPE)
    before = copy.deepcopy(network.state_dict())
    calls: list[int] = []
    network.layers[0].register_forward_hook(lambda *_: calls.append(1))
    [found] = embed_in_chunks(network, network, [images], ChunkSpec(4))
    assert len(calls) == 3
    torch.testing.assert_close(found, network(images))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_activations_of_one_chunk_are_alive_at_a_time() -> None:
    """What autograd saves while the chunks are embedded is the chunks themselves and the statistics."""
    network, images = BytesNetwork(dropout=0.0), torch.rand(400, *SHAPE)
    saved: list[Tensor] = []

    def save(value: Tensor) -> Tensor:
        saved.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(save, lambda value: value):
        embed_in_chunks(network, network, [images], ChunkSpec(40))
    own = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in saved}
    own.pop(images.untyped_storage().data_ptr(), None)
    assert sum(own.values()) < 20_000  # 400 x 6 floats of one layer would be 9,600; one of 64 numbers 102,400


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_a_chunk_has_two_samples_or_more(size: int) -> None:
    with pytest.raises(ValueError, match=f"size is {size}; a chunk has at least 2 samples"):
        ChunkSpec(size)


# ---- attention ----

def uneven(E: int = 2, Q: int = 5, S: int = 23, N: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Ways have from 0 to 11 items, in any order; way 3 has none."""
    generator = torch.Generator().manual_seed(0)
    way_S = torch.tensor([0] * 11 + [1] * 1 + [2] * 4 + [4] * 5 + [5] * 2)
    way_ES = torch.stack([way_S[torch.randperm(S, generator=generator)] for _ in range(E)])
    return torch.randn(E, Q, 4, generator=generator), torch.randn(E, S, 4, generator=generator), way_ES


def score(query_EQD: Tensor, support_ESD: Tensor, scale: Tensor) -> Tensor:
    return similarity("cosine", query_EQD, support_ESD) * scale


@pytest.mark.parametrize("size", [1, 4, 23, 99])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_log_probabilities_in_chunks_are_those_of_all_scores(size: int, scale: float) -> None:
    query_EQD, support_ESD, way_ES = uneven()
    expected = attend(score(query_EQD, support_ESD, torch.tensor(scale)), way_ES, 6)
    assert bool((expected[..., 3] == -torch.inf).all()) and bool(expected[..., 4].isfinite().all())
    found = log_probs_in_chunks(score, query_EQD, Support(support_ESD, way_ES, 6), torch.tensor(scale), size)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_own_way_in_chunks_has_the_loss_and_the_gradients_of_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matchnet.running_attention, "MOST_LOG_SUMS", 13)  # two queries at a time
    query_EQD, support_ESD, way_ES = (value.double() if value.is_floating_point() else value for value in uneven())
    query_way_EQ = torch.tensor([[0, 1, 2, 4, 5], [5, 0, 0, 2, 1]])
    weight_EQ = torch.rand(2, 5).double()  # each query's loss has a gradient of its own

    def gradients(loss_of: Any) -> list[Tensor]:
        given = [query_EQD.clone().requires_grad_(), support_ESD.clone().requires_grad_(),
                 torch.tensor(7.0).double().requires_grad_()]
        loss_EQ, right_EQ = loss_of(*given)
        return [loss_EQ.detach(), right_EQ, *torch.autograd.grad((loss_EQ * weight_EQ).sum(), given)]

    def plain(query: Tensor, support: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = attend(score(query, support, scale), way_ES, 6)
        return -log_probs.gather(2, query_way_EQ.unsqueeze(2)).squeeze(2), log_probs.argmax(-1) == query_way_EQ

    expected = gradients(plain)
    assert 0 < expected[1].double().mean() < 1
    for size in (1, 3, 50):
        found = gradients(lambda query, support, scale, size=size: own_way_in_chunks(
            score, query, Support(support, way_ES, 6), scale, query_way_EQ, size))
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fce", [None, FullContextSpec(2)])
def test_a_test_with_too_many_scores_is_in_chunks_and_the_same(fce: FullContextSpec | None,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    batch, method = episodes(torch.float32), build_method(MatchingNetworkSpec(encoder=SMALL, fce=fce), SHAPE, 5).eval()
    siamese = build_method(SiameseSpec(encoder=SMALL), SHAPE, 5).eval()
    found = []
    with torch.inference_mode():
        for most in (2**24, 10):
            for module in (matchnet.running_attention, matchnet.attention):
                monkeypatch.setattr(module, "MOST_SCORES", most)
            for one in (method, siamese):
                found.append(one.classify(*_features(one, batch), batch.num_ways))
    for all_at_once, in_chunks in zip(found[:2], found[2:], strict=True):
        assert not torch.equal(all_at_once, in_chunks)  # it did take the other way
        torch.testing.assert_close(in_chunks, all_at_once, rtol=1e-5, atol=1e-5)


def _features(method: Method, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    support_ES, query_EQ = method.embed_batch(batch)
    return support_ES, batch.support_way_ES, query_EQ


def test_reading_in_chunks_is_equations_5_and_6() -> None:
    query_EQD, support_ESD, _ = uneven()
    torch.testing.assert_close(read(query_EQD, support_ESD, in_chunks=True), read(query_EQD, support_ESD))


@pytest.mark.parametrize("count", [1, 4, 23, 50])
def test_attention_to_the_nearest_items_leaves_all_others_out(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matchnet.running_attention, "MOST_SCORES", 4 * 2 * 5 * 6)  # six items at a time, or `count`
    query_EQD, support_ESD, way_ES = uneven()
    attention = Attention(AttentionSpec("cosine", "fixed", 7.0)).eval()
    scores = score(query_EQD, support_ESD, torch.tensor(7.0))
    least_EQ1 = scores.sort(-1, descending=True).values[..., min(count, 23) - 1, None]
    expected = attend(scores.masked_fill(scores < least_EQ1, -torch.inf), way_ES, 6)
    attention.nearest = count
    torch.testing.assert_close(attention(query_EQD, support_ESD, way_ES, 6), expected)
    torch.testing.assert_close(attention.train()(query_EQD, support_ESD, way_ES, 6), attend(scores, way_ES, 6))


# ---- training ----

def test_training_in_chunks_ends_where_plain_training_ends_and_resumes_bit_for_bit() -> None:
    for affine in (None, SPEC.affine):  # bytes reach the encoder, or distorted numbers
        spec = replace(SPEC, affine=affine)
        plain, chunked, again = (fresh_network() for _ in range(3))
        run(plain, spec)
        states = states_of(chunked, replace(spec, chunk=ChunkSpec(4)))
        for (name, weight), other in zip(plain.named_parameters(), chunked.parameters(), strict=True):
            torch.testing.assert_close(weight, other, rtol=2e-3, atol=2e-4, msg=name)
        state = torch.load(io.BytesIO(states[8]), weights_only=True)
        run(again, replace(spec, chunk=ChunkSpec(4)), state=state)
        assert all(torch.equal(weight, other)
                   for weight, other in zip(chunked.parameters(), again.parameters(), strict=True))


def test_without_chunks_a_batch_is_as_ever() -> None:
    batch, _ = EpisodicTask(DATA, SPEC).batch(0, 0, 1, "cpu")
    assert batch.chunk is None and batch.support_ES.dtype == torch.float32


def test_a_step_in_chunks_in_bf16_is_the_plain_step_to_its_rounding() -> None:
    torch.manual_seed(0)
    method, batch, losses = build_method(SPECS["fce"], SHAPE, num_classes=5), episodes(torch.float32), []
    for chunk in (None, ChunkSpec(9)):
        one = copy.deepcopy(method).train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = one(replace(batch, chunk=chunk))["loss"]
        loss.backward()
        assert all(weight.grad.isfinite().all() for weight in one.parameters() if weight.grad is not None)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
