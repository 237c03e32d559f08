"""How a training ends before its last step."""

import tempfile

from matchnet.messages import without_credentials


class TrainingError(ValueError):
    """Training ended before its last step; the text says why, and what to do before the next try."""


class WorkersLostError(RuntimeError):
    """A worker was killed, or ended by an error that may pass; the text says how."""


def full_disk(error: OSError) -> str:
    """The error of a full disk with the place and what to do, which only errors of our own say."""
    text = error.strerror or str(error)
    if ";" not in text:
        text = f"{error.filename or tempfile.gettempdir()}: {text}; free some space on that " \
               "disk, and the same command goes on from the last checkpoint"
    return without_credentials(text)
