"""Conv-4: four blocks of 3 x 3 convolution, batch normalisation, 2 x 2 max-pooling and ReLU.

Vinyals et al. 2016, section 4.1.1: "a simple yet powerful CNN".
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

RELU = 3  # its position in a block


@dataclass(frozen=True)
class Conv4Spec:
    """Blocks of convolution, batch normalisation, ReLU and pooling.

    64 filters and 4 blocks make 1 x 1 x 64 of 28 x 28 pixels, as in the paper. Larger images leave more numbers.

    Args:
        num_filters: filters of each block.
        num_blocks: how many blocks there are. Each halves the sides.
        last_relu: false leaves out the last block's ReLU, so that an embedding has numbers of both signs, and cosines
            use all of [-1, 1]  [Gidaris and Komodakis 2018, section 3.2].
    """

    name: Literal["conv4"] = "conv4"
    num_filters: int = 64
    num_blocks: int = 4
    last_relu: bool = True

    def __post_init__(self) -> None:
        for field in ("num_filters", "num_blocks"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")


class Conv4(nn.Module):
    """image_BCHW float -> embedding_BD, D = num_filters * (H // 2^blocks) * (W // 2^blocks).

    Raises:
        ValueError: samples that are no images; an image too small for the blocks, whose last grid would be empty.
    """

    def __init__(self, spec: Conv4Spec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(sample_shape) != 3:
            raise ValueError(f"samples of shape {sample_shape}; conv4 takes images (channels, height, width): "
                             f"text takes bag_of_words, window or bilstm")
        channels, height, width = sample_shape
        shrunk = 2**spec.num_blocks
        if min(height, width) < shrunk:
            raise ValueError(f"images of {height} x {width} with {spec.num_blocks} blocks that halve them: nothing is "
                             f"left; images of at least {shrunk} x {shrunk}, or fewer blocks")
        self.embedding_size = spec.num_filters * (height // shrunk) * (width // shrunk)
        sizes = [channels] + [spec.num_filters] * spec.num_blocks
        blocks = [conv_block(*pair) for pair in pairwise(sizes)]
        if not spec.last_relu:
            blocks[-1][RELU] = nn.Identity()
        self.blocks = nn.Sequential(*blocks)
        # Channels last is 1.5 times as fast as the default for these convolutions, on CPUs as on GPUs.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.blocks(image_BCHW).flatten(1)


def conv_block(channels_in: int, channels_out: int) -> nn.Sequential:
    # No bias: batch normalisation subtracts it again. ReLU after the pooling gives the numbers and gradients of ReLU
    # before it, since both keep the order of numbers; it has a quarter of them to read and write.
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out),
                         nn.MaxPool2d(2), nn.ReLU(inplace=True))
