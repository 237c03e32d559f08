"""Training a classifier on a stream: shares of a step, resuming, validation; from shards, and under Ray."""

from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import DATA, SHAPE, leaves
from torch import Tensor

from matchnet.classifier_training import ClassifierData, ClassifierTask, ClassifierTrainingSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import VALID_SEED_OFFSET
from matchnet.evaluation import EpisodeStream, evaluate
from matchnet.methods import ClassifierSpec, Method, build_method
from matchnet.training import Callbacks, Worker, train
from pipeline.data.load.samples import Room
from pipeline.data.load.stream import ShardStream
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams
from pipeline.training.data import load_task, training_classes
from pipeline.training.driver import run_training
from pipeline.training.runs import RunFiles

METHOD = ClassifierSpec(encoder=Conv4Spec(num_filters=4, num_blocks=2), label_smoothing=0.1, dropout=0.2)
SPEC = ClassifierTrainingSpec(batch_size=6, steps=12, learning_rate=0.01, warmup_steps=3, weight_decay=0.01,
                              valid_episode=EpisodeSpec(3, 1, 2), valid_episodes=4, valid_every=6, checkpoint_every=4,
                              log_every=3)


class MemoryStream:
    """The training images of DATA, in an order without sense: number n is row 7 n."""

    def read(self, numbers: range) -> tuple[Tensor, Tensor]:
        row_B = torch.tensor([7 * number % 30 for number in numbers])  # five classes of six
        return DATA.store.gather(row_B), row_B // 6

    def read_each(self, shares: Iterable[range]) -> Generator[tuple[Tensor, Tensor]]:
        return (self.read(share) for share in shares)


def task_of(spec: ClassifierTrainingSpec = SPEC, stream: MemoryStream | None = None) -> ClassifierTask:
    return ClassifierTask(ClassifierData(stream or MemoryStream(), DATA.store, DATA.valid_classes), spec)


def fresh_classifier(seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return build_method(METHOD, SHAPE, num_classes=5)


# ---- shares ----


@pytest.mark.parametrize(("batch_size", "shares"), [(6, 1), (6, 3), (7, 3), (5, 5)])
def test_shares_are_the_images_of_the_step_each_once(batch_size: int, shares: int) -> None:
    """And their weights make the mean of their mean losses that of the step."""
    task = task_of(replace(SPEC, batch_size=batch_size))
    whole, weight = task.batch(4, 0, 1, "cpu")
    assert weight == 1 and whole.image_BCHW.dtype == torch.float32 and whole.image_BCHW.max() <= 1
    images, classes = MemoryStream().read(range(4 * batch_size, 5 * batch_size))
    assert torch.equal(whole.image_BCHW * 255, images.float()) and torch.equal(whole.class_B, classes)
    parts = [task.batch(4, share, shares, "cpu") for share in range(shares)]
    assert torch.equal(torch.cat([part.image_BCHW for part, _ in parts]), whole.image_BCHW)
    assert torch.equal(torch.cat([part.class_B for part, _ in parts]), whole.class_B)
    mean = sum(weight * part.image_BCHW.mean() for part, weight in parts) / shares
    torch.testing.assert_close(mean, whole.image_BCHW.mean())


def test_batches_ahead_are_those_of_each_step_and_share() -> None:
    task = task_of()
    ahead = list(task.batches(range(3, 5), range(2, 4), 4, "cpu"))
    for (found, weight), (step, share) in zip(ahead, [(3, 2), (3, 3), (4, 2), (4, 3)], strict=True):
        expected, expected_weight = task.batch(step, share, 4, "cpu")
        assert torch.equal(found.image_BCHW, expected.image_BCHW) and torch.equal(found.class_B, expected.class_B)
        assert weight == expected_weight


def test_too_many_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="7 workers share batch_size = 6: some would have nothing to do"):
        train(fresh_classifier(), task_of(), worker=Worker(world_size=7))


@pytest.mark.parametrize(("change", "message"), [
    ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    ({"smallest_crop": 0.0}, "smallest_crop is 0.0; it is a share of the area, above 0 and at most 1"),
    ({"smallest_crop": 1.1}, "smallest_crop is 1.1; it is a share"),
    ({"valid_episodes": 1}, "valid_episodes is 1; an interval takes at least 2"),
])
def test_spec_is_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


# ---- a run ----


def test_it_learns_and_is_validated_on_episodes_of_other_classes() -> None:
    lines: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    method = fresh_classifier()
    spec = replace(SPEC, steps=60, batch_size=20, valid_every=60, log_every=20)
    train(method, task_of(spec), Callbacks(report=reports.append, log=lines.append))
    assert lines[-1]["accuracy"] > 0.9 > 0.8 > lines[0]["accuracy"]
    assert lines[0]["images_per_second"] == pytest.approx(20 * lines[0]["steps_per_second"])
    assert DATA.valid_classes is not None
    stream = EpisodeStream(DATA.valid_classes, SPEC.valid_episode, seed=VALID_SEED_OFFSET)
    accuracy_E = evaluate(method, DATA.store, stream, 4)
    assert reports == [{"step": 60, "valid_accuracy": pytest.approx(accuracy_E.mean()), "valid_episodes": 4,
                        "valid_ci95": reports[0]["valid_ci95"]}]


def test_without_validation_classes_nothing_is_reported() -> None:
    reports: list[dict[str, Any]] = []
    task = ClassifierTask(ClassifierData(MemoryStream()), SPEC)
    train(fresh_classifier(), task, Callbacks(report=reports.append))
    assert reports == []


# ---- from shards ----

MODEL = ModelParams(dataset="small", split="random", image_size=16, method=METHOD, training=replace(
    SPEC, valid_episode=EpisodeSpec(2, 1, 2), batch_size=64, ema_decay=0.9, smallest_crop=0.3))  # 3 steps an epoch


def run_here(model: ModelParams, shards: Path, state: dict[str, Any] | None = None) -> dict[int, dict[str, Any]]:
    """What a run in this process saves, by step."""
    states: dict[int, dict[str, Any]] = {}
    classes = training_classes(model, ShardFolder(shards))
    torch.manual_seed(0 if state is None else 99)
    method = build_method(model.method, classes.sample_shape, len(classes.names))
    task = load_task(model, ShardFolder(shards), Room(num_processes=0))

    def save(state: dict[str, Any]) -> None:
        states[state["step"]] = {name: copied(value) for name, value in state.items()}

    train(method, task, Callbacks(save=save), state=state)
    return states


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return value.clone() if isinstance(value, Tensor) else value


def test_a_run_on_shards_resumes_with_the_same_bits(small_shards: Path) -> None:
    """In the middle of an epoch, with an average of the weights and augmentation."""
    states = run_here(MODEL, small_shards)
    assert list(states) == [4, 8, 12]
    end, expected = leaves(run_here(MODEL, small_shards, states[4])[12]), leaves(states[12])
    assert end.keys() == expected.keys() and len(end) > 50
    for name, value in expected.items():
        assert torch.equal(value, end[name]) if isinstance(value, Tensor) else value == end[name], name


def test_the_stream_of_a_model_is_of_its_split_and_spec(small_shards: Path) -> None:
    task = load_task(MODEL, ShardFolder(small_shards), Room(num_processes=0))
    assert isinstance(task, ClassifierTask) and isinstance(task.data.stream, ShardStream)
    assert len(task.data.stream) == 200 and task.data.stream.reader.crop_spec.smallest == 0.3
    assert task.data.valid_classes is not None and task.data.valid_classes.num_classes == 2
    both = load_task(replace(MODEL, train_parts=("train", "valid")), ShardFolder(small_shards))
    assert both.data.valid_classes is None  # type: ignore[attr-defined]
    epoch = [task.batch(step, rank, 2, "cpu")[0] for step in range(4) for rank in range(2)]
    assert torch.bincount(torch.cat([batch.class_B for batch in epoch])[:200]).tolist() == [20] * 10


def test_workers_see_disjoint_halves_of_each_epoch(small_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by the places in the shards that each of them asks for."""
    seen: list[list[int]] = []
    for rank in range(2):
        task = load_task(replace(MODEL, training=replace(MODEL.training, batch_size=20)), ShardFolder(small_shards),
                         Room(num_processes=0))
        assert isinstance(task, ClassifierTask) and isinstance(task.data.stream, ShardStream)
        stream = task.data.stream
        read: list[int] = []
        with monkeypatch.context() as patch:
            asked = stream.positions
            patch.setattr(stream, "positions", lambda numbers, asked=asked, read=read: _kept(asked(numbers), read))
            list(task.batches(range(30), range(rank, rank + 1), 2, "cpu"))  # three epochs of ten steps
        seen.append(read)
    for epoch in range(3):
        halves = [set(read[epoch * 100:(epoch + 1) * 100]) for read in seen]
        assert len(halves[0]) == len(halves[1]) == 100 and halves[0] | halves[1] == set(range(200))


def _kept(positions: np.ndarray, read: list[int]) -> np.ndarray:
    read.extend(positions.tolist())
    return positions


def test_two_workers_train_as_one_does_in_two_parts(ray_session: None, small_shards: Path, tmp_path: Path) -> None:
    """So each sees its half of every step: batch normalisation, dropout and crops are those of the parts.

    Gradients are summed in another order; statistics of batch normalisation are the first worker's.
    """
    training = replace(MODEL.training, ema_decay=None, optimizer="sgd", steps=6, checkpoint_every=6)
    model = replace(MODEL, training=training)
    compute = ComputeParams(num_workers=2, threads_per_worker=1, device="cpu", precision="fp32")
    together, log = run_training("small", model, compute, ClusterParams(num_loaders=1),
                                 RunFiles(ShardFolder(small_shards), tmp_path))
    weights = together["model"]
    in_parts, whole = (run_here(replace(model, training=replace(training, accumulate=parts)), small_shards)[6]["model"]
                       for parts in (2, 1))
    names = [name for name in weights if "running" not in name and "num_batches" not in name]
    apart = max(float((weights[name] - in_parts[name]).abs().max()) for name in names)
    assert apart < 1e-5 < 1e-3 < max(float((weights[name] - whole[name]).abs().max()) for name in names)
    assert [line["step"] for line in log if "loss" in line] == [3, 6] and "valid_accuracy" in log[-1]
