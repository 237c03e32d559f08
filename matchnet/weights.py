"""Files with weights: written whole or not at all, read without running code (tensors and plain values alone)."""

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from matchnet.files import atomic_write, sha256_of


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
    return parse_tensors(path, str(path))


def parse_tensors(file: Path | io.BytesIO, origin: str) -> dict[str, Any]:
    """What `save_tensors` wrote; `origin` is where it is from, for messages. Raises as `load_tensors`."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{origin}: holds more than tensors and plain values, or is no file of weights; "
                              f"it is not loaded: {str(error).splitlines()[0]}") from error
    except (RuntimeError, EOFError, OSError) as error:
        reason = (str(error).splitlines() or ["nothing in it"])[0]
        size = file.stat().st_size if isinstance(file, Path) else len(file.getvalue())
        raise CheckpointError(f"{origin}: cut short or damaged ({size:,} bytes); delete it and run the same command "
                              f"again: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{origin}: holds a {type(content).__name__}, and a file of weights holds names with "
                              "their values; name another file")
    return content


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
    """torch.hub's convention: `model-0cc3c7bd.pth` has a SHA-256 that begins so. CheckpointError if it has not."""
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
