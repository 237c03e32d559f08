"""The methods that are compared: matching networks and the paper's baselines, one file each."""

from matchnet.methods.base import Batch, LabelledBatch, Method
from matchnet.methods.classifier import Classifier, ClassifierSpec
from matchnet.methods.fine_tuning import FineTuned, FineTuningSpec
from matchnet.methods.language_model import LanguageModel, LanguageModelSpec
from matchnet.methods.mann import Mann, MannSpec
from matchnet.methods.matching_network import MatchingNetwork, MatchingNetworkSpec
from matchnet.methods.oracle import Oracle
from matchnet.methods.pixels import Pixels, PixelsSpec
from matchnet.methods.siamese import Siamese, SiameseSpec

__all__ = ["Batch", "Classifier", "FineTuned", "FineTuningSpec", "LabelledBatch", "LanguageModel", "Mann",
           "MatchingNetwork", "Method", "MethodSpec", "Oracle", "Pixels", "Siamese", "build_method"]

# The field `name` tells the specs apart.
MethodSpec = MatchingNetworkSpec | PixelsSpec | ClassifierSpec | SiameseSpec | MannSpec | LanguageModelSpec


def build_method(spec: MethodSpec, sample_shape: tuple[int, ...], num_classes: int) -> Method:
    """The method that a spec describes, with fresh weights from torch's global generator.

    Args:
        sample_shape: the shape of one sample, (C, H, W) for images.
        num_classes: how many training classes there are; only a classifier and a language model need it.
    """
    match spec:
        case MatchingNetworkSpec():
            return MatchingNetwork(spec, sample_shape)
        case PixelsSpec():
            return Pixels(spec)
        case ClassifierSpec():
            return Classifier(spec, sample_shape, num_classes)
        case SiameseSpec():
            return Siamese(spec, sample_shape)
        case MannSpec():
            return Mann(spec, sample_shape)
        case LanguageModelSpec():
            return LanguageModel(spec, num_classes)
