"""Memory that a worker uses on its machine."""

import resource
import sys

import torch

MIB = 2**20
BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """The most memory that this process has had so far, in MiB: resident, without its loaders', and of its GPU.

    The latter is what torch's allocator had handed out; None on a CPU.
    """
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS / MIB
    gpu = torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else None
    return {"peak_rss_mib": round(resident, 1), "peak_gpu_mib": gpu if gpu is None else round(gpu, 1)}
