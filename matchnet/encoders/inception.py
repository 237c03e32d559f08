"""Inception v3, the encoder of the ImageNet tasks.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, Rethinking the Inception architecture for computer vision (arXiv
1512.00567): figures and sections cited below are theirs. The figures are data here, and each block is built from its
figure. The authors' released network departs from their Table 1 and Figure 5: it has a 1 x 1 convolution in the stem,
and a 5 x 5 in Mixed_5. We follow the network. Names and shapes are those of torchvision's `inception_v3`, whose
published weights come from it. Grids of 35, 17 and 8 are those of images of 299 px.

Shapes: B images, C channels, H W pixels or places of a grid, D embedding.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 75  # px, the shortest side: the last grid is then 1 x 1
LEAST_FILTERS = 16  # filters of a layer at any width: TF-slim's min_depth; its depth_multiplier is our width
INITIAL_STD = 0.1  # standard deviation of first weights; torchvision truncates at 2, so hardly at all
AUXILIARY_POOL, AUXILIARY_GRID = 5, 5  # 17 x 17 pooled by 5 x 5 with stride 3 is 5 x 5, all that conv1 takes


@dataclass(frozen=True)
class InceptionSpec:
    """Inception v3. Width 1 is the paper's network: 2,048 numbers an image, and 5.7 billion multiplications at 299 px.

    Args:
        width: factor of every layer's number of filters. Each layer keeps at least 16. A width of 0.25 trains in
            minutes on a CPU.
        batch_statistics: false makes every batch normalisation use its running statistics in training too, and leave
            them as they are. Use it for weights that were trained before, on minibatches as small as an episode.
    """

    name: Literal["inception_v3"] = "inception_v3"
    width: float = 1.0
    batch_statistics: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise ValueError(f"width is {self.width}; it must be above 0 (1 is the paper's network)")


@dataclass(frozen=True)
class Conv:
    """A convolution of a figure, without bias, then batch normalisation and ReLU; `filters` are those at width 1."""

    name: str
    filters: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padded: bool = True  # with zeros, so that the grid keeps its size


@dataclass(frozen=True)
class Pool:
    """3 x 3 pooling: the mean at every place, the maximum at every other."""

    kind: Literal["mean", "maximum"]


Step = Conv | Pool | tuple[Conv, ...]  # several convolutions of the same input stand side by side
Branch = tuple[Step, ...]
Figure = tuple[Branch, ...]

STEM: Branch = (Conv("Conv2d_1a_3x3", 32, 3, stride=2, padded=False), Conv("Conv2d_2a_3x3", 32, 3, padded=False),
                Conv("Conv2d_2b_3x3", 64, 3), Pool("maximum"), Conv("Conv2d_3b_1x1", 80),
                Conv("Conv2d_4a_3x3", 192, 3, padded=False), Pool("maximum"))


def figure_5(pool_filters: int) -> Figure:
    """On the 35 x 35 grid: a 5 x 5 convolution as two of 3 x 3 (one 5 x 5 is left as it was)."""
    return ((Conv("branch1x1", 64),),
            (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5)),
            (Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3)),
            (Pool("mean"), Conv("branch_pool", pool_filters)))


def figure_6(narrow: int) -> Figure:
    """On the 17 x 17 grid: n x n convolutions, n = 7, as 1 x n and n x 1."""
    return ((Conv("branch1x1", 192),),
            (Conv("branch7x7_1", narrow), Conv("branch7x7_2", narrow, (1, 7)), Conv("branch7x7_3", 192, (7, 1))),
            (Conv("branch7x7dbl_1", narrow), Conv("branch7x7dbl_2", narrow, (7, 1)),
             Conv("branch7x7dbl_3", narrow, (1, 7)), Conv("branch7x7dbl_4", narrow, (7, 1)),
             Conv("branch7x7dbl_5", 192, (1, 7))),
            (Pool("mean"), Conv("branch_pool", 192)))


# On the 8 x 8 grid: 3 x 3 convolutions as 1 x 3 and 3 x 1 side by side, which expands the bank of filters.
FIGURE_7: Figure = (
    (Conv("branch1x1", 320),),
    (Conv("branch3x3_1", 384), (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1)))),
    (Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, 3),
     (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1)))),
    (Pool("mean"), Conv("branch_pool", 192)))

# From one grid to the next: strided convolutions beside a strided pooling, so that no layer is a bottleneck.
FIGURE_10_TO_17: Figure = (
    (Conv("branch3x3", 384, 3, stride=2, padded=False),),
    (Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3),
     Conv("branch3x3dbl_3", 96, 3, stride=2, padded=False)),
    (Pool("maximum"),))
FIGURE_10_TO_8: Figure = (
    (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, stride=2, padded=False)),
    (Conv("branch7x7x3_1", 192), Conv("branch7x7x3_2", 192, (1, 7)), Conv("branch7x7x3_3", 192, (7, 1)),
     Conv("branch7x7x3_4", 192, 3, stride=2, padded=False)),
    (Pool("maximum"),))

UP_TO_17 = {"Mixed_5b": figure_5(32), "Mixed_5c": figure_5(64), "Mixed_5d": figure_5(64), "Mixed_6a": FIGURE_10_TO_17,
            "Mixed_6b": figure_6(128), "Mixed_6c": figure_6(160), "Mixed_6d": figure_6(160), "Mixed_6e": figure_6(192)}
FROM_17_ON = {"Mixed_7a": FIGURE_10_TO_8, "Mixed_7b": FIGURE_7, "Mixed_7c": FIGURE_7}


class InceptionV3(nn.Module):
    """image_BCHW float in [0, 1], RGB of at least 75 x 75 px -> embedding_BD, the mean over the last grid.

    D = 2048 at width 1. Pixels are scaled to [-1, 1] here, (x - 0.5) / 0.5 in every channel, as the published weights
    expect. (torchvision's `transform_input` undoes ImageNet's mean and deviation, and gives them just that.)
    The auxiliary head and the softmax are a classifier's: matchnet.methods.classifier.

    Raises:
        ValueError: samples that are no RGB images; grey ones are not repeated, since three equal channels would cost
            as much as a photograph: store them as RGB. Images below 75 px, whether here or in `forward`.
    """

    def __init__(self, spec: InceptionSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        check_images(sample_shape)
        self.spec = spec
        channels = add_branch(self, STEM, 3, spec.width)
        for name, figure in UP_TO_17.items():
            channels = self.add_block(name, Block(figure, channels, spec.width))
        self.grid_17_channels = channels
        for name, figure in FROM_17_ON.items():
            channels = self.add_block(name, Block(figure, channels, spec.width))
        self.embedding_size = channels
        initialise(self)
        # Channels last: at 299 px on one core 1.4 times as fast as the default in training, 1.7 times in embedding.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.from_17_on(self.up_to_17(image_BCHW))

    def up_to_17(self, image_BCHW: Tensor) -> Tensor:
        """The last 17 x 17 grid, Mixed_6e, where the auxiliary head stands: (B, 768, 17, 17) of 299 px at width 1."""
        check_images(tuple(image_BCHW.shape[1:]))
        grid_BCHW = follow(self, STEM, image_BCHW * 2 - 1)
        for name in UP_TO_17:
            grid_BCHW = getattr(self, name)(grid_BCHW)
        return grid_BCHW

    def from_17_on(self, grid_BCHW: Tensor) -> Tensor:
        for name in FROM_17_ON:
            grid_BCHW = getattr(self, name)(grid_BCHW)
        return grid_BCHW.mean((2, 3))

    def train(self, mode: bool = True) -> "InceptionV3":
        """Without batch statistics, batch normalisation never leaves evaluation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(mode and self.spec.batch_statistics)
        return self

    def add_block(self, name: str, block: "Block") -> int:
        self.add_module(name, block)
        return block.channels


class Block(nn.Module):
    """The branches of a figure, side by side: grid_BCHW -> grid_BCHW with `channels` of them."""

    def __init__(self, figure: Figure, channels_in: int, width: float) -> None:
        super().__init__()
        self.figure = figure
        self.channels = sum(add_branch(self, branch, channels_in, width) for branch in figure)

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        return torch.cat([follow(self, branch, grid_BCHW) for branch in self.figure], dim=1)


class BasicConv2d(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, conv: Conv, channels_in: int, width: float) -> None:
        super().__init__()
        self.channels = max(LEAST_FILTERS, round(conv.filters * width))
        kernel = conv.kernel if isinstance(conv.kernel, tuple) else (conv.kernel, conv.kernel)
        padding = (kernel[0] // 2, kernel[1] // 2) if conv.padded else (0, 0)
        # No bias: batch normalisation subtracts it again.
        self.conv = nn.Conv2d(channels_in, self.channels, kernel, conv.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(self.channels, eps=0.001)

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(grid_BCHW)), inplace=True)


class AuxiliaryHead(nn.Module):
    """Figure 8: a classifier on the last 17 x 17 grid, there in training alone (section 4). grid_BCHW -> logits_BC.

    Departs from the authors' network for images well below 299 px. Their network takes no grid smaller than 17 x 17
    here. Ours pools a smaller grid to the same 5 x 5 adaptively, which repeats places if the grid has fewer than 5.
    """

    def __init__(self, encoder: InceptionV3, num_classes: int) -> None:
        super().__init__()
        width = encoder.spec.width
        self.conv0 = BasicConv2d(Conv("conv0", 128), encoder.grid_17_channels, width)
        self.conv1 = BasicConv2d(Conv("conv1", 768, AUXILIARY_GRID, padded=False), self.conv0.channels, width)
        self.fc = nn.Linear(self.conv1.channels, num_classes)
        initialise(self.conv0)
        initialise(self.conv1, std=0.01)
        initialise(self.fc, std=0.001)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        if min(grid_BCHW.shape[2:]) >= 17:
            pooled_BCHW = F.avg_pool2d(grid_BCHW, AUXILIARY_POOL, stride=3)
        else:
            pooled_BCHW = F.adaptive_avg_pool2d(grid_BCHW, AUXILIARY_GRID)
        return self.fc(self.conv1(self.conv0(pooled_BCHW)).mean((2, 3)))


def add_branch(module: nn.Module, branch: Branch, channels: int, width: float) -> int:
    """Give `module` the branch's convolutions under their names; return the number of output channels."""
    for step in branch:
        if not isinstance(step, Pool):
            convs = [BasicConv2d(conv, channels, width) for conv in side_by_side(step)]
            for conv, built in zip(side_by_side(step), convs, strict=True):
                module.add_module(conv.name, built)
            channels = sum(built.channels for built in convs)
    return channels


def follow(module: nn.Module, branch: Branch, grid_BCHW: Tensor) -> Tensor:
    """Apply the branch's steps, with the convolutions that `module` has under their names."""
    for step in branch:
        if isinstance(step, Pool):
            grid_BCHW = pool(step, grid_BCHW)
        else:
            outputs = [getattr(module, conv.name)(grid_BCHW) for conv in side_by_side(step)]
            grid_BCHW = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    return grid_BCHW


def side_by_side(step: Conv | tuple[Conv, ...]) -> tuple[Conv, ...]:
    return step if isinstance(step, tuple) else (step,)


def pool(step: Pool, grid_BCHW: Tensor) -> Tensor:
    if step.kind == "maximum":
        return F.max_pool2d(grid_BCHW, 3, stride=2)
    return F.avg_pool2d(grid_BCHW, 3, stride=1, padding=1)  # zeros beyond the edge count, as in torchvision


def initialise(module: nn.Module, std: float = INITIAL_STD) -> None:
    """Weights of convolutions and linear maps: N(0, std); batch normalisation and biases stay as torch begins them."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(part.weight, std=std, a=-2, b=2)


def check_images(sample_shape: tuple[int, ...]) -> None:
    """Raise ValueError for samples that are not RGB images of at least 75 x 75 px."""
    if len(sample_shape) != 3:
        raise ValueError(f"samples of shape {sample_shape}; inception_v3 takes images (3, height, width): text takes "
                         f"bag_of_words, window or bilstm")
    channels, height, width = sample_shape
    if channels != 3:
        raise ValueError(f"images of {channels} channel{'s' * (channels != 1)}; inception_v3 takes RGB, 3: store them "
                         f"so, or use conv4")
    if min(height, width) < SMALLEST:
        raise ValueError(f"images of {height} x {width}; inception_v3 takes {SMALLEST} x {SMALLEST} and more: resize "
                         f"them, or use conv4")
