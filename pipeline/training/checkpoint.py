"""Files with weights: written whole or not at all, read without running code (tensors and plain values alone)."""

import fnmatch
import io
import pickle
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pyarrow.fs import FileSelector, LocalFileSystem
from torch import Tensor, nn

from pipeline.data.publishing import publish_file
from pipeline.files import atomic_write
from pipeline.storage import Place, place_of

STATE_FILE = "state.pt"
STATES_KEPT = 2  # of a run: the last, and one before it should the last be damaged


class CheckpointError(ValueError):
    """A file with weights that cannot be used; the text names it and says what to do."""


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """torch.save of tensors and plain values, atomically."""
    with atomic_write(path, "wb") as file:
        torch.save(content, file)


def load_tensors(path: Path) -> dict[str, Any]:
    """What `save_tensors` wrote, on the CPU.

    Raises:
        CheckpointError: the file is missing, cut short, damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; `dvc repro` makes it")
    return _parse(path, str(path))


def newest_state(folder: Path | str) -> dict[str, Any] | None:
    """The state of the last checkpoint of a run that can be read, or None; a damaged one is passed over aloud.

    Training is a function of the state, so an older checkpoint leads to the same weights, only later.

    Args:
        folder: of the run, on this machine or an address; there, as `save_state` writes them, `step00000100/state.pt`.
    Raises:
        StorageError: the storage cannot be read: whether there is a checkpoint is not known.
    """
    place = place_of(folder)
    for name in sorted(fnmatch.filter(place.files(), f"step*/{STATE_FILE}"), reverse=True):
        content, origin = (place / name).read(), str(place / name)
        try:
            return _parse(io.BytesIO(content), origin)
        except CheckpointError as error:
            print(f"{error}\nthe checkpoint before it is used instead", file=sys.stderr, flush=True)
    return None


def newest_step(run: Place) -> int | None:
    """The step of a run's last checkpoint, which is not read: it may be damaged. StorageError as `newest_state`."""
    names = fnmatch.filter(run.files(), f"step*/{STATE_FILE}")
    return int(max(names).partition("/")[0].removeprefix("step")) if names else None


def checkpoint_folder(step: int) -> str:
    """The name of a checkpoint's folder in that of its run; names sort as steps do."""
    return f"step{step:08d}"


def save_state(run: Place, state: dict[str, Any]) -> None:
    """Write the checkpoint of `state["step"]`, whole or not at all; then forget all before the last STATES_KEPT.

    Ray is told nothing of it: it copies file by file, so that a kill cuts one short; it keeps a list of a run's
    checkpoints, and refuses the run for good when the list is cut short or names one that is gone; and it forgets those
    alone that were written since the driver's start.
    """
    target = run / checkpoint_folder(state["step"]) / STATE_FILE
    if isinstance(run.filesystem, LocalFileSystem):
        save_tensors(Path(target.path), state)
    else:
        with tempfile.TemporaryDirectory() as folder:
            save_tensors(Path(folder, STATE_FILE), state)
            publish_file(Path(folder, STATE_FILE), target)
    _forget_older_states(run, state["step"])


def _forget_older_states(run: Place, step: int) -> None:
    with suppress(OSError):  # of a storage that fails now: after the next checkpoint there is another chance
        folders = [info for info in run.filesystem.get_file_info(FileSelector(run.path, allow_not_found=True))
                   if fnmatch.fnmatch(info.base_name, "step*") and info.base_name <= checkpoint_folder(step)]
        for info in sorted(folders, key=lambda info: info.base_name)[:-STATES_KEPT]:
            run.filesystem.delete_dir(info.path)


def _parse(file: Path | io.BytesIO, origin: str) -> dict[str, Any]:
    """What `save_tensors` wrote; `origin` is where it is from, for messages."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{origin}: holds more than tensors and plain values, or is no file of weights; "
                              f"it is not loaded: {str(error).splitlines()[0]}") from error
    except (RuntimeError, EOFError, OSError) as error:
        reason = (str(error).splitlines() or ["nothing in it"])[0]
        size = file.stat().st_size if isinstance(file, Path) else len(file.getvalue())
        raise CheckpointError(f"{origin}: cut short or damaged ({size:,} bytes); delete it and run the same command "
                              f"again: {reason}") from error


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], path: Path | str) -> None:
    """Put weights into a module of the same architecture.

    Raises:
        CheckpointError: another architecture; names what differs.
    """
    differences = list(_differences(module.state_dict(), weights))
    if differences:
        listed = "".join(f"\n  {line}" for line in differences[:8])
        more = f"\n  and {len(differences) - 8} more" if len(differences) > 8 else ""
        raise CheckpointError(f"{path}: its weights are of another architecture than the parameters describe:"
                              f"{listed}{more}\nrestore the parameters it was made with, or delete it and train again")
    module.load_state_dict(weights)


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    lines = [f"{name}: expected {tuple(expected[name].shape)}, found nothing" for name in expected if name not in found]
    lines += [f"{name}: found {tuple(found[name].shape)}, expected nothing" for name in found if name not in expected]
    lines += [f"{name}: expected {tuple(expected[name].shape)}, found {tuple(found[name].shape)}"
              for name in expected if name in found and expected[name].shape != found[name].shape]
    return lines
