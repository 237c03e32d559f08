"""Inception v3 against torchvision's names, shapes and outputs; its heads; its batch normalisation.

The smallest network there is (every layer has 16 filters) stands for the whole where numbers do not matter.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from inception_weights import photograph, torchvision_layout, weights_of
from torch import Tensor, nn

from matchnet.context import FullContextSpec
from matchnet.encoders import build_encoder
from matchnet.encoders.inception import AuxiliaryHead, InceptionSpec, InceptionV3
from matchnet.methods import Batch, LabelledBatch, MatchingNetwork, MethodSpec
from matchnet.methods.classifier import Classifier, ClassifierSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.torchvision_names import from_torchvision, to_torchvision
from matchnet.parsing import parse

SMALL = InceptionSpec(width=0.01)
PIXELS = (3, 75, 75)
CLASSES = 5


def classifier(encoder: InceptionSpec = SMALL, num_classes: int = CLASSES, **values: float) -> Classifier:
    torch.manual_seed(0)
    return Classifier(ClassifierSpec(encoder=encoder, **values), PIXELS, num_classes)  # type: ignore[arg-type]


def images(number: int = 6, size: int = 75) -> LabelledBatch:
    generator = torch.Generator().manual_seed(1)
    return LabelledBatch(torch.rand(number, 3, size, size, generator=generator), torch.arange(number) % CLASSES)


@pytest.fixture(scope="module")
def published() -> Classifier:
    """The whole network in float64 with weights of torchvision's layout."""
    with torch.device("meta"):
        method = classifier(InceptionSpec(), 1000)
    weights = from_torchvision(weights_of(torchvision_layout()))
    method.load_state_dict({"attention.log_scale": torch.tensor(0.0), **weights}, assign=True)
    return method.eval()


@pytest.mark.parametrize("auxiliary_weight, parameters", [(0.4, 27_161_264), (0.0, 23_834_568)])
def test_names_shapes_and_number_of_parameters_are_torchvisions(auxiliary_weight: float, parameters: int) -> None:
    with torch.device("meta"):
        method = classifier(InceptionSpec(), 1000, auxiliary_weight=auxiliary_weight)
    layout = {name: shape for name, shape in torchvision_layout().items()
              if auxiliary_weight > 0 or not name.startswith("AuxLogits.")}
    assert {name: tuple(weight.shape) for name, weight in to_torchvision(method.state_dict()).items()} == layout
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == parameters


# What torchvision 0.29.2's inception_v3 gives for these weights and 2 x - 1, in evaluation mode: the first five logits,
# and the first five of its AuxLogits, which takes no images as small as 75 px.
LOGITS = {75: [0.3736148001, -0.1404137708, -0.1743641392, -0.1032480060, 0.1047064518],
          299: [1.9962137029, -1.1669128832, -1.6271229720, -0.8424833654, -1.0706147744]}
AUXILIARY_LOGITS = [0.2247297381, 0.1402361587, -0.9324496260, 0.2754842891, 0.9379775504]


@torch.no_grad()
@pytest.mark.parametrize("size", LOGITS)
def test_outputs_are_torchvisions(published: Classifier, size: int) -> None:
    grid_BCHW = published.encoder.up_to_17(photograph(size, size))
    logits_BC = published.softmax(published.encoder.from_17_on(grid_BCHW))
    assert logits_BC[0, :5].tolist() == pytest.approx(LOGITS[size], abs=1e-9)
    if size == 299:
        assert published.auxiliary is not None
        assert published.auxiliary(grid_BCHW)[0, :5].tolist() == pytest.approx(AUXILIARY_LOGITS, abs=1e-9)


@torch.no_grad()
def test_outputs_beside_torchvision() -> None:
    """Two images, in evaluation and in training, where batch normalisation takes their own statistics."""
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed: it is compared with the "
                                                            "figures that it gave elsewhere alone")
    weights = weights_of(torchvision_layout())
    theirs = torchvision.models.inception_v3(init_weights=False, dropout=0.0).double()
    theirs.load_state_dict(weights)
    ours = classifier(InceptionSpec(), 1000).double()
    ours.load_state_dict(ours.state_dict() | from_torchvision(weights))
    image_BCHW = torch.cat([photograph(299, 299), photograph(299, 299).flip(3)])
    theirs.eval(), ours.eval()
    for image in (image_BCHW, image_BCHW[..., :75, :75]):
        torch.testing.assert_close(ours.softmax(ours.embed(image)), theirs(image * 2 - 1), rtol=0, atol=1e-5)
    theirs.train(), ours.train()
    feature_BD, auxiliary_BC = ours.features_and_auxiliary(image_BCHW)
    expected = theirs(image_BCHW * 2 - 1)
    torch.testing.assert_close(ours.softmax(feature_BD), expected.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(auxiliary_BC, expected.aux_logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_pixels_are_scaled_as_transform_input_scales_them() -> None:
    """torchvision normalises by ImageNet's mean and deviation, and published weights then undo it: x -> 2 x - 1."""
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    image_BCHW = torch.rand(2, *PIXELS)
    normalised_BCHW = (image_BCHW - mean) / deviation
    undone_BCHW = normalised_BCHW * (deviation / 0.5) + (mean - 0.5) / 0.5
    encoder, seen = InceptionV3(SMALL, PIXELS).eval(), []
    encoder.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(image_BCHW)
    torch.testing.assert_close(seen[0], undone_BCHW, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("spec, size", [(SMALL, 16 * 6), (InceptionSpec(width=0.25), 512)])
@pytest.mark.parametrize("pixels", [(75, 75), (76, 131), (160, 75)])
def test_embedding_size(spec: InceptionSpec, size: int, pixels: tuple[int, int]) -> None:
    encoder = build_encoder(spec, (3, *pixels)).eval()
    assert encoder.embedding_size == size
    assert encoder(torch.rand(1, 3, *pixels)).shape == (1, size)


def test_width_is_a_factor_of_every_layer_that_keeps_16_filters() -> None:
    with torch.device("meta"):
        whole, narrow = (dict(InceptionV3(InceptionSpec(width=width), PIXELS).named_modules()) for width in (1.0, 0.3))
    filters = [(module.out_channels, narrow[name].out_channels) for name, module in whole.items()
               if isinstance(module, nn.Conv2d)]
    assert len(filters) == 94
    assert all(few == max(16, round(0.3 * many)) for many, few in filters)


@pytest.mark.parametrize("make, error", [
    (lambda: InceptionV3(SMALL, (3, 75, 74)), "images of 75 x 74; inception_v3 takes 75 x 75 and more: resize"),
    (lambda: InceptionV3(SMALL, PIXELS)(torch.rand(1, 3, 64, 80)), "images of 64 x 80; inception_v3 takes 75 x 75"),
    (lambda: InceptionV3(SMALL, (1, 84, 84)), "images of 1 channel; inception_v3 takes RGB, 3: store them so"),
    (lambda: InceptionV3(SMALL, (4, 84, 84)), "images of 4 channels; inception_v3 takes RGB"),
    (lambda: InceptionV3(SMALL, (17,)), r"samples of shape \(17,\); inception_v3 takes images"),
    (lambda: InceptionSpec(width=0.0), "width is 0.0; it must be above 0"),
    (lambda: InceptionSpec(width=float("nan")), "width is nan; it must be above 0"),
    (lambda: ClassifierSpec(auxiliary_weight=-0.4), "auxiliary_weight is -0.4; it must be at least 0"),
])
def test_errors(make: Callable[[], object], error: str) -> None:
    with pytest.raises(ValueError, match=f"^{error}"):
        make()


def test_weights_begin_as_torchvisions() -> None:
    """Deviation 0.1; 0.01 and 0.001 in the auxiliary head; scales 1 and shifts 0."""
    method = classifier(InceptionSpec(width=0.25), 100)
    for name, weight in to_torchvision(method.state_dict()).items():
        expected = {"AuxLogits.conv1.conv.weight": 0.01, "AuxLogits.fc.weight": 0.001}.get(name, 0.1)
        if weight.ndim > 1:
            assert weight.std().item() == pytest.approx(expected, rel=5 / weight.numel() ** 0.5), name
        elif ".bn." in name:
            assert (weight == (1 if name.endswith(("weight", "running_var")) else 0)).all(), name


def test_gradients_reach_every_parameter() -> None:
    method = classifier()
    method(images())["loss"].backward()
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_auxiliary_loss_counts_in_training_alone() -> None:
    batch = images()
    plain, weighted = classifier(auxiliary_weight=0.0), classifier()
    weighted.load_state_dict(weighted.state_dict() | plain.state_dict())
    assert plain.auxiliary is None and isinstance(weighted.auxiliary, AuxiliaryHead)
    auxiliary = F.cross_entropy(weighted.auxiliary(weighted.encoder.up_to_17(batch.image_BCHW)), batch.class_B)
    assert auxiliary > 1
    torch.testing.assert_close(weighted(batch)["loss"], plain(batch)["loss"] + 0.4 * auxiliary)
    weighted.load_state_dict(weighted.state_dict() | plain.state_dict())
    plain.eval(), weighted.eval()
    assert weighted(batch)["loss"].item() == plain(batch)["loss"].item()


@torch.no_grad()
@pytest.mark.parametrize("grid", [(3, 3), (16, 17), (17, 17), (17, 24)])
def test_the_auxiliary_head_takes_any_grid(grid: tuple[int, int]) -> None:
    """From 17 x 17 on as the authors' network does, by 5 x 5 means 3 apart; below, all of it is seen all the same."""
    encoder = InceptionV3(SMALL, PIXELS)
    head = AuxiliaryHead(encoder, CLASSES).eval()
    grid_BCHW = torch.rand(1, encoder.grid_17_channels, *grid, requires_grad=True)
    with torch.enable_grad():
        logits_BC = head(grid_BCHW)
        logits_BC.sum().backward()
    assert logits_BC.shape == (1, CLASSES)
    assert grid_BCHW.grad is not None
    reached_HW = grid_BCHW.grad.abs().sum((0, 1)) > 0
    assert reached_HW[:, :grid[1] - (grid[1] - 5) % 3 if min(grid) >= 17 else None].all()


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_running_statistics_move_with_batch_statistics_alone(batch_statistics: bool) -> None:
    encoder = InceptionV3(InceptionSpec(width=0.01, batch_statistics=batch_statistics), PIXELS)
    image_BCHW = images().image_BCHW
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    in_training = encoder.train()(image_BCHW)
    moved = {name for name, value in encoder.named_buffers() if not torch.equal(value, before[name])}
    assert moved == (set(before) if batch_statistics else set())
    in_training.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    encoder.load_state_dict(before, strict=False)
    assert torch.equal(in_training, encoder.eval()(image_BCHW)) is not batch_statistics


def test_renaming_there_and_back() -> None:
    weights = classifier().state_dict()
    renamed = to_torchvision(weights)
    assert set(renamed) == set(torchvision_layout())
    again = from_torchvision(renamed)
    assert set(weights) - set(again) == {"attention.log_scale"}
    assert all(torch.equal(again[name], weights[name]) for name in again)


@pytest.mark.parametrize("old", [False, True], ids=["layout of today", "before batches were counted"])
def test_a_published_file_loads_as_tensors_alone(tmp_path: Path, old: bool) -> None:
    """As it is published: an ordered state dict, of before torch 0.4.1 in the old format and without counts."""
    method = classifier()
    weights = OrderedDict((name, weight) for name, weight in to_torchvision(method.state_dict()).items()
                          if not (old and name.endswith("num_batches_tracked")))
    weights._metadata = method.state_dict()._metadata  # type: ignore[attr-defined]  # as torch gives it, and saves it
    torch.save(weights, tmp_path / "inception_v3.pth", _use_new_zipfile_serialization=not old)
    loaded = from_torchvision(torch.load(tmp_path / "inception_v3.pth", weights_only=True))
    torch.manual_seed(1)
    other = Classifier(ClassifierSpec(encoder=SMALL), PIXELS, CLASSES)
    other.load_state_dict(other.state_dict() | loaded)
    batch = images()
    assert torch.equal(other.eval().embed(batch.image_BCHW), method.eval().embed(batch.image_BCHW))


@pytest.mark.parametrize("rename, name", [
    (from_torchvision, "layer1.0.conv1.weight"), (to_torchvision, "encoder.blocks.0.weight"),
    (to_torchvision, "fc.bias"),
])
def test_renaming_of_another_network(rename: Callable[[dict[str, Tensor]], object], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^weights '{name}'; .* alone: give its state dict$"):
        rename({name: torch.zeros(1)})


@pytest.mark.parametrize("fce", [None, FullContextSpec(2)], ids=["no fce", "fce"])
def test_a_matching_network_learns_through_it(fce: FullContextSpec | None) -> None:
    """5-way 1-shot from one batch of 10 images: with batch_statistics false, as from a trained encoder."""
    torch.manual_seed(0)
    spec = MatchingNetworkSpec(encoder=InceptionSpec(width=0.01, batch_statistics=False), fce=fce)
    method = MatchingNetwork(spec, PIXELS).train()
    image_EBCHW = images(10).image_BCHW.unsqueeze(0)
    way_EN = torch.arange(5).unsqueeze(0)
    result = method(Batch(image_EBCHW[:, :5], way_EN, image_EBCHW[:, 5:], way_EN, way_EN))
    result["loss"].backward()
    assert torch.isfinite(result["loss"])
    for name, parameter in method.encoder_f.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_training_fits_a_few_images() -> None:
    method, batch = classifier(label_smoothing=0.1), images(10)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    for _ in range(25):
        result = method.train()(batch)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
    assert result["accuracy"] == 1


def test_channels_last_all_the_way() -> None:
    method = classifier()
    grid_BCHW = method.encoder.up_to_17(images().image_BCHW)  # of the default layout
    assert grid_BCHW.is_contiguous(memory_format=torch.channels_last)
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in method.parameters()
               if weight.ndim == 4)


@torch.no_grad()
def test_bf16_is_near_fp32() -> None:
    method, batch = classifier().eval(), images()
    for _ in range(3):
        method.train()(batch)  # statistics as they are after some training
    method.eval()
    with torch.autocast("cpu", torch.bfloat16):
        coarse = method(batch)["loss"]
    assert coarse.item() == pytest.approx(method(batch)["loss"].item(), abs=0.05)


@pytest.mark.slow
def test_compiles_in_one_graph() -> None:
    """No break, in training; the code that a backend would make of the graph is its own business."""
    torch.compile(classifier(), backend="eager", fullgraph=True)(images(2))


def test_specs_are_read_back_from_a_model_file() -> None:
    spec = ClassifierSpec(encoder=InceptionSpec(width=0.5, batch_statistics=False), auxiliary_weight=0.3, dropout=0.2)
    assert parse(MethodSpec, asdict(spec), "method") == spec
