"""How a training ends before its last step."""

import tempfile

from matchnet.messages import without_credentials


class TrainingError(ValueError):
    """Training ended before its last step, and another try would end in the same way; the text says why."""


class WorkersLostError(RuntimeError):
    """Workers ended without having done their work, more often than they are started again; the text says how."""


def full_disk(error: OSError) -> str:
    """The error of a full disk with the place and what to do, which only errors of our own say."""
    text = error.strerror or str(error)
    if ";" not in text:
        text = f"{error.filename or tempfile.gettempdir()}: {text}; free some space on that " \
               "disk, and the same command goes on from the last checkpoint"
    return without_credentials(text)
