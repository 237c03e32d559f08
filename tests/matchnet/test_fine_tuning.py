"""Fine-tuning: what it changes, what it must leave alone, and that an episode's result is its own."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_problem import (
    CHANCE,
    CLASS_R,
    EASY,
    SHAPE,
    SMALL,
    TEST_CLASSES,
    TRAIN_CLASSES,
    accuracy_on_test_classes,
    log_probs,
    random_episodes,
    train_on,
)
from torch import Tensor

from matchnet.context import FullContextSpec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.evaluation import EpisodeStream, evaluate
from matchnet.methods import FineTuned, FineTuningSpec, Method, MethodSpec, build_method
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.fine_tuning import as_drawn, distort_alike, im2col, shot_by_shot, tied_encoder
from matchnet.methods.mann import MannSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.methods.siamese import SiameseSpec

EPISODE = FineTuningSpec(steps=2, frozen_blocks=1, num_copies=2)
SOFTMAX = replace(EPISODE, loss="softmax")
METHODS = [ClassifierSpec(encoder=SMALL), SiameseSpec(encoder=SMALL), MatchingNetworkSpec(encoder=SMALL),
           MatchingNetworkSpec(encoder=SMALL, fce=FullContextSpec(num_steps=2)),
           ClassifierSpec(encoder=replace(SMALL, last_relu=False), head="cosine"),
           MatchingNetworkSpec(encoder=SMALL, embedding_size=5, fce=FullContextSpec(2))]
CASES = [(method, EPISODE) for method in METHODS] + [(METHODS[0], SOFTMAX)]
IDS = ["classifier", "siamese", "matching_network", "fce", "no last ReLU", "linear map", "softmax"]
NOTHING = 1e-30  # a learning rate


COLOUR = (3, 10, 14)  # oblong, more than one pixel after the blocks, an odd side among them


def small(spec: MethodSpec, shape: tuple[int, ...] = SHAPE) -> Method:
    """Fresh weights, and running statistics that differ from their initial ones."""
    torch.manual_seed(0)
    method = build_method(spec, shape, len(TRAIN_CLASSES))
    method.embed(torch.rand(64, *shape))
    return method.eval()


@pytest.mark.parametrize("spec", METHODS, ids=IDS[:6])
@pytest.mark.parametrize("frozen_blocks", [0, 1])
@torch.no_grad()
def test_without_a_step_it_is_the_method_itself(spec: MethodSpec, frozen_blocks: int) -> None:
    method = small(spec)
    tuned = FineTuned(method, replace(EPISODE, learning_rate=NOTHING, frozen_blocks=frozen_blocks))
    episodes = random_episodes(E=3, N=4, k=2, Q=6)
    expected = log_probs(method, *episodes, 4)
    torch.testing.assert_close(log_probs(tuned, *episodes, 4), expected, atol=1e-5, rtol=1e-5)


def tuned_by_the_book(method: Method, adaptation: FineTuningSpec, support_S: Tensor, way_S: Tensor,
                      query_Q: Tensor, num_ways: int) -> tuple[Tensor, Tensor]:
    """log_probs_QN of one episode, and the first convolution tuned for it: a copy of the whole method, its blocks
    trained by autograd on images, with nothing shared or precomputed."""
    method = copy.deepcopy(method)
    blocks = tied_encoder(method).blocks[adaptation.frozen_blocks:]
    weights = list(blocks.parameters())
    shots_kN = [[(way_S == way).nonzero().flatten().tolist()[shot] for way in range(num_ways)]
                for shot in range(len(support_S) // num_ways)]
    for _ in range(adaptation.steps):
        losses = []
        for shot, item_N in enumerate(shots_kN):
            copies = [distort_alike(support_S[item_N], adaptation, number) for number in range(adaptation.num_copies)]
            others = [item for other, items in enumerate(shots_kN) if other != shot for item in items]
            if others:  # the shot itself and its copies, matched with the other shots
                images, matched = [support_S[item_N], *copies], others
            else:  # the copies, matched with the only shot
                images, matched = copies, item_N
            query_NcT = torch.stack(images, dim=1).flatten(0, 1)
            way_Q = torch.arange(num_ways).repeat_interleave(len(images))
            support, query = method.embed(support_S[matched]), method.embed(query_NcT)
            log_probs = method.classify(support[None], way_S[matched][None], query[None], num_ways)
            losses.append(torch.nn.functional.nll_loss(log_probs[0], way_Q))
        gradients = torch.autograd.grad(torch.stack(losses).mean(), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= adaptation.learning_rate * gradient
    with torch.no_grad():
        log_probs = method.classify(method.embed(support_S)[None], way_S[None], method.embed(query_Q)[None], num_ways)
    return log_probs[0], weights[0]


@pytest.mark.parametrize("spec", METHODS, ids=IDS[:6])
@pytest.mark.parametrize("k", [1, 3])
def test_each_episode_is_tuned_as_if_it_were_alone(spec: MethodSpec, k: int) -> None:
    """What tuning changes, against a copy of the method for every episode: to a hundredth of the largest change."""
    method = small(spec, COLOUR)
    adaptation = replace(EPISODE, learning_rate=0.1, steps=3)
    generator = torch.Generator().manual_seed(1)
    way_ES = torch.stack([torch.randperm(4 * k, generator=generator) % 4 for _ in range(3)])
    support_ES = torch.rand(3, 4 * k, *COLOUR, generator=generator)
    query_EQ = torch.rand(3, 6, *COLOUR, generator=generator)
    tuned = FineTuned(method, adaptation)
    with torch.no_grad():
        together_EQN = log_probs(tuned, support_ES, way_ES, query_EQ, 4)
        untuned_EQN = log_probs(method, support_ES, way_ES, query_EQ, 4)
    changed_EQN = together_EQN - untuned_EQN
    for e in range(3):
        alone_QN, weight = tuned_by_the_book(method, adaptation, support_ES[e], way_ES[e], query_EQ[e], 4)
        most = changed_EQN[e].abs().max().item()
        torch.testing.assert_close(changed_EQN[e], alone_QN - untuned_EQN[e], atol=0.01 * most, rtol=0)
        assert most > 1e-3 and (weight - tied_encoder(method).blocks[1][0].weight).abs().max() > 1e-4


def test_support_comes_back_in_the_order_it_was_drawn() -> None:
    way_ES = torch.tensor([[2, 0, 1, 1, 2, 0], [0, 0, 1, 2, 1, 2]])
    support_ES = torch.arange(24).view(2, 6, 2)
    assert torch.equal(as_drawn(shot_by_shot(support_ES, way_ES, 3), way_ES), support_ES)


@pytest.mark.parametrize(("spec", "adaptation"), CASES, ids=IDS)
@pytest.mark.parametrize("k", [1, 3])
def test_results_are_normalised_and_do_not_depend_on_the_batching(
        spec: MethodSpec, adaptation: FineTuningSpec, k: int) -> None:
    method = small(spec)
    tuned = FineTuned(method, replace(adaptation, learning_rate=0.01))
    support_ES, way_ES, query_EQ = random_episodes(E=5, N=4, k=k, Q=6)
    together = log_probs(tuned, support_ES, way_ES, query_EQ, 4)
    torch.testing.assert_close(together.exp().sum(-1), torch.ones(5, 6))
    still = FineTuned(method, replace(adaptation, learning_rate=NOTHING, head_learning_rate=NOTHING))
    untuned = log_probs(still, support_ES, way_ES, query_EQ, 4)
    assert (together - untuned).abs().max() > 2e-4  # it does something
    alone = torch.cat([log_probs(tuned, support_ES[e:e + 1], way_ES[e:e + 1], query_EQ[e:e + 1], 4)
                       for e in range(5)])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("spec", "adaptation"), CASES, ids=IDS)
def test_shared_weights_and_buffers_stay_bit_for_bit(spec: MethodSpec, adaptation: FineTuningSpec) -> None:
    method = small(spec)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    tuned = FineTuned(method, adaptation)
    tuned.train()  # even if a loop asks for it
    classes = ClassRows.from_class_ids(CLASS_R, TEST_CLASSES)
    evaluate(tuned, EASY, EpisodeStream(classes, EpisodeSpec(4, 2, 2), seed=0), 10)
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(weight.grad is None for weight in method.parameters())


@torch.no_grad()
def test_order_of_the_support_set_does_not_matter() -> None:
    tuned = FineTuned(small(METHODS[2]), EPISODE)
    support_ES, way_ES, query_EQ = random_episodes(E=1, N=4, k=1, Q=6)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(log_probs(tuned, support_ES[:, order], way_ES[:, order], query_EQ, 4),
                               log_probs(tuned, support_ES, way_ES, query_EQ, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("adaptation", [EPISODE, SOFTMAX], ids=["episode", "softmax"])
@pytest.mark.parametrize("k", [1, 2])
def test_steps_lower_the_loss_on_the_support_set(adaptation: FineTuningSpec, k: int) -> None:
    support_ES, way_ES, _ = random_episodes(E=3, N=4, k=k, Q=1)
    losses = []
    for steps in (1, 8):
        tuned = FineTuned(small(METHODS[0]), replace(adaptation, steps=steps, learning_rate=0.01))
        feature_ES = tuned.embed(support_ES.flatten(0, 1)).detach().unflatten(0, (3, -1))
        weights, feature_EkND = tuned.tune(shot_by_shot(feature_ES, way_ES, 4))
        losses.append(tuned.loss(feature_EkND, weights).item())
    assert losses[1] < losses[0] - 0.01


def test_keeps_what_the_method_solved() -> None:
    method = train_on(EASY, small(METHODS[0]), EpisodeSpec(32, 0, 1), steps=60)
    for adaptation in (EPISODE, SOFTMAX):
        tuned = FineTuned(method, adaptation)
        one_shot, _ = accuracy_on_test_classes(tuned, EASY, EpisodeSpec(5, 1, 5), episodes=100)
        assert one_shot > 0.9


@pytest.mark.parametrize(("spec", "adaptation"), CASES, ids=IDS)
def test_is_at_chance_when_samples_know_nothing_of_their_class(
        spec: MethodSpec, adaptation: FineTuningSpec) -> None:
    """S' alone is seen: if a query leaked into the tuning, this would be above chance."""
    tuned = FineTuned(small(spec), replace(adaptation, steps=5))
    mean, ci95 = accuracy_on_test_classes(tuned, CHANCE, EpisodeSpec(5, 2, 5))
    assert abs(mean - 0.2) < 2 * ci95


@torch.no_grad()
def test_im2col_sees_what_the_convolution_sees() -> None:
    """An odd size: the last row and column are dropped, as 2 x 2 pooling does."""
    image_ETCHW, weight = torch.rand(2, 3, 4, 7, 5), torch.rand(6, 4, 3, 3)
    output = im2col(image_ETCHW) @ weight.flatten(1).T
    expected = torch.nn.functional.max_pool2d(
        torch.nn.functional.conv2d(image_ETCHW.flatten(0, 1), weight, padding=1), 2).unflatten(0, (2, 3))
    torch.testing.assert_close(output.amax(4).permute(0, 1, 4, 2, 3), expected)


def test_copies_are_the_same_distortion_of_every_sample() -> None:
    tuned = FineTuned(small(METHODS[0]), replace(EPISODE, frozen_blocks=0, num_copies=3))
    image_BCHW = torch.rand(4, *SHAPE)
    twice = torch.cat([image_BCHW, image_BCHW.flip(0)])
    copies = tuned.embed(twice)
    assert copies.shape == (8, 4, *SHAPE)
    assert torch.equal(copies[:4], copies[4:].flip(0))
    assert torch.equal(copies[:, 0], twice)
    assert (copies[:, 1] - copies[:, 2]).abs().max() > 0.01


@pytest.mark.parametrize(("spec", "name"), [
    (PixelsSpec(), "Pixels"), (MannSpec(image_size=8), "Mann"),
    (MatchingNetworkSpec(encoder=SMALL, tied=False), "MatchingNetwork")])
def test_refuses_methods_without_one_encoder(spec: MethodSpec, name: str) -> None:
    with pytest.raises(ValueError, match=f"fine-tuning of {name}: it takes a classifier, a siamese net or a"):
        FineTuned(small(spec), EPISODE)


def test_says_what_is_wrong_with_parameters_and_episodes() -> None:
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        FineTuningSpec(steps=0)
    with pytest.raises(ValueError, match=r"learning_rate is -0\.1; it must be above 0"):
        FineTuningSpec(learning_rate=-0.1)
    with pytest.raises(ValueError, match="frozen_blocks is 2 of 2 blocks; leave at least one to tune"):
        FineTuned(small(METHODS[0]), replace(EPISODE, frozen_blocks=2))
    with pytest.raises(ValueError, match=r"episode 1 has \[1, 3\] shots a way"):
        shot_by_shot(torch.zeros(2, 4, 1), torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1]]), 2)
