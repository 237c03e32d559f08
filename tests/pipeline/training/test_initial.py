"""Models of images that begin with another's weights: the encoder is taken over, and nothing seen before is tested."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matchnet.context import FullContextSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.files import sha256_of
from matchnet.methods import Method, MethodSpec, build_method
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.methods.torchvision_names import to_torchvision
from matchnet.model_file import ModelFile, write_model
from matchnet.preparation import Preparation
from matchnet.weights import CheckpointError
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ModelParams
from pipeline.training.initial import take_weights

PREPARATION = Preparation(channels=1, size=16, kind="drawings", invert=True)
SHAPE = PREPARATION.sample_shape
ENCODER = Conv4Spec(num_filters=4)
BASE = ClassifierSpec(encoder=ENCODER)
MODEL = ModelParams(dataset="small", split="random", image_size=16, init="base",
                    method=MatchingNetworkSpec(encoder=ENCODER, tied=False, fce=FullContextSpec(num_steps=1)),
                    training=EpisodicSpec(episode=EpisodeSpec(2, 1, 1), steps=1))


def write_base(path: Path, shards: Path, classes: list[str], method: MethodSpec = BASE,
               earlier: Sequence[str] = ()) -> Method:
    """A model of fresh weights that says it was trained on `classes`; returns it."""
    torch.manual_seed(len(classes))
    built = build_method(method, SHAPE, len(classes))
    write_model(path, ModelFile(model_name="base", method=method, preparation=PREPARATION, sample_shape=SHAPE,
                                num_classes=len(classes), state_dict=built.state_dict(), step=1, seed=0,
                                dataset_sha256=ShardFolder(shards).sha256, split="random", train_classes=classes,
                                earlier_classes=list(earlier), seconds=0.0))
    return built


def test_both_encoders_begin_with_the_classifiers(small_shards: Path, tmp_path: Path) -> None:
    split = ShardFolder(small_shards).manifest.splits["random"]
    turned = [f"{name}@90" for name in split["train"]]
    base = write_base(tmp_path / "model.pt", small_shards, [*split["train"], *turned])
    method = build_method(MODEL.method, SHAPE, 0)
    take_weights(method, MODEL, tmp_path / "model.pt", ShardFolder(small_shards))
    for name, weight in base.encoder.state_dict().items():
        assert torch.equal(method.encoder_f.state_dict()[name], weight)
        assert torch.equal(method.encoder_g.state_dict()[name], weight)


def test_with_context_may_begin_with_one_without(small_shards: Path, tmp_path: Path) -> None:
    split = ShardFolder(small_shards).manifest.splits["random"]
    base = write_base(tmp_path / "model.pt", small_shards, split["train"], MatchingNetworkSpec(encoder=ENCODER))
    method = build_method(MODEL.method, SHAPE, 0)
    take_weights(method, MODEL, tmp_path / "model.pt", ShardFolder(small_shards))
    assert torch.equal(method.encoder_g.blocks[0][0].weight, base.encoder_f.blocks[0][0].weight)


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("turn", ["", "@180"])
def test_a_base_that_has_seen_held_out_classes_is_refused(part, turn, small_shards: Path, tmp_path: Path) -> None:
    split = ShardFolder(small_shards).manifest.splits["random"]
    write_base(tmp_path / "model.pt", small_shards, [*split["train"], split[part][0] + turn])
    with pytest.raises(ValueError, match=rf"trained on '{split[part][0]}' \(1 such classes\), a valid or test class"):
        take_weights(build_method(MODEL.method, SHAPE, 0), MODEL, tmp_path / "model.pt", ShardFolder(small_shards))


def test_what_the_base_itself_began_with_counts_too(small_shards: Path, tmp_path: Path) -> None:
    split = ShardFolder(small_shards).manifest.splits["random"]
    write_base(tmp_path / "model.pt", small_shards, split["train"], earlier=[split["test"][0]])
    with pytest.raises(ValueError, match=rf"trained on '{split['test'][0]}' \(1 such classes\)"):
        take_weights(build_method(MODEL.method, SHAPE, 0), MODEL, tmp_path / "model.pt", ShardFolder(small_shards))


def test_another_encoder_or_none_is_refused(small_shards: Path, tmp_path: Path) -> None:
    classes = ShardFolder(small_shards).manifest.splits["random"]["train"]
    method = build_method(MODEL.method, SHAPE, 0)
    write_base(tmp_path / "wide.pt", small_shards, classes, ClassifierSpec(encoder=Conv4Spec(num_filters=8)))
    with pytest.raises(CheckpointError, match=r"wide.pt: its weights are of another architecture"):
        take_weights(method, MODEL, tmp_path / "wide.pt", ShardFolder(small_shards))
    write_base(tmp_path / "pixels.pt", small_shards, classes, PixelsSpec())
    with pytest.raises(CheckpointError, match=r"pixels\.pt: a pixels without an encoder"):
        take_weights(method, MODEL, tmp_path / "pixels.pt", ShardFolder(small_shards))


def test_an_encoder_that_differs_by_a_relu_alone_is_refused(small_shards: Path, tmp_path: Path) -> None:
    classes = ShardFolder(small_shards).manifest.splits["random"]["train"]
    write_base(tmp_path / "signed.pt", small_shards, classes,
               ClassifierSpec(encoder=replace(ENCODER, last_relu=False)))
    with pytest.raises(ValueError, match=r"signed\.pt: its encoder has last_relu: false; write the same in method\."):
        take_weights(build_method(MODEL.method, SHAPE, 0), MODEL, tmp_path / "signed.pt", ShardFolder(small_shards))


def test_published_weights_are_the_whole_classifier(small_shards: Path, tmp_path: Path) -> None:
    """A file with torchvision's names, read without running what it holds."""
    names, shape = ShardFolder(small_shards).manifest.splits["random"]["train"], (3, 75, 75)
    spec = ClassifierSpec(encoder=InceptionSpec(width=0.05))
    torch.manual_seed(0)
    source, method = (build_method(spec, shape, len(names)) for _ in range(2))
    torch.save(to_torchvision(source.state_dict()), tmp_path / "published.pth")
    model = ModelParams(dataset="small", split="random", image_size=75, channels=3, method=spec, training=None,
                        published=str(tmp_path / "published.pth"))
    take_weights(method, model, None, ShardFolder(small_shards))
    for name, weight in source.state_dict().items():
        assert torch.equal(method.state_dict()[name], weight), name
    with pytest.raises(CheckpointError, match=r"published.pth: its weights are of another architecture"):
        take_weights(build_method(spec, shape, len(names) + 1), model, None, ShardFolder(small_shards))


def published_at(path: Path) -> ModelParams:
    return ModelParams(dataset="small", split="random", image_size=16, method=BASE, training=None, published=str(path))


def test_missing_published_weights_are_described(small_shards: Path, tmp_path: Path) -> None:
    model = published_at(tmp_path / "inception.pth")
    message = (r"inception.pth: there is no such file; torchvision publishes the weights of its inception_v3 "
               r"\(Inception_V3_Weights.IMAGENET1K_V1\) as inception_v3_google-0cc3c7bd.pth: download it, and put it "
               "there$")
    with pytest.raises(CheckpointError, match=message):
        take_weights(build_method(BASE, SHAPE, 1), model, None, ShardFolder(small_shards))


def test_another_file_under_a_published_name_is_refused(small_shards: Path, tmp_path: Path) -> None:
    """The name of a published file carries the first digits of its SHA-256."""
    spec, shape = ClassifierSpec(encoder=InceptionSpec(width=0.05)), (3, 75, 75)
    method = build_method(spec, shape, 1)
    torch.save(to_torchvision(method.state_dict()), tmp_path / "weights.pth")
    begin = sha256_of(tmp_path / "weights.pth")[:8]
    whole, cut = tmp_path / f"inception-{begin}.pth", tmp_path / f"cut-{begin}.pth"
    whole.write_bytes((tmp_path / "weights.pth").read_bytes())
    cut.write_bytes(whole.read_bytes()[:-1])
    take_weights(method, published_at(whole), None, ShardFolder(small_shards))
    with pytest.raises(CheckpointError, match=rf"cut-{begin}.pth: its name says that its SHA-256 begins with {begin}, "
                       rf"and it is {sha256_of(cut)}: cut short, or another file; download it again"):
        take_weights(method, published_at(cut), None, ShardFolder(small_shards))
