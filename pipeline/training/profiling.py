"""A profile of some training steps: a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

It watches and computes nothing: the run ends with the same weights, bit for bit.
"""

import posixpath
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from matchnet.messages import without_credentials
from pipeline.data.nodes.upload import upload_file
from pipeline.system.storage import StorageError, location_of

WAIT, WARM_UP, ACTIVE = 5, 2, 3  # steps: the first few are not like the others; the profiler's own start is costly


@contextmanager
def profiler(trace: str | None, steps: int, device: torch.device) -> Iterator[Callable[[], None]]:
    """A function to call after each step; `trace` gets a profile of the ACTIVE steps after the first WAIT + WARM_UP.

    Args:
        trace: path or address of a `.json.gz`, written as soon as its last step is done; None profiles nothing.
        steps: steps that are left to do; if they are fewer than ten, the last ones are profiled.
    """
    if trace is None or steps == 0:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    active = min(ACTIVE, steps)
    warm_up = min(WARM_UP, steps - active)
    wait = min(WAIT, steps - active - warm_up)
    with profile(activities=activities, record_shapes=True, on_trace_ready=partial(_write, trace),
                 schedule=schedule(wait=wait, warmup=warm_up, active=active, repeat=1)) as watching:
        yield watching.step


def _write(trace: str, watched: profile) -> None:
    """Write the trace whole or not at all; its name decides on compression. A failed upload does not end the run."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder, posixpath.basename(trace))
        watched.export_chrome_trace(str(exported))
        try:
            upload_file(exported, location_of(trace))
        except (OSError, StorageError) as error:
            print(without_credentials(f"{trace}: the profile is lost: {error}"), file=sys.stderr, flush=True)
