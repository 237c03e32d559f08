"""Files with weights: written whole or not at all, read without running code (tensors and plain values alone)."""

import fnmatch
import io
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from pyarrow.fs import FileSelector, LocalFileSystem
from torch import Tensor, nn

from pipeline.data.publishing import publish_file
from pipeline.files import FULL_DISK, atomic_write
from pipeline.messages import said, shown
from pipeline.storage import Place, place_of

STATE_FILE = "state.pt"
STATES_KEPT = 2  # of a run: the last, and one before it should the last be damaged


class CheckpointError(ValueError):
    """A file with weights that cannot be used; the text names it and says what to do."""


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """torch.save of tensors and plain values, atomically.

    Raises:
        OSError: the disk is full, ...; names the file, and says what to do.
    """
    written: _Written | None = None
    try:
        with atomic_write(path, "wb") as file:
            written = _Written(file)
            torch.save(content, written)  # type: ignore[arg-type]
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else written and written.error
        if not cause or cause.errno not in FULL_DISK:
            raise
        raise OSError(cause.errno, f"{path}: {os.strerror(cause.errno)} while it was written, and nothing was replaced; "
                      f"free some space on the disk of {path.parent.parent}, and the same command goes on from the last "
                      "checkpoint") from error


class _Written:
    """A file that keeps the error of the system, in whose place torch.save raises one of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


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
            return _checked_state(_parse(io.BytesIO(content), origin), _step_of(name), origin)
        except CheckpointError as error:
            print(f"{error}\nthe checkpoint before it is used instead", file=sys.stderr, flush=True)
    return None


def newest_step(run: Place) -> int | None:
    """The step of a run's last checkpoint, which is not read: it may be damaged. StorageError as `newest_state`."""
    names = fnmatch.filter(run.files(), f"step*/{STATE_FILE}")
    return _step_of(max(names)) if names else None


def _step_of(name: str) -> int:
    """Of `step00000100/state.pt`."""
    return int(name.partition("/")[0].removeprefix("step"))


def _checked_state(state: dict[str, Any], step: int, origin: str) -> dict[str, Any]:
    """Raises CheckpointError unless it is a state of that step, with finite weights."""
    if type(state.get("step")) is not int or state["step"] != step:
        raise CheckpointError(f"{origin}: its step is {shown(state.get('step'))}, and its folder's {step}: it is no "
                              "state of a training; delete it and run the same command again")
    check_weights(state.get("model"), f"{origin}: model")
    return state


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
        _require_unpacked(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{origin}: holds more than tensors and plain values, or is no file of weights; "
                              f"it is not loaded: {said(error)}") from error
    except Exception as error:  # torch raises errors of a dozen kinds for damaged bytes
        size = file.stat().st_size if isinstance(file, Path) else len(file.getvalue())
        raise CheckpointError(f"{origin}: cut short or damaged ({size:,} bytes); delete it and run the same command "
                              f"again: {said(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise CheckpointError(f"{origin}: holds a {type(content).__name__}, not values by name; delete it and run the "
                              "same command again")
    return content


def _require_unpacked(file: Path | io.BytesIO) -> None:
    """Raises ValueError for a zip that is compressed: torch.save's is not, and could not become larger than it is."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise ValueError("it is compressed")
    if isinstance(file, io.BytesIO):
        file.seek(0)


def check_weights(weights: object, what: str) -> None:
    """Raises CheckpointError, which begins with `what`, unless these are finite tensors by name."""
    again = "delete it and run the same command again"
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{what} is a {type(weights).__name__}, not weights by name; {again}")
    for name, weight in weights.items():
        if not isinstance(name, str) or not isinstance(weight, Tensor) or weight.layout != torch.strided:
            raise CheckpointError(f"{what}: {shown(name)} is no plain tensor; {again}")
        if weight.untyped_storage().nbytes() < weight.nbytes:
            raise CheckpointError(f"{what}: {shown(name)} of shape {shown(tuple(weight.shape))} has fewer numbers than "
                                  f"that; {again}")
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"{what}: {shown(name)} has numbers that are not finite; {again}")


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
