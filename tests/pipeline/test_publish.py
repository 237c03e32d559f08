"""Publishing: a classifier becomes a matching network on its features, which answers as the classifier does."""

from pathlib import Path

import pytest
import torch

from matchnet.attention import AttentionSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods import build_method
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.model_file import ModelFile, write_model
from matchnet.preparation import Preparation
from pipeline import paths
from pipeline.publish import for_inference, publish

PREPARATION = Preparation(channels=1, size=16, kind="drawings", invert=True)
SHAPE = PREPARATION.sample_shape
ENCODER = Conv4Spec(num_filters=4, num_blocks=2, last_relu=False)


@pytest.mark.parametrize("spec", [ClassifierSpec(encoder=ENCODER, head="cosine"),
                                  ClassifierSpec(encoder=Conv4Spec(num_filters=4, num_blocks=2)),
                                  MatchingNetworkSpec(encoder=ENCODER, embedding_size=5,
                                                      attention=AttentionSpec("cosine", "fixed", 30.0))])
@torch.no_grad()
def test_what_is_published_answers_as_the_trained_model(spec: ClassifierSpec | MatchingNetworkSpec) -> None:
    torch.manual_seed(0)
    trained = build_method(spec, SHAPE, 7)
    trained.embed(torch.rand(64, *SHAPE))  # statistics of its normalisation
    trained.eval()
    model = ModelFile(model_name="t/m", method=spec, preparation=PREPARATION, sample_shape=SHAPE, num_classes=7,
                      state_dict=trained.state_dict(), step=1, seed=0, dataset_sha256="0" * 64, split="s",
                      train_classes=[str(c) for c in range(7)], seconds=0.0)
    published = for_inference(model, Path("model.pt"))
    assert not [name for name in published.state_dict if name.startswith("softmax")]
    method = published.build(Path("model.pt")).eval()
    support, query, way_ES = torch.rand(6, *SHAPE), torch.rand(4, *SHAPE), torch.tensor([[0, 1, 2, 0, 1, 2]])
    expected, found = (one.classify(one.embed(support)[None], way_ES, one.embed(query)[None], 3)
                       for one in (trained, method))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", ".x", "a b", ""])
def test_a_name_of_another_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"--name is '{name}'; it becomes the name of a file: a letter or a digit"):
        publish("omniglot/matching", name, "t", "l", [], tmp_path)


def test_a_model_that_is_too_large_takes_no_good_one_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = MatchingNetworkSpec(encoder=ENCODER)
    trained = ModelFile(model_name="t/m", method=spec, preparation=PREPARATION, sample_shape=SHAPE, num_classes=7,
                        state_dict=build_method(spec, SHAPE, 7).state_dict(), step=1, seed=0, dataset_sha256="0" * 64,
                        dataset="d", split="s", train_classes=["a"], seconds=0.0)
    monkeypatch.chdir(tmp_path)
    path = paths.model_file("t/m")
    path.parent.mkdir(parents=True)
    write_model(path, trained)
    folder = tmp_path / "published"
    folder.mkdir()
    publish("t/m", "m", "t", "l", [], folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr("pipeline.publish.LARGEST", 1000)
    with pytest.raises(ValueError, match=r"m\.pt: [\d,]+ bytes, and [\d,]+ with the others; a published"):
        publish("t/m", "m", "t", "l", [], folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
