"""The allocator as training's workers have it."""

import os
import sys

from pipeline.system.memory import KEEP_FREED_MEMORY


def keep_freed_memory() -> None:
    """Begin this process anew with the workers' settings, unless it has them: malloc reads them when it starts."""
    if not KEEP_FREED_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **KEEP_FREED_MEMORY})
