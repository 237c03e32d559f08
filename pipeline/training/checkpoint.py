"""The checkpoints of a run: its state after some steps, written whole or not at all, read without running code."""

import io
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector, LocalFileSystem

from matchnet.messages import shown
from matchnet.weights import CheckpointError, check_weights, parse_tensors, save_tensors
from pipeline.data.nodes.upload import upload_file
from pipeline.system.progress import say
from pipeline.system.storage import Location

STATE_FILE = "state.pt"
CHECKPOINT = re.compile(r"step[0-9]{8,}")  # a folder of ours; a copy under another name is not read or removed
STATES_KEPT = 2  # states of a run: the last, and the one before it in case the last is damaged


def newest_state(run: Location) -> dict[str, Any] | None:
    """The state of a run's last readable checkpoint, or None; a damaged checkpoint is reported and passed over.

    Training is a function of the state, so an older checkpoint leads to the same weights, only later.

    Raises:
        StorageError: the storage cannot be read: whether there is a checkpoint is not known.
    """
    for name in sorted(files_of_checkpoints(run, STATE_FILE), reverse=True):
        content, origin = (run / name).read(), str(run / name)
        try:
            return _checked_state(parse_tensors(io.BytesIO(content), origin), _step_of(name), origin)
        except CheckpointError as error:
            say(f"{error}\nthe checkpoint before it is used instead")
    return None


def newest_step(run: Location) -> int | None:
    """The step of a run's last checkpoint, which is not read: it may be damaged. StorageError as `newest_state`."""
    return max(map(_step_of, files_of_checkpoints(run, STATE_FILE)), default=None)


def files_of_checkpoints(run: Location, file: str) -> list[str]:
    """Names of the files of that name in the folders of checkpoints, in the folder of a run."""
    return [name for name in run.files() if re.fullmatch(rf"{CHECKPOINT.pattern}/{re.escape(file)}", name)]


def _step_of(name: str) -> int:
    """The step in the name of a checkpoint's file, `step00000100/state.pt`."""
    return int(name.partition("/")[0].removeprefix("step"))


def _checked_state(state: dict[str, Any], step: int, origin: str) -> dict[str, Any]:
    """Raises CheckpointError unless it is a state of that step, with finite weights and all that `save` was given."""
    if type(state.get("step")) is not int or state["step"] != step:
        raise CheckpointError(f"{origin}: its step is {shown(state.get('step'))}, and its folder's {step}: it is no "
                              "state of a training; delete it and run the same command again")
    for name in ("model", "trained"):  # `trained` is there if `model` is an average
        if name in state or name == "model":
            check_weights(state.get(name), f"{origin}: {name}")
    optimizer = state.get("optimizer")
    if not (isinstance(optimizer, dict) and isinstance(optimizer.get("state"), dict)
            and isinstance(optimizer.get("param_groups"), list)):
        raise CheckpointError(f"{origin}: optimizer is {shown(optimizer)}, not the state of an optimizer; delete it "
                              "and run the same command again")
    if not isinstance(state.get("task"), dict):
        raise CheckpointError(f"{origin}: task is {shown(state.get('task'))}, not values by name; delete it and run "
                              "the same command again")
    return state


def checkpoint_folder(step: int) -> str:
    """The name of a checkpoint's folder in that of its run; names sort as steps do."""
    return f"step{step:08d}"


def save_state(run: Location, state: dict[str, Any]) -> None:
    """Write the checkpoint of `state["step"]`, whole or not at all; then forget all before the last STATES_KEPT.

    Ray is not told of it. Ray copies file by file, so that a kill cuts a checkpoint short. It keeps a list of a run's
    checkpoints, and refuses the run for good when the list is cut short or names a missing checkpoint. It removes only
    checkpoints that were written since the driver's start.
    """
    target = run / checkpoint_folder(state["step"]) / STATE_FILE
    if isinstance(run.filesystem, LocalFileSystem):
        save_tensors(Path(target.path), state)
    else:
        with tempfile.TemporaryDirectory() as folder:
            save_tensors(Path(folder, STATE_FILE), state)
            upload_file(Path(folder, STATE_FILE), target)
    _forget_older_states(run, state["step"])


def _forget_older_states(run: Location, step: int) -> None:
    with suppress(OSError):  # storage may fail now: after the next checkpoint there is another chance
        folders = [info for info in run.filesystem.get_file_info(FileSelector(run.path, allow_not_found=True))
                   if CHECKPOINT.fullmatch(info.base_name) and info.base_name <= checkpoint_folder(step)]
        for info in sorted(folders, key=lambda info: info.base_name)[:-STATES_KEPT]:
            run.filesystem.delete_dir(info.path)
