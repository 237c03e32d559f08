"""A classifier's weights under the names that torchvision's `inception_v3` has for them, and back.

So published weights become a classifier, whose file must hold tensors alone (`torch.load(path, weights_only=True)`):

    classifier = Classifier(ClassifierSpec(encoder=InceptionSpec()), (3, 299, 299), num_classes=1000)
    classifier.load_state_dict(classifier.state_dict() | from_torchvision(torch.load(path, weights_only=True)))
"""

from collections.abc import Mapping

import torch
from torch import Tensor

# torchvision's prefix -> ours. Its trunk has no prefix, and is our encoder.
HEADS = {"AuxLogits.": "auxiliary.", "fc.": "softmax."}
TRUNK = ("Conv2d_", "Mixed_")
ENCODER, ATTENTION = "encoder.", "attention."


def from_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names -> a Classifier's, all but the attention's, which nobody publishes.

    Files of before torch 0.4.1 do not count the batches that batch normalisation saw: they get a count of 0.

    Raises:
        ValueError: a name that inception_v3 does not have.
    """
    renamed = {_from_torchvision(name): weight for name, weight in weights.items()}
    for name in [name for name in renamed if name.endswith(".running_mean")]:
        renamed.setdefault(name.removesuffix("running_mean") + "num_batches_tracked", torch.tensor(0))
    return renamed


def to_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a Classifier with encoder inception_v3 -> torchvision's names; the attention is left out.

    Raises:
        ValueError: a name that such a classifier does not have.
    """
    return {_to_torchvision(name): weight for name, weight in weights.items() if not name.startswith(ATTENTION)}


def _from_torchvision(name: str) -> str:
    for theirs, ours in HEADS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    if not name.startswith(TRUNK):
        raise ValueError(f"weights {name!r}; torchvision's inception_v3 has Conv2d_*, Mixed_*, {' and '.join(HEADS)} "
                         f"alone: give its state dict")
    return ENCODER + name


def _to_torchvision(name: str) -> str:
    for theirs, ours in HEADS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    if not name.startswith(tuple(ENCODER + part for part in TRUNK)):
        raise ValueError(f"weights {name!r}; a classifier with encoder inception_v3 has encoder.Conv2d_*, "
                         f"encoder.Mixed_*, {', '.join(HEADS.values())} and {ATTENTION} alone: give its state dict")
    return name.removeprefix(ENCODER)
