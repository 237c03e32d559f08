"""Drawings of three shapes, and files of small models that have not been trained."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw

from matchnet.methods import MethodSpec, build_method
from matchnet.model_file import ModelFile, write_model
from matchnet.preparation import Preparation

DRAWINGS = Preparation(channels=1, size=16, kind="drawings", invert=True)
PHOTOGRAPHS = Preparation(channels=3, size=16, kind="photographs")
SHAPES = ("circle", "square", "cross")


def drawing(shape: str, shift: int = 0, ink: str = "dark") -> Image.Image:
    """A shape of 40 x 40 pixels, moved to the right and downwards."""
    image = Image.new("L", (64, 64), 255)
    draw, box = ImageDraw.Draw(image), (12 + shift, 12 + shift, 50 + shift, 50 + shift)
    match shape:
        case "circle":
            draw.ellipse(box, outline=0, width=5)
        case "square":
            draw.rectangle(box, outline=0, width=5)
        case "cross":
            draw.line(box, fill=0, width=5)
            draw.line((box[0], box[3], box[2], box[1]), fill=0, width=5)
    return image if ink == "dark" else image.point([255 - value for value in range(256)])


def model_file(path: Path, spec: MethodSpec, preparation: Preparation = DRAWINGS) -> Path:
    torch.manual_seed(0)
    method = build_method(spec, preparation.sample_shape, 3)
    write_model(path, ModelFile(
        model_name="small", method=spec, preparation=preparation, sample_shape=preparation.sample_shape, num_classes=3,
        state_dict=method.state_dict(), step=0, seed=0, dataset="d", dataset_sha256="ab", split="all",
        train_classes=["a", "b", "c"], seconds=0.0))
    return path
