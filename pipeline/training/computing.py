"""Computing the steps of a training: precision, compilation, and one process or several.

Imports no Ray, so that a machine without Ray can measure training.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.parallel import DistributedDataParallel

from matchnet.methods import Method
from matchnet.training import Precision


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """`auto` is bf16 where the device computes in it (elsewhere it is emulated, and slower), else fp32."""
    if wanted != "auto":
        return "bf16" if wanted == "bf16" else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    found = torch.cpu.get_capabilities()
    return "bf16" if found.get("avx512_bf16") or found.get("amx_bf16") else "fp32"


def ready_to_train(method: Method, compiled: bool, device: torch.device,
                   world_size: int) -> Method | DistributedDataParallel:
    """The method ready to train. It is compiled in place: names in its state and calls of validation stay."""
    torch.backends.cudnn.benchmark = device.type == "cuda"  # each step has the shapes of the one before
    if compiled:
        method.compile()
    if world_size == 1:
        return method
    return DistributedDataParallel(method, device_ids=[device] if device.type == "cuda" else None)


@contextmanager
def compiler_named() -> Iterator[None]:
    """Raises ValueError if code cannot be compiled: another try, as after the loss of a worker, cannot help."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).partition("\n\n")[0].split())
        raise ValueError(f"compute.compile is true, and torch.compile fails here: {reason}; install what is missing, "
                         "or write false") from error
