"""A classifier on labelled images, its label smoothing and its dropout. What it shares with others: test_baselines."""

import pytest
import torch
from tiny_problem import SHAPE, SMALL, random_episodes
from torch import Tensor

from matchnet.methods import Batch, LabelledBatch
from matchnet.methods.classifier import Classifier, ClassifierSpec

CLASSES = 40


def classifier(label_smoothing: float = 0.0, dropout: float = 0.0) -> Classifier:
    torch.manual_seed(0)
    spec = ClassifierSpec(encoder=SMALL, label_smoothing=label_smoothing, dropout=dropout)
    return Classifier(spec, SHAPE, CLASSES)


def images(number: int) -> LabelledBatch:
    generator = torch.Generator().manual_seed(1)
    return LabelledBatch(torch.rand(number, *SHAPE, generator=generator),
                         torch.randint(CLASSES, (number,), generator=generator))


def log_probs(method: Classifier, image_BCHW: Tensor) -> Tensor:
    return (method.encoder(image_BCHW) @ method.softmax.weight.T + method.softmax.bias).log_softmax(-1)


def test_labelled_images_are_episodes_without_their_ways() -> None:
    method = classifier()
    support_ES, way_ES, query_EQ = random_episodes(E=2, N=3, k=2, Q=3)
    class_EN, query_way_EQ = torch.tensor([[7, 30, 11], [30, 2, 5]]), torch.tensor([[2, 0, 1], [0, 1, 2]])
    image_BCHW = torch.cat([support_ES[0], query_EQ[0], support_ES[1], query_EQ[1]])
    ways = [torch.cat([way_ES[e], query_way_EQ[e]]) for e in range(2)]
    class_B = torch.cat([class_EN[e][ways[e]] for e in range(2)])
    of_episodes = method(Batch(support_ES, way_ES, query_EQ, query_way_EQ, class_EN))
    of_images = method(LabelledBatch(image_BCHW, class_B))
    assert {name: value.item() for name, value in of_episodes.items()} \
        == {name: value.item() for name, value in of_images.items()}


def test_accuracy_counts_the_largest_logit() -> None:
    method = classifier().eval()
    batch = images(30)
    predicted_B = log_probs(method, batch.image_BCHW).argmax(-1)
    class_B = torch.where(torch.arange(30) < 12, predicted_B, (predicted_B + 1) % CLASSES)
    assert method(LabelledBatch(batch.image_BCHW, class_B))["accuracy"].item() == pytest.approx(12 / 30)


def test_label_smoothing_spreads_its_share_over_all_classes() -> None:
    """q'(k) = (1 - epsilon) delta(k, y) + epsilon / K      [Szegedy et al. 2016, section 7]"""
    method, batch = classifier(label_smoothing=0.1).eval(), images(10)
    log_probs_BC = log_probs(method, batch.image_BCHW)
    losses = [-(0.9 * one_C[y] + sum(0.1 / CLASSES * one_C[k] for k in range(CLASSES)))
              for one_C, y in zip(log_probs_BC, batch.class_B, strict=True)]
    torch.testing.assert_close(method(batch)["loss"], torch.stack(losses).mean())


def test_dropout_is_of_the_features_and_in_training_alone() -> None:
    """With every feature gone the logits are the biases; matching and evaluation see every feature."""
    method, plain, batch = classifier(dropout=0.9999), classifier(), images(20)
    with torch.no_grad():
        uniform = -method.softmax.bias.log_softmax(0)[batch.class_B].mean()
        assert plain(batch)["loss"].sub(uniform).abs() > 1e-3
        seen = [method(batch)["loss"].item() for _ in range(5)]
        assert min(abs(loss - uniform.item()) for loss in seen) < 1e-6
        plain.load_state_dict(method.state_dict())
        method.eval(), plain.eval()
        assert method(batch)["loss"].item() == plain(batch)["loss"].item()
        assert torch.equal(method.embed(batch.image_BCHW), plain.embed(batch.image_BCHW))


def test_a_cosine_head_is_a_softmax_of_scaled_cosines_that_learns_its_scale() -> None:
    torch.manual_seed(0)
    method, batch = Classifier(ClassifierSpec(encoder=SMALL, head="cosine"), SHAPE, CLASSES).eval(), images(10)
    losses = []
    for feature_D, y in zip(method.encoder(batch.image_BCHW), batch.class_B, strict=True):
        cosine_C = torch.stack([feature_D @ weight_D / (feature_D.norm() * weight_D.norm())
                                for weight_D in method.softmax.weight])
        losses.append(-(10 * cosine_C).log_softmax(-1)[y])
    loss = method(batch)["loss"]
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    loss.backward()
    assert all(weight.grad.abs().max() > 0 for weight in method.softmax.parameters())


def test_names_of_weights_stay() -> None:
    """Those of the models that were trained before there was smoothing and dropout."""
    names = {name.split(".")[0] for name in classifier(0.1, 0.5).state_dict()}
    assert names == {"encoder", "softmax", "attention"}


@pytest.mark.parametrize("field", ["label_smoothing", "dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_shares_are_at_least_zero_and_below_one(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field} is {value}; it must be at least 0 and below 1$"):
        ClassifierSpec(**{field: value})  # type: ignore[arg-type]
