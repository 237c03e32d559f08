"""One row on images, from shards to what was measured: oracles, few episodes, a store that decodes when asked."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods import Classifier, Method, MethodSpec, build_method
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.model_file import ModelFile
from matchnet.preparation import Preparation
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.spec import Part
from pipeline.evaluate.row import Measured, device_of, evaluate_row
from pipeline.params import ComputeParams, RowParams

PREPARATION = Preparation(channels=1, size=16, kind="drawings", invert=True)
SHAPE = PREPARATION.sample_shape
CLASSIFIER = ClassifierSpec(encoder=Conv4Spec(num_filters=4))
ROW = RowParams(model="m", dataset="small", split="random", columns=("3w1s2q", "2w5s1q"), episodes=6)


def run(shards: Path, row: RowParams, train_classes: list[str],
        spec: MethodSpec = CLASSIFIER, method: Method | None = None,
        preparation: Preparation = PREPARATION) -> Measured:
    method = method or build_method(spec, SHAPE, len(train_classes))
    model = ModelFile(model_name="m", method=spec, preparation=preparation, sample_shape=SHAPE,
                      num_classes=len(train_classes), state_dict={},
                      step=0, seed=0, dataset_sha256=ShardFolder(shards).sha256, split="random",
                      train_classes=train_classes, seconds=0.0)
    return evaluate_row(row, model, method, ShardFolder(shards))


def test_a_row_of_fewer_episodes_than_are_looked_at_shows_those(small_shards: Path) -> None:
    """Rows that no episode uses are not embedded."""
    measured = run(small_shards, ROW, ["a"], PixelsSpec())
    assert len(measured.shown) == len(measured.episodes["3w1s2q"].accuracy_E) == 6
    assert [float(1 - episode.wrong_Q.mean()) for episode in measured.shown] == pytest.approx(
        measured.episodes["3w1s2q"].accuracy_E.tolist())
    assert measured.details.columns["2w5s1q"].episodes == 6


def test_a_model_that_was_trained_on_pictures_prepared_otherwise_is_refused_or_told(small_shards: Path, capfd) -> None:
    run(small_shards, ROW, ["a"], PixelsSpec())
    assert "differ" not in capfd.readouterr().err
    run(small_shards, ROW, ["a"], PixelsSpec(), preparation=replace(PREPARATION, margin=0.18, kind=None))
    assert ("model m and dataset small differ in margin 0.18 and null: the pictures are prepared as the dataset says"
            in capfd.readouterr().err)
    with pytest.raises(ValueError, match="model m: was trained on photographs, and dataset small holds drawings, "
                                         "another ground; name a dataset of photographs, or a model of drawings"):
        run(small_shards, ROW, ["a"], PixelsSpec(), preparation=replace(PREPARATION, kind="photographs"))


def test_the_device_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    auto, cpu, gpu = (ComputeParams(device=device) for device in ("auto", "cpu", "gpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [device_of(compute) for compute in (auto, cpu, gpu)] == ["cuda", "cpu", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [device_of(compute) for compute in (auto, cpu)] == ["cpu", "cpu"]
    with pytest.raises(ValueError, match="device is gpu, and this machine has none"):
        device_of(gpu)


def test_samples_that_stay_in_their_shards_give_the_same_and_their_processes_end(
        small_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = run(small_shards, ROW, ["a"], PixelsSpec())
    closed = []
    monkeypatch.setattr("pipeline.evaluate.row.DECODED_FIRST", 0)
    close = ShardStore.close
    monkeypatch.setattr(ShardStore, "close", lambda store: (closed.append(store), close(store)))
    from_shards = run(small_shards, ROW, ["a"], PixelsSpec())
    assert len(closed) == 1
    for column in ROW.columns:
        assert np.array_equal(in_memory.episodes[column].accuracy_E, from_shards.episodes[column].accuracy_E)
    for one, other in zip(in_memory.shown, from_shards.shown, strict=True):
        assert torch.equal(one.query_Q, other.query_Q)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_oracle_answers_by_the_outputs_of_the_names_of_its_classes(small_shards: Path, reverse: bool) -> None:
    """A classifier that prefers its last class to the one before, and so on, whatever the image."""
    split = ShardFolder(small_shards).manifest.splits["random"]
    names = sorted((name for part in split.values() for name in part), reverse=reverse)
    method = build_method(CLASSIFIER, SHAPE, len(names))
    assert isinstance(method, Classifier)
    with torch.no_grad():
        method.softmax.weight.zero_()
        method.softmax.bias.copy_(torch.arange(len(names)))
    measured = run(small_shards, replace(ROW, oracle=True), names, method=method)
    for episode in measured.shown:
        preferred = max(episode.way_names, key=names.index)
        assert {episode.way_names[way] for way in episode.log_probs_QN.argmax(-1)} == {preferred}
        assert preferred in split["test"]


def test_an_oracle_has_seen_every_class(small_shards: Path) -> None:
    split = ShardFolder(small_shards).manifest.splits["random"]
    unseen = sorted(split["test"])[0]
    names = sorted(name for part in split.values() for name in part if name != unseen)
    with pytest.raises(ValueError, match=rf"model m: class '{unseen}' is none of the {len(names)} that it was trained "
                                         "on, nor are 0 others of the 4 of the part; an oracle has seen all"):
        run(small_shards, replace(ROW, oracle=True), names)


def test_an_oracle_is_a_classifier(small_shards: Path) -> None:
    with pytest.raises(ValueError, match="model m: a Pixels has no softmax over classes; oracle: true is for a class"):
        run(small_shards, replace(ROW, oracle=True), ["a"], PixelsSpec())


@pytest.mark.parametrize(("part", "oracle", "refused"), [("test", False, True), ("valid", False, True),
                                                         ("train", False, False), ("test", True, False)])
def test_a_model_that_has_seen_held_out_classes_is_refused(small_shards: Path, part: Part, oracle: bool,
                                                           refused: bool) -> None:
    """Whatever dataset it has learnt from: names are compared."""
    classes = [entry.name for entry in ShardFolder(small_shards).manifest.classes]
    row = replace(ROW, part=part, columns=("2w5s1q",), oracle=oracle)
    with pytest.raises(ValueError, match=rf"which are of the {part} part of split random: nothing would be one-shot"
                       ) if refused else nullcontext():
        run(small_shards, row, [f"{name}@90" if not oracle else name for name in classes])
