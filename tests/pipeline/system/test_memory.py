"""Freed memory is used again, in a thread as well: that is where Ray trains."""

import os
import subprocess
import sys

import pytest

from pipeline.system.memory import KEEP_FREED_MEMORY

PAGES_OF_A_BLOCK = 200 * 2**20 // 4096
FAULTS = """
import resource, threading, torch

def use_and_free():
    for times in range(30):
        if times == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(50 * 2**20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=use_and_free)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")
def test_a_thread_uses_freed_blocks_again() -> None:
    """Ten blocks of 200 MB: as the system has it, each is mapped anew."""

    def faults(**settings: str) -> int:
        plain = {name: value for name, value in os.environ.items() if name not in KEEP_FREED_MEMORY}
        done = subprocess.run([sys.executable, "-c", FAULTS], env={**plain, **settings}, capture_output=True, text=True,
                              check=True)
        return int(done.stdout)

    assert faults(**KEEP_FREED_MEMORY) < PAGES_OF_A_BLOCK / 2
    if faults() < 9 * PAGES_OF_A_BLOCK:
        pytest.skip("this system's malloc, or its pages, need no settings")
