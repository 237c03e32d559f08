"""Files with weights: whole or refused, with the reason."""

import errno
import math
import pickle
import re
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from faulty_storage import Faults, use_far_storage
from small_disk import disk_of
from torch import nn

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods import build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.model_file import ModelFile, read_model, write_model
from matchnet.preparation import Preparation
from matchnet.weights import CheckpointError, load_tensors, load_weights, save_tensors
from pipeline.system import storage
from pipeline.system.storage import location_of
from pipeline.training.checkpoint import newest_state, newest_step, save_state
from pipeline.training.log_copies import newest_logs

PREPARATION = Preparation(channels=1, size=16, kind="drawings", invert=True)
SHAPE = PREPARATION.sample_shape


def a_model(num_filters: int = 4) -> ModelFile:
    method = MatchingNetworkSpec(encoder=Conv4Spec(num_filters=num_filters))
    return ModelFile(model_name="small", method=method, preparation=PREPARATION, sample_shape=SHAPE,
                     num_classes=3, step=7, seed=1,
                     state_dict=build_method(method, SHAPE, 3).state_dict(), dataset_sha256="ab", split="all",
                     train_classes=["a", "b", "c"], seconds=1.5)


def save_step(folder, step: int) -> None:
    save_tensors(folder / f"step{step:08d}" / "state.pt", a_state(step, torch.full((2,), step)))


def a_state(step: int, weight: torch.Tensor, **changed: object) -> dict[str, object]:
    return {"step": step, "model": {"weight": weight}, "optimizer": {"state": {}, "param_groups": []}, "task": {},
            **changed}


def test_a_model_comes_back_as_it_was_written(tmp_path):
    path, model = tmp_path / "model.pt", a_model()
    write_model(path, model)
    back = read_model(path)
    assert (back.method, back.sample_shape, back.train_classes, back.step) == (model.method, SHAPE, ["a", "b", "c"], 7)
    assert back.preparation == PREPARATION
    weights = back.build(path).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict.items())


def test_an_untrained_method_has_a_model_file_too(tmp_path):
    method = PixelsSpec()
    write_model(tmp_path / "model.pt", ModelFile(
        model_name="pixels", method=method, preparation=PREPARATION, sample_shape=SHAPE, num_classes=3, step=0, seed=0,
        state_dict=build_method(method, SHAPE, 3).state_dict(), dataset_sha256="ab", split="all", train_classes=[],
        seconds=0.0))
    assert read_model(tmp_path / "model.pt").method == method


def test_another_architecture_is_refused_with_what_differs(tmp_path):
    small, large = a_model(4), a_model(8)
    with pytest.raises(CheckpointError) as refusal:
        load_weights(build_method(large.method, SHAPE, 3), small.state_dict, tmp_path / "model.pt")
    text = str(refusal.value)
    assert "model.pt: its weights are of another architecture" in text
    assert "encoder_f.blocks.0.0.weight: expected (8, 1, 3, 3), found (4, 1, 3, 3)" in text
    assert "restore the parameters it was made with" in text


def test_missing_and_unknown_weights_are_named(tmp_path):
    with pytest.raises(CheckpointError) as refusal:
        load_weights(nn.Linear(2, 3), {"weight": torch.zeros(3, 2), "scale": torch.zeros(1)}, tmp_path / "m.pt")
    assert "bias: expected (3,), found nothing" in str(refusal.value)
    assert "scale: found (1,), expected nothing" in str(refusal.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_cut_short_is_named(tmp_path, share):
    path = tmp_path / "model.pt"
    write_model(path, a_model())
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"model\.pt: cut short or damaged \([\d,]+ bytes\); delete it"):
        read_model(path)


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"format": 1, "method": pickle.Pickler}, path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        load_tensors(path)


def test_a_file_of_another_format_is_refused(tmp_path):
    save_tensors(tmp_path / "model.pt", {"format": 99})
    with pytest.raises(CheckpointError, match="format is 99, this version reads 2; delete it and train again"):
        read_model(tmp_path / "model.pt")


@pytest.mark.parametrize(("edit", "message"), [
    (lambda content: content.pop("format"), r"model\.pt: not a model file of matchnet: it holds model_name, method, "
     r"preparation and \d+ more; name a file that `python -m stages.train` wrote"),
    (lambda content: content.pop("split"), r"model\.pt: split is missing \(1 fields are\); delete it"),
    (lambda content: content["preparation"].update(scaling="-1 to 1"),
     r"preparation\.scaling: found '-1 to 1'; write one of 0 to 1; the file is of another version of matchnet"),
    (lambda content: content["preparation"].update(size=17), r"model small: samples have the shape \(1, 16, 16\), and "
     r"its preparation makes \(1, 17, 17\)"),
    (lambda content: content.update(preparation=None), "its preparation makes None"),
    (lambda content: content["method"].update(name="magic"), "method.name: found 'magic'"),
])
def test_a_file_that_does_not_say_all_is_refused(tmp_path, edit, message):
    path = tmp_path / "model.pt"
    write_model(path, a_model())
    content = load_tensors(path)
    edit(content)
    save_tensors(path, content)
    with pytest.raises(CheckpointError, match=message):
        read_model(path)


FIELDS = {
    "method": ([None, 7, "matching_network", [], {}, {"name": ["matching_network"]}, {1: 2}, torch.zeros(2)], "method"),
    "preparation": ([7, "0 to 1", [1, 16], {}, {"channels": 10**12, "size": 16}], "preparation"),
    "format": ([None, "2", 2.0, True, [2], torch.zeros(2)], "format is "),
    "num_classes": ([None, "3", 3.0, True, -1, math.nan, [3], 2**63], "num_classes is .*, not a whole number"),
    "step": ([None, "7", 7.5, -1, math.nan, {}, 10**30], "step is .*, not a whole number"),
    "seconds": ([None, "1", -1, math.nan, math.inf, [1.0]], "seconds is .*, not a number of seconds"),
    "sample_shape": ([None, 16, "1x16x16", [], [1, 16], [1, 16, 0], [1, 16, 16.0], [1, math.nan, 16],
                      (1, 10**12, 16), {"C": 1}], "sample.shape|samples have the shape"),
    "model_name": ([None, 7, ["small"]], "model_name is .*, not a text"),
    "dataset_sha256": ([None, 7], "dataset_sha256 is .*, not a text"),
    "train_classes": ([None, "abc", [1, 2], {"a": 1}, [["a"]]], "train_classes is .*, not a list of names"),
    "state_dict": ([None, [torch.zeros(1)], {1: torch.zeros(1)}, {"w": 1.0}, {"w": [1.0]}],
                   r"state_dict.* (is a|no plain tensor)"),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, (values, _) in FIELDS.items()
                                              for value in values])
def test_a_field_of_a_model_file_that_no_training_writes_is_refused(tmp_path, field, value):
    with pytest.raises(CheckpointError, match=FIELDS[field][1]) as refusal:
        read_changed(tmp_path / "model.pt", **{field: value})
    assert str(refusal.value).startswith(f"{tmp_path / 'model.pt'}: ") and "again" in str(refusal.value)


@pytest.mark.parametrize("field", ["method", "sample_shape", "num_classes", "state_dict", "step", "seed", "seconds",
                                   "dataset_sha256", "split", "train_classes", "model_name"])
def test_a_field_of_a_model_file_that_is_missing_is_named(tmp_path, field):
    with pytest.raises(CheckpointError, match=rf"model\.pt: {field} is missing .*train again"):
        read_changed(tmp_path / "model.pt", left_out=field)


@pytest.mark.parametrize(("changed", "message"), [
    ({"num_classes": 10**12}, r"a size is 1,000,000,000,000, and none of its weights has that"),
    ({"method": {"name": "matching_network", "encoder": {"name": "conv4", "num_filters": 10**12}}},
     r"a size is 1,000,000,000,000, and none of its weights has that"),
    ({"method": {"name": "matching_network", "encoder": {"name": "conv4", "num_filters": -4}}}, "num_filters"),
    ({"sample_shape": [10**12], "preparation": None}, "a size is 1,000,000,000,000")])
def test_a_model_file_of_impossible_sizes_takes_no_memory(tmp_path, changed, message):
    path = tmp_path / "model.pt"
    with pytest.raises(CheckpointError, match=message) as refusal:
        read_changed(path, **changed).build(path)
    assert str(refusal.value).startswith(f"{path}: ")


def strange(weight: torch.Tensor, kind: str) -> torch.Tensor:
    match kind:
        case "quantised":
            return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
        case "meta":
            return weight.to("meta")
        case "sparse":
            return weight.to_sparse()
        case "nested":
            return torch.nested.nested_tensor([weight[0], weight[1]])
        case "not a number":
            return weight * torch.nan
        case "infinite":
            return weight + torch.inf
        case _:
            return weight.to(getattr(torch, kind))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["quantised", "float8_e4m3fn", "complex64", "uint16", "meta", "sparse", "nested",
                                  "not a number", "infinite"])
def test_weights_of_a_model_file_that_cannot_be_used_are_named(tmp_path, kind):
    name, weights = "encoder_f.blocks.0.0.weight", a_model().state_dict
    reason = "has numbers that are not finite" if kind in ("not a number", "infinite") else "is no plain tensor"
    with pytest.raises(CheckpointError, match=rf"model\.pt: state_dict: '{name}' {reason}; delete it and run the same"):
        read_changed(tmp_path / "model.pt", state_dict={**weights, name: strange(weights[name], kind)})


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_precision_are_read(tmp_path, kind):
    weights = {name: weight.to(kind) for name, weight in a_model().state_dict.items()}
    assert read_changed(tmp_path / "model.pt", state_dict=weights).state_dict.keys() == weights.keys()


def read_changed(path: Path, left_out: str = "", **changed: object) -> ModelFile:
    """Write a model file, change some of its fields, and read it."""
    write_model(path, a_model())
    content = load_tensors(path) | changed
    content.pop(left_out, None)
    torch.save(content, path)
    return read_model(path)


def test_a_file_of_one_tensor_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt: holds a Tensor, not values by name; delete it and run"):
        read_model(tmp_path / "model.pt")


def test_a_missing_file_says_what_makes_it(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such file; run `dvc repro` to make it"):
        read_model(tmp_path / "model.pt")


def test_the_newest_state_is_taken_up(tmp_path):
    assert newest_state(location_of(tmp_path)) is None
    for step in (9, 10, 100):
        save_step(tmp_path, step)
    assert newest_state(location_of(tmp_path))["step"] == 100


def test_the_last_good_state_serves_when_the_newest_is_damaged(tmp_path, capfd):
    save_step(tmp_path, 10)
    save_step(tmp_path, 20)
    damaged = tmp_path / "step00000020" / "state.pt"
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert newest_state(location_of(tmp_path))["step"] == 10
    said = capfd.readouterr().err
    assert str(damaged) in said and "the checkpoint before it is used instead" in said


def test_the_last_two_states_are_kept_and_nothing_else_is_touched(tmp_path):
    """Also of those that an earlier driver left behind."""
    for name in ("step00000010", "step00000020", "step00000040", *(others := ("other", "step00000010.bak", "step1"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").touch()
    save_state(location_of(tmp_path), {"step": 30})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*others, "step00000020", "step00000030", "step00000040"])
    assert [path.name for path in (tmp_path / "step00000030").iterdir()] == ["state.pt"]


def test_a_state_is_taken_up_from_storage_far_away(tmp_path, monkeypatch):
    use_far_storage(tmp_path, Faults(tmp_path / "opened.txt"), monkeypatch, (sys.modules[__name__],))
    run = location_of("far://small")
    for step in (10, 20, 30):
        save_state(run, a_state(step, torch.ones(3) * step))
    state = newest_state(run)
    assert state is not None and state["step"] == 30 and state["model"]["weight"].tolist() == [30, 30, 30]
    assert run.files() == ["step00000020/state.pt", "step00000030/state.pt"]


def test_a_run_at_an_address_is_taken_up(tmp_path, monkeypatch, capfd):
    faults = Faults(tmp_path / "opened.log")
    use_far_storage(tmp_path, faults, monkeypatch, (sys.modules[__name__],))
    assert newest_state(location_of("far://run")) is None
    for step in (10, 20):
        save_step(tmp_path / "run", step)
    assert newest_state(location_of("far://run"))["step"] == 20
    faults.cut = 100
    assert newest_state(location_of("far://run")) is None
    said = capfd.readouterr().err
    assert "far://run/step00000020/state.pt: cut short or damaged (100 bytes)" in said
    assert "far://run/step00000010/state.pt: cut short" in said


def test_storage_that_fails_is_not_taken_for_a_run_without_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.001)
    lost = ConnectionResetError(errno.ECONNRESET, "the line is dead")
    faults = Faults(tmp_path / "log", {"state.pt": [lost] * storage.ATTEMPTS})
    use_far_storage(tmp_path, faults, monkeypatch, (sys.modules[__name__],))
    save_step(tmp_path / "run", 10)
    with pytest.raises(storage.StorageError, match=r"step00000010/state\.pt: gave up after 4 attempts: .*line is dead"):
        newest_state(location_of("far://run"))


def test_writing_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.pt"
    save_tensors(path, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_tensors(path, {"step": lambda: 2})
    assert load_tensors(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


@pytest.fixture
def small_disk(tmp_path):
    with disk_of("256k", tmp_path / "disk") as disk:
        yield disk


def test_a_full_disk_is_said_with_the_folder_and_what_to_do(small_disk):
    """torch.save alone says `unexpected pos 64 vs 0`."""
    save_step(small_disk, 10)
    message = (rf"{small_disk}/step00000020/state\.pt: No space left on device while it was written, and nothing was "
               rf"replaced; free some space on the disk of {small_disk}, and the same command goes on from the last")
    with pytest.raises(OSError, match=message) as raised:
        save_state(location_of(small_disk), {"step": 20, "model": {"weight": torch.zeros(100_000)}})
    assert raised.value.errno == errno.ENOSPC
    assert newest_state(location_of(small_disk))["step"] == 10
    assert [path.name for path in small_disk.rglob("*.*")] == ["state.pt"], "nothing is left of what was cut short"


STATES = {
    "a list": ([1, 2], "holds a list, not values by name; delete it and run the same command again"),
    "numbers by number": ({1: 2}, "holds a dict, not values by name"),
    "another step": ({"step": 30, "model": {}}, "its step is 30, and its folder's 20: it is no state of a training"),
    "a large step": ({"step": 10**12, "model": {}}, "its step is 1000000000000, and its folder's 20"),
    "no step": ({"model": {}}, "its step is None, and its folder's 20"),
    "no model": ({"step": 20}, "model is a NoneType, not weights by name; delete it"),
    "no tensor": ({"step": 20, "model": {"w": 1.0}}, "model: 'w' is no plain tensor; delete it"),
    "sparse": ({"step": 20, "model": {"w": torch.ones(3).to_sparse()}}, "model: 'w' is no plain tensor"),
    "not finite": ({"step": 20, "model": {"w": torch.tensor([1.0, torch.nan])}},
                   "model: 'w' has numbers that are not finite; delete it"),
    "no optimizer": (a_state(20, torch.ones(3), optimizer=None), "optimizer is None, not the state of an optimizer"),
    "an optimizer's half": (a_state(20, torch.ones(3), optimizer={"state": {}}),
                            "optimizer is {'state': {}}, not the state of an optimizer; delete it and run the same"),
    "no task": (a_state(20, torch.ones(3), task=[1]), r"task is \[1\], not values by name; delete it and run the same"),
    "no weights beside their average": (a_state(20, torch.ones(3), trained=7), "trained is a int, not weights by name"),
    "one number for all": ({"step": 20, "model": {"w": torch.ones(1).expand(10**6, 10**6)}},
                           r"model: 'w' of shape \(1000000, 1000000\) has fewer numbers than that; delete it"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_checkpoint_that_is_none_is_named_and_the_one_before_it_serves(tmp_path, capfd, name):
    content, message = STATES[name]
    save_step(tmp_path, 10)
    path = tmp_path / "step00000020" / "state.pt"
    path.parent.mkdir()
    torch.save(content, path)
    assert newest_state(location_of(tmp_path))["step"] == 10
    said = capfd.readouterr().err
    assert re.search(rf"^{path}: {message}", said) and said.endswith("the checkpoint before it is used instead\n")


@pytest.mark.parametrize("name", ["step00000020_old", "step00000020.bak", "step_20", "step20", "step00000020 copy"])
def test_a_folder_with_a_name_of_its_own_is_no_checkpoint(tmp_path, name):
    save_step(tmp_path, 10)
    save_step(tmp_path, 20)
    (tmp_path / "step00000020").rename(tmp_path / name)
    assert newest_state(location_of(tmp_path))["step"] == 10 and newest_step(location_of(tmp_path)) == 10
    (tmp_path / "step00000010" / "log.jsonl").touch()
    (tmp_path / name / "log.jsonl").touch()
    assert newest_logs(location_of(f"file://{tmp_path}")).path == str(tmp_path / "step00000010")


def test_a_compressed_file_of_weights_is_not_unpacked(tmp_path):
    """It could say that a kilobyte is a terabyte."""
    save_tensors(tmp_path / "plain.pt", {"weight": torch.zeros(100_000)})
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, \
            zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for record in plain.infolist():
            bomb.writestr(record.filename, plain.read(record))
    with pytest.raises(CheckpointError, match=r"bomb\.pt: cut short or damaged \([\d,]+ bytes\); .* it is compressed"):
        load_tensors(tmp_path / "bomb.pt")


def test_damaged_bytes_are_one_line_whatever_torch_says_of_them(tmp_path):
    path = tmp_path / "model.pt"
    write_model(path, a_model())
    whole = path.read_bytes()
    for place in range(0, len(whole), 997):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1:])
        try:
            load_tensors(path)
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
