"""Conv-4 against loops over pixels, and its sizes against the paper's."""

import pytest
import torch
from torch import Tensor, nn

from matchnet.encoders import build_encoder
from matchnet.encoders.conv4 import Conv4, Conv4Spec


def slow_block(image_CHW: Tensor, weight: Tensor, norm: nn.BatchNorm2d, relu: bool = True) -> Tensor:
    """3 x 3 convolution of the zero-padded image, normalisation, ReLU, maximum of each 2 x 2 pixels."""
    C, H, W = image_CHW.shape
    padded = torch.zeros(C, H + 2, W + 2)
    padded[:, 1:-1, 1:-1] = image_CHW
    convolved = torch.empty(len(weight), H, W)
    for f in range(len(weight)):
        for y in range(H):
            for x in range(W):
                convolved[f, y, x] = (weight[f] * padded[:, y:y + 3, x:x + 3]).sum()
        assert norm.running_mean is not None and norm.running_var is not None
        centred = (convolved[f] - norm.running_mean[f]) / (norm.running_var[f] + norm.eps).sqrt()
        normalised = centred * norm.weight[f] + norm.bias[f]
        convolved[f] = normalised.clamp(min=0) if relu else normalised
    pooled = torch.empty(len(weight), H // 2, W // 2)
    for y in range(H // 2):
        for x in range(W // 2):
            pooled[:, y, x] = convolved[:, 2 * y:2 * y + 2, 2 * x:2 * x + 2].amax((1, 2))
    return pooled


@pytest.mark.parametrize("last_relu", [True, False])
@torch.no_grad()
def test_blocks_are_convolution_normalisation_relu_and_pooling(last_relu: bool) -> None:
    torch.manual_seed(0)
    encoder = Conv4(Conv4Spec(num_filters=3, num_blocks=2, last_relu=last_relu), (2, 6, 5)).train()
    encoder(torch.rand(16, 2, 6, 5))  # gives the normalisation a mean and a variance other than 0 and 1
    for parameter in encoder.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    encoder.eval()
    image_BCHW = torch.rand(2, 2, 6, 5)
    for image, embedding in zip(image_BCHW, encoder(image_BCHW), strict=True):
        for number, block in enumerate(encoder.blocks.children()):
            convolution, norm = list(block.children())[:2]
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            image = slow_block(image, convolution.weight, norm, relu=last_relu or number == 0)
        torch.testing.assert_close(embedding, image.flatten())
        assert bool((embedding < 0).any()) != last_relu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_after_pooling_is_relu_before_it(dtype: torch.dtype) -> None:
    """Bit for bit, numbers and gradients, where all of a window are negative and where its largest are equal too."""
    torch.manual_seed(0)
    numbers_BCHW = torch.randn(8, 4, 7, 6).mul(2).round().div(2).to(dtype).to(memory_format=torch.channels_last)
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    found = []
    for layers in (nn.Sequential(pool, relu), nn.Sequential(relu, pool)):
        leaf_BCHW = numbers_BCHW.clone().requires_grad_()
        output_BCHW = layers(leaf_BCHW)
        output_BCHW.backward(torch.arange(output_BCHW.numel()).view_as(output_BCHW).to(dtype))
        assert leaf_BCHW.grad is not None
        found.append((output_BCHW, leaf_BCHW.grad))
    (output, gradient), (expected, expected_gradient) = found
    assert torch.equal(output, expected) and torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize("spec, sample_shape, size", [
    (Conv4Spec(), (1, 28, 28), 64),  # "the resulting feature map is 1 x 1 x 64"
    (Conv4Spec(), (3, 84, 84), 1600),
    (Conv4Spec(), (1, 16, 31), 64),
    (Conv4Spec(num_filters=8, num_blocks=3), (1, 28, 28), 72),
])
def test_embedding_size(spec: Conv4Spec, sample_shape: tuple[int, ...], size: int) -> None:
    encoder = build_encoder(spec, sample_shape)
    assert encoder.embedding_size == size
    assert encoder(torch.zeros(2, *sample_shape)).shape == (2, size)


def test_number_of_parameters() -> None:
    """3 * 3 weights a pair of channels, and the scale and shift of each normalised filter."""
    encoder = Conv4(Conv4Spec(), (1, 28, 28))
    assert sum(p.numel() for p in encoder.parameters()) == 9 * 64 * (1 + 3 * 64) + 4 * 2 * 64


def test_images_too_small_for_the_blocks() -> None:
    with pytest.raises(ValueError, match=r"images of 28 x 15 with 4 blocks .* at least 16 x 16"):
        Conv4(Conv4Spec(), (1, 28, 15))


@pytest.mark.parametrize("field", ["num_filters", "num_blocks"])
def test_counts_are_at_least_one(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0; it must be at least 1"):
        Conv4Spec(**{field: 0})  # type: ignore[arg-type]
