"""Files with weights: written whole or not at all, read without running code (tensors and plain values alone)."""

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.files import atomic_write

STATE_FILE = "state.pt"


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
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; `dvc repro` makes it") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: holds more than tensors and plain values, or is no file of weights; "
                              f"it is not loaded: {str(error).splitlines()[0]}") from error
    except (RuntimeError, EOFError, OSError) as error:
        reason = (str(error).splitlines() or ["nothing in it"])[0]
        raise CheckpointError(f"{path}: cut short or damaged ({path.stat().st_size:,} bytes); delete it and run the "
                              f"same command again: {reason}") from error


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The state of the last checkpoint of a run that can be read, or None; a damaged one is passed over aloud.

    Training is a function of the state, so an older checkpoint leads to the same weights, only later.
    """
    for path in sorted(folder.glob(f"step*/{STATE_FILE}"), reverse=True):
        try:
            return load_tensors(path)
        except CheckpointError as error:
            print(f"{error}\nthe checkpoint before it is used instead", file=sys.stderr, flush=True)
    return None


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
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
