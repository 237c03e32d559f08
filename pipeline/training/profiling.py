"""A profile of some training steps: a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

It watches and computes nothing: the run ends with the same weights, bit for bit.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

WAIT, WARM_UP, ACTIVE = 5, 2, 3  # steps: the first few are not like the others; the profiler's own start is costly


@contextmanager
def profiler(trace: Path | None, steps: int, device: torch.device) -> Iterator[Callable[[], None]]:
    """What to call after each step, so that `trace` gets a profile of the steps WAIT + WARM_UP + 1 to + ACTIVE.

    Args:
        trace: a `.json.gz`, written as soon as its last step is done; None profiles nothing.
        steps: that are left to do; of fewer than ten the last are shown.
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


def _write(trace: Path, watched: profile) -> None:
    """Whole or not at all; the name decides whether torch compresses it."""
    trace.parent.mkdir(parents=True, exist_ok=True)
    temporary = trace.with_name(f".{os.getpid()}.{trace.name}")
    try:
        watched.export_chrome_trace(str(temporary))
        os.replace(temporary, trace)
    finally:
        temporary.unlink(missing_ok=True)
