"""Facts of this machine, or of the container that this process is in (Linux's cgroups, version 2)."""

import errno
import math
import os
import resource
import shutil
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")
OTHER_FILES = 256  # other files that a process may open: sockets, pipes, libraries, logs


def cores() -> int:
    """Cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _of_container("cpu.max").partition(" ")
    return min(count, math.ceil(int(quota) / int(period))) if quota.isdigit() else count


def available_memory() -> int:
    """Bytes that processes may take without pushing others out."""
    free, limit = psutil.virtual_memory().available, _of_container("memory.max")
    if not limit.isdigit():
        return free
    files = dict(line.split() for line in _of_container("memory.stat").splitlines()).get("inactive_file", "0")
    return min(free, int(limit) - int(_of_container("memory.current")) + int(files))


def memory_to_share() -> int:
    """Bytes that processes may share: half of the machine's, as a rule; 64 MiB in a container started without more."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else available_memory()


def allow_open_files(more: int) -> None:
    """Raise this process's soft limit of open files, if need be, so that it can open so many more.

    Raises:
        OSError: its hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(os.listdir("/dev/fd")) + more + OTHER_FILES
    if needed <= soft or soft == resource.RLIM_INFINITY:
        return
    if needed > hard and hard != resource.RLIM_INFINITY:
        raise OSError(errno.EMFILE, f"{needed:,} open files are needed, {more:,} of them at once, and this process may "
                      f"have {hard:,} (its hard limit): raise that (`ulimit -Hn`; on Linux also nofile in "
                      "/etc/security/limits.conf, or the container's --ulimit)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _of_container(name: str) -> str:
    """Text of a container's cgroup file; empty outside of a container."""
    file = CGROUPS / name
    return file.read_text().strip() if file.exists() else ""
