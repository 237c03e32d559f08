"""Files with weights: written whole or not at all, read without running code (tensors and plain values alone)."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from matchnet.files import FULL_DISK, atomic_write, sha256_of
from matchnet.messages import said, shown

PLAIN_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
               torch.int8, torch.uint8, torch.bool)  # torch cannot compare numbers of other types, or copy them


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
        reason = f"{path}: {os.strerror(cause.errno)} while it was written, and nothing was replaced"
        raise OSError(cause.errno, f"{reason}; free some space on the disk of {path.parent.parent}, and the same "
                      "command goes on from the last checkpoint") from error


class _Written:
    """A file that keeps the system's error: torch.save replaces it by an error of its own."""

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
    """Read the tensors that `save_tensors` wrote, onto the CPU.

    Raises:
        CheckpointError: the file is missing, cut short, damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; run `dvc repro` to make it")
    return parse_tensors(path, str(path))


def parse_tensors(file: Path | io.BytesIO, origin: str) -> dict[str, Any]:
    """Read what `save_tensors` wrote; `origin` names the file in messages. Raises as `load_tensors`."""
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
        if not isinstance(name, str) or not _is_plain(weight):
            raise CheckpointError(f"{what}: {shown(name)} is no plain tensor; {again}")
        if weight.untyped_storage().nbytes() < weight.nbytes:
            raise CheckpointError(f"{what}: {shown(name)} of shape {shown(tuple(weight.shape))} has fewer numbers than "
                                  f"that; {again}")
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"{what}: {shown(name)} has numbers that are not finite; {again}")


def _is_plain(weight: object) -> bool:
    """Whether it is a tensor whose numbers are all there, one by one: not sparse, quantised, nested or on "meta"."""
    return (isinstance(weight, Tensor) and weight.layout == torch.strided and weight.dtype in PLAIN_TYPES
            and not weight.is_meta and not weight.is_nested)


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


def check_hash_in_name(path: Path) -> None:
    """Check torch.hub's convention: the SHA-256 of `model-0cc3c7bd.pth` begins with 0cc3c7bd; else CheckpointError."""
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if named and not (found := sha256_of(path)).startswith(named[1]):
        raise CheckpointError(f"{path}: its name says that its SHA-256 begins with {named[1]}, and it is {found}: cut "
                              "short, or another file; download it again")


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    lines = [f"{name}: expected {tuple(expected[name].shape)}, found nothing" for name in expected if name not in found]
    lines += [f"{name}: found {tuple(found[name].shape)}, expected nothing" for name in found if name not in expected]
    lines += [f"{name}: expected {tuple(expected[name].shape)}, found {tuple(found[name].shape)}"
              for name in expected if name in found and expected[name].shape != found[name].shape]
    return lines
