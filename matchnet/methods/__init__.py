"""The methods that are compared: matching networks and the paper's baselines, one file each."""

from matchnet.methods.base import Batch, Method
from matchnet.methods.matching_network import MatchingNetwork, MatchingNetworkSpec
from matchnet.methods.pixels import Pixels, PixelsSpec

__all__ = ["Batch", "MatchingNetwork", "Method", "MethodSpec", "Pixels", "build_method"]

MethodSpec = MatchingNetworkSpec | PixelsSpec  # told apart by their `name`


def build_method(spec: MethodSpec, sample_shape: tuple[int, ...], num_classes: int) -> Method:
    """The method that a spec describes, with fresh weights from torch's global generator.

    Args:
        sample_shape: of one sample, (C, H, W) for images.
        num_classes: how many training classes there are; only a classifier needs it.
    """
    match spec:
        case MatchingNetworkSpec():
            return MatchingNetwork(spec, sample_shape)
        case PixelsSpec():
            return Pixels(spec)
