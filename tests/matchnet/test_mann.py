"""MANN: addressing by hand and against a slow loop, labels one step late, what it solves and cannot."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_problem import CHANCE, SHAPE, accuracy_on_test_classes, log_probs, patterns, random_episodes, train_on
from torch import Tensor

from matchnet.episodes import EpisodeSpec
from matchnet.methods import Batch, Mann, build_method
from matchnet.methods.mann import LeastRecentlyUsedMemory, MannSpec, MemoryState

TINY = MannSpec(num_ways=3, image_size=4, num_cells=48, num_heads=2, num_slots=16, slot_size=16)


def small(spec: MannSpec = TINY) -> Mann:
    torch.manual_seed(0)
    method = build_method(spec, SHAPE, num_classes=0)
    assert isinstance(method, Mann)
    return method


@pytest.mark.parametrize("read_first", [False, True])
@torch.no_grad()
def test_two_steps_of_addressing_by_hand(read_first: bool) -> None:
    """One head, two slots of two numbers, strength 1, gamma 0.5.

    Step 1: key (1, 0), gate 0: all of it goes to the least used slot, 0, that is M = [(1, 0), (0, 0)].
        Printed order: cosines (1, 0), so w^r = (e, 1) / (e + 1). Reading first, memory is empty: (1/2, 1/2).
        Usage is w^r + w^w, w^w = (1, 0): slot 1 is now the least used.
    Step 2: key (0, 2), gate 1/4: slot 1 is set to zero, w^w = 1/4 w^r + 3/4 (0, 1), and M += w^w k.
    """
    spec = MannSpec(num_heads=1, num_slots=2, slot_size=2, usage_decay=0.5, key_strength=1.0,
                    read_first=read_first)
    memory = LeastRecentlyUsedMemory(spec)
    _, state = memory(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.0]]), memory.start(torch.zeros(1)))
    r0 = 0.5 if read_first else math.e / (math.e + 1)
    torch.testing.assert_close(state.memory_EML, torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    torch.testing.assert_close(state.read_weight_EHM, torch.tensor([[[r0, 1 - r0]]]))
    torch.testing.assert_close(state.usage_EM, torch.tensor([[r0 + 1, 1 - r0]]))

    _, after = memory(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[0.25]]), state)
    w0, w1 = r0 / 4, (1 - r0) / 4 + 0.75
    torch.testing.assert_close(after.memory_EML, torch.tensor([[[1.0, 2 * w0], [0.0, 2 * w1]]]))
    q0, q1 = after.read_weight_EHM[0, 0].tolist()
    usage = [(r0 + 1) / 2 + w0 + q0, (1 - r0) / 2 + w1 + q1]
    torch.testing.assert_close(after.usage_EM, torch.tensor([usage]))
    if not read_first:  # cosine of (0, 1) with (1, 2 w0), and 1
        cosine = 2 * w0 / math.hypot(1, 2 * w0)
        assert q0 == pytest.approx(1 / (1 + math.exp(1 - cosine)))


def slow_access(
        keys: Tensor, gates: Tensor, state: MemoryState, spec: MannSpec) -> tuple[Tensor, MemoryState]:
    """One sequence, one head, one slot at a time: keys (H, L), gates (H,), a state without its first axis."""
    H, M = spec.num_heads, spec.num_slots
    least = sorted(range(M), key=lambda i: state.usage_EM[i].item())[:H]
    written = state.memory_EML.clone()
    for slot in least:
        written[slot] = 0
    write = torch.zeros(H, M)
    for h in range(H):
        for i in range(M):
            write[h, i] = gates[h] * state.read_weight_EHM[h, i] + (1 - gates[h]) * float(i == least[h])
            written[i] += write[h, i] * keys[h]
    memory = state.memory_EML if spec.read_first else written
    weight = torch.stack([(torch.stack([torch.cosine_similarity(keys[h], memory[i], dim=0) for i in range(M)])
                           * spec.key_strength).softmax(0) for h in range(H)])
    read = torch.stack([torch.stack([weight[h, i] * memory[i] for i in range(M)]).sum(0) for h in range(H)])
    usage = spec.usage_decay * state.usage_EM + weight.sum(0) + write.sum(0)
    return read, MemoryState(written, weight, usage)


@pytest.mark.parametrize("read_first", [False, True])
@torch.no_grad()
def test_addressing_equals_a_slow_loop(read_first: bool) -> None:
    spec = MannSpec(num_heads=2, num_slots=5, slot_size=3, key_strength=2.0, read_first=read_first)
    memory = LeastRecentlyUsedMemory(spec)
    generator = torch.Generator().manual_seed(0)
    usage_EM = torch.rand(2, 5, generator=generator)  # no ties: their order would hang on rounding
    state = memory.start(torch.zeros(2))._replace(usage_EM=usage_EM)
    for _ in range(8):  # more writes than slots
        key_EHL = torch.randn(2, 2, 3, generator=generator)
        gate_EH = torch.rand(2, 2, generator=generator)
        slow = [slow_access(key_EHL[e], gate_EH[e], MemoryState(*(tensor[e] for tensor in state)), spec)
                for e in range(2)]
        read_EHL, state = memory(key_EHL, gate_EH, state)
        torch.testing.assert_close(read_EHL, torch.stack([read for read, _ in slow]), atol=1e-5, rtol=1e-4)
        for found, *expected in zip(state, *(after for _, after in slow), strict=True):
            torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_labels_come_one_step_late() -> None:
    """A prediction along the sequence knows the labels before it, not its own nor later ones."""
    method = small()
    support_ES, way_ES, _ = random_episodes(E=1, N=3, k=2, Q=1)
    feature_ES = method.embed(support_ES.flatten(0, 1))[None]
    logits_ETN, _ = method.present(feature_ES, way_ES)
    changed_ES = way_ES.clone()
    changed_ES[0, 3] = (way_ES[0, 3] + 1) % 3
    changed_ETN, _ = method.present(feature_ES, changed_ES)
    same_T = (logits_ETN == changed_ETN).all(-1)[0].tolist()
    assert same_T == [True, True, True, True, False, False]


@torch.no_grad()
def test_a_query_is_the_next_presentation_and_sees_no_other_query() -> None:
    method = small()
    support_ES, way_ES, query_EQ = random_episodes(E=2, N=3, k=2, Q=4)
    together = log_probs(method, support_ES, way_ES, query_EQ, 3)
    torch.testing.assert_close(together.exp().sum(-1), torch.ones(2, 4))
    sequence = torch.cat([support_ES, query_EQ[:, 2:3]], dim=1)
    ways = torch.cat([way_ES, torch.zeros(2, 1, dtype=torch.int64)], dim=1)
    logits_ETN, _ = method.present(method.embed(sequence.flatten(0, 1)).unflatten(0, (2, -1)), ways)
    torch.testing.assert_close(together[:, 2], logits_ETN[:, -1].log_softmax(-1))


def test_gradients_flow_into_every_weight_and_through_the_memory() -> None:
    method = small()
    support_ES, way_ES, query_EQ = random_episodes(E=2, N=3, k=2, Q=3)
    batch = Batch(support_ES, way_ES, query_EQ, torch.arange(3).expand(2, 3), torch.arange(3).expand(2, 3))
    method(batch)["loss"].backward()
    for name, weight in method.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


@torch.no_grad()
def test_autocast_keeps_the_memory_in_32_bits() -> None:
    method = small()
    support_ES, way_ES, query_EQ = random_episodes(E=2, N=3, k=2, Q=3)
    feature_ET, feature_EQ = (method.embed(t.flatten(0, 1)).unflatten(0, (2, -1)) for t in (support_ES, query_EQ))
    with torch.autocast("cpu", torch.bfloat16):
        inside = method.ask(feature_EQ, method.present(feature_ET, way_ES)[1])
    assert torch.equal(inside, method.ask(feature_EQ, method.present(feature_ET, way_ES)[1]))


def test_solves_patterns_of_unseen_classes() -> None:
    easy = patterns(0.2)
    method = train_on(easy, small(), EpisodeSpec(3, 2, 1), steps=350, episodes_per_step=16)
    one_shot, _ = accuracy_on_test_classes(method, easy, EpisodeSpec(3, 1, 3))
    assert one_shot > 0.6  # chance is 0.33


def test_is_at_chance_when_samples_know_nothing_of_their_class() -> None:
    method = train_on(CHANCE, small(), EpisodeSpec(3, 2, 1), steps=30, episodes_per_step=4)
    mean, ci95 = accuracy_on_test_classes(method, CHANCE, EpisodeSpec(3, 1, 3), episodes=1000)
    assert abs(mean - 1 / 3) < 2 * ci95


def test_refuses_tasks_of_other_ways() -> None:
    support_ES, way_ES, query_EQ = random_episodes(E=1, N=5, k=1, Q=5)
    with pytest.raises(ValueError, match="a task of 5 ways for a MANN of 3: its labels are one-hot"):
        log_probs(small(), support_ES, way_ES, query_EQ, 5)


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_slots": 1}, "num_slots is 1 with 2 heads"),
    ({"usage_decay": 1.0}, "usage_decay is 1.0; it must be at least 0 and below 1"),
    ({"key_strength": 0.0}, "key_strength is 0.0; it must be above 0"),
    ({"num_ways": 1}, "num_ways is 1; it must be at least 2"),
    ({"slot_size": 0}, "slot_size is 0; it must be at least 1"),
])
def test_spec_says_what_is_wrong(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
