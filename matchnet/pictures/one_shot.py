"""`OneShotClassifier`: one example of each class is enough. It follows scikit-learn's conventions without needing it.

    from matchnet import OneShotClassifier
    classifier = OneShotClassifier("omniglot").fit(["a.png", "b.png"], ["a", "b"])
    classifier.predict(["query.png"])

Shapes: B items at once, S support items, Q queries, N classes.
"""

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from matchnet.evaluation import to_input
from matchnet.messages import shown
from matchnet.pictures.encoders import Preprocess, drawings_of, load_encoder
from matchnet.pictures.ground import as_the_model_sees
from matchnet.pictures.inputs import LONGEST, as_items, as_vectors, name_of, to_picture
from matchnet.pictures.labels import as_labels, unique
from matchnet.pictures.pixels import Ink, coloured

WEIGHTS_AT_ONCE = 2**20  # pairs of a query and a support item: 4 MB, copied a few times
FEWEST_QUERIES_AT_ONCE = 16


class NotFittedError(ValueError, AttributeError):
    """A classifier was asked before it was given examples; scikit-learn's own is raised where that is in use."""


class OneShotClassifier:
    """Tells classes apart from one example each, or more, without training: a matching network's attention.

    P(class) of a query is the sum of the attention that the examples of the class get  [Vinyals et al. 2016, eq. 1].
    A class with more examples gets more attention.

    Args:
        encoder: what turns a picture into features. Give the name of a published checkpoint (`matchnet models` lists
            them), the path of a model file of this project, or the path of torchvision's weights of Inception v3. Or
            give a torch.nn.Module, which is used in evaluation mode. A file is never executed.
        preprocess: for a module, a function from a PIL image of mode RGB to the module's input. None gives the module
            the rows of an array as they are.
        ink: for drawings: `dark` if their files have dark ink on a light ground, `light` for the opposite. `auto` looks
            at the edge of each picture. Photographs are seen as they are.
        margin: None prepares drawings as the model's training did. A number below 0.5 crops each drawing to its ink,
            and leaves this share free at each edge. For `omniglot`, use 0.18 if your drawings fill much more or much
            less than two thirds of their square.
        clean: True brings a drawing onto a pure ground: paper becomes white or black, and ink full. False is for a
            model that you have trained on drawings on paper of another tone.
        upright: True first shears each drawing until it stands upright, for slanting handwriting. Needs a margin.
        scale: factor of the similarities before the softmax. None is the model's own (30 for a module). A larger scale
            makes probabilities more extreme, and rarely changes which class is the most probable.
        device: `cpu`, `cuda`, ...
        batch_size: how many pictures are decoded and embedded at once.

    Attributes:
        classes_: the labels, sorted.
        encoder_: the encoder that is in use.
        support_: features of the examples, (S, ...).
        support_way_: positions of the examples' labels in classes_, (S,).
    """

    _estimator_type = "classifier"  # scikit-learn before 1.6 looks for it

    def __init__(self, encoder: str | os.PathLike[str] | nn.Module = "omniglot", *,
                 preprocess: Preprocess | None = None, ink: Ink = "auto", clean: bool = True,
                 margin: float | None = None, upright: bool = False, scale: float | None = None,
                 device: str | torch.device = "cpu", batch_size: int = 64) -> None:
        self.encoder = encoder
        self.preprocess = preprocess
        self.ink = ink
        self.clean = clean
        self.margin = margin
        self.upright = upright
        self.scale = scale
        self.device = device
        self.batch_size = batch_size

    # What is learnt

    def fit(self, X: Any, y: Any) -> "OneShotClassifier":
        """Take these examples, and forget all others.

        Args:
            X: pictures: paths, PIL images, arrays (height, width) or (height, width, channels), tensors (channels,
                height, width); or one array of all.
            y: their labels, of any type that can be compared.
        Raises:
            PictureError: a picture that cannot be read; names it.
            ValueError: fewer than two classes, or the numbers of labels and pictures differ.
            CheckpointError: an encoder that cannot be loaded.
        """
        items, label_S = self._examples(X, y)
        classes, way_S = unique(label_S)
        if len(classes) < 2:
            raise ValueError(f"y has 1 class, {shown(classes.tolist()[0])}; there is nothing to tell it from: add a "
                             "picture of another class")
        self._forget()
        self._take(items, classes, way_S)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "OneShotClassifier":
        """Take more examples, of known classes or of new ones. The result is that of `fit` on all, in this order.

        Args:
            X, y: as in `fit`. The first call may have a single class.
            classes: labels that may come later; until then their probability is 0.
        """
        items, label_S = self._examples(X, y)
        if not hasattr(self, "encoder_"):
            self._forget()
        known = [*getattr(self, "classes_", ()), *(() if classes is None else classes)]
        all_classes, way = unique(as_labels([*known, *label_S]))
        before_S = getattr(self, "support_way_", np.zeros(0, np.int64))
        self._take(items, all_classes, way[len(known):])
        self.support_way_[:len(before_S)] = way[:len(known)][before_S]
        return self

    def _examples(self, X: Any, y: Any) -> tuple[Sequence[Any], np.ndarray]:
        self._check_parameters()
        if y is None:
            raise ValueError("OneShotClassifier requires y to be passed, but the target y is None; give a label for "
                             "each picture")
        label_S = as_labels(y)
        items = self._items(X)
        if len(items) != len(label_S):
            raise ValueError(f"found {len(items)} pictures and {len(label_S)} labels: inconsistent numbers of samples; "
                             "give a label for each picture")
        return items, label_S

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        encoder = load_encoder(self.encoder, self.preprocess, self.margin, self.upright, self.scale, self.device)
        if self.ink != "auto":
            drawings_of(encoder, "ink", self.ink)
        self.encoder_ = encoder

    def _take(self, items: Sequence[Any], classes: np.ndarray, way_S: np.ndarray) -> None:
        """Add examples; if one of them cannot be read, this object stays as it was."""
        new_S = torch.cat(list(self._embed(items)))
        self.support_: Tensor = torch.cat([self.support_, new_S]) if hasattr(self, "support_") else new_S
        self.support_way_ = np.concatenate([getattr(self, "support_way_", np.zeros(0, np.int64)), way_S])
        self.classes_ = classes
        if not self.encoder_.takes_pictures:
            self.n_features_in_ = int(np.shape(items)[1])

    # What is asked

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each query, (Q,)."""
        best_Q = self.predict_log_proba(X).argmax(1)
        return self.classes_[best_Q]

    def predict_proba(self, X: Any) -> np.ndarray:
        """P(class) of each query, (Q, N), in the order of classes_; rows sum to 1."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log P(class) of each query, (Q, N) in nats; -inf for a class without an example."""
        return self._asked(X, lambda: torch.from_numpy(self.support_way_), lambda: len(self.classes_))

    def attention(self, X: Any) -> np.ndarray:
        """Attention of each query to each support item, (Q, S), items in the order given; rows sum to 1.

        The probability of a class is the sum over its items.
        """
        return np.exp(self._asked(X, lambda: torch.arange(len(self.support_)), lambda: len(self.support_)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of the queries whose predicted class is theirs."""
        right_Q = self.predict(X) == as_labels(y)
        return float(np.average(right_Q, weights=sample_weight))

    @torch.inference_mode()
    def _asked(self, X: Any, ways: Callable[[], Tensor], num_ways: Callable[[], int]) -> np.ndarray:
        """log_probs_QN in float64, computed some queries at a time: memory does not grow with Q x S."""
        self._require_fitted()
        items, way_S, N = self._items(X), ways(), num_ways()
        support_1S, way_1S = self.support_.to(self.device).unsqueeze(0), way_S.to(self.device).unsqueeze(0)
        most = max(FEWEST_QUERIES_AT_ONCE, WEIGHTS_AT_ONCE // len(way_S))
        found = [self.encoder_.method.classify(support_1S, way_1S, query_B.to(self.device).unsqueeze(0), N)[0].cpu()
                 for query_Q in _joined(self._embed(items), most) for query_B in query_Q.split(most)]
        log_probs_QN = torch.cat(found).double().numpy()
        if np.isnan(log_probs_QN).any():
            raise FloatingPointError(f"encoder {self.encoder_.name} gives NaN; are its weights finite?")
        return log_probs_QN - np.log(np.exp(log_probs_QN).sum(1, keepdims=True))  # float32 sums to 1 within 1e-6

    # Items to features

    def _items(self, X: Any) -> Any:
        """One item a sample; for an encoder without pictures, the rows of an array."""
        is_module = isinstance(self.encoder, nn.Module)
        if is_module and self.preprocess is None:
            return as_vectors(X, getattr(self, "n_features_in_", None))
        return as_items(X)

    @torch.inference_mode()
    def _embed(self, items: Sequence[Any]) -> Iterator[Tensor]:
        """Yield the features on the CPU, batch_size items at a time."""
        lost_colours, blank = False, []
        for start in range(0, len(items), self.batch_size):
            samples = []
            for position in range(start, min(start + self.batch_size, len(items))):
                sample, loses_colour, without_ink = self._sample(items[position], position)
                samples.append(sample)
                lost_colours |= loses_colour
                blank += [name_of(items[position], position)] if without_ink else []
            yield self._features(samples).cpu()
        if lost_colours:
            warnings.warn(f"pictures have colours, and the model {self.encoder_.name} sees grey alone: what differs in "
                          "colour only looks the same to it", UserWarning, stacklevel=4)
        if blank:
            others = f" and {len(blank) - 1} more" if blank[1:] else ""
            warnings.warn(f"{blank[0]}{others}: nothing stands out from the ground, so what is said of it means "
                          "nothing: look at the picture", UserWarning, stacklevel=4)

    def _features(self, samples: list[Tensor]) -> Tensor:
        shapes = {tuple(sample.shape) for sample in samples}
        if len(shapes) > 1:
            raise ValueError(f"preprocess makes tensors of {len(shapes)} shapes, such as {sorted(shapes)[0]} and "
                             f"{sorted(shapes)[1]}; all must have the same: resize and crop to one size")
        return self.encoder_.method.embed(to_input(torch.stack(samples), self.device))

    def _sample(self, item: Any, position: int) -> tuple[Tensor, bool, bool]:
        """The sample as the model takes it, whether it lost colours, and whether it is a drawing without ink."""
        encoder = self.encoder_
        if not encoder.takes_pictures:
            return torch.from_numpy(np.ascontiguousarray(item)), False, False
        image = to_picture(item, position)
        if encoder.preprocess is not None:
            sample = encoder.preprocess(image.convert("RGB"))
            if not isinstance(sample, Tensor):
                raise ValueError(f"preprocess makes a {type(sample).__name__} of a picture; it must make a tensor: add "
                                 "what does (ToTensor, PILToTensor)")
            return sample, False, False
        assert encoder.preparation is not None
        pixels_CHW, without_ink = as_the_model_sees(image, encoder.preparation, self.ink, self.clean)
        loses_colour = encoder.preparation.channels == 1 and coloured(image)
        # A copy, because the memory of a Pillow image is read-only.
        return torch.from_numpy(np.array(pixels_CHW, order="C")), loses_colour, without_ink

    # scikit-learn's conventions

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return sorted(name for name in inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor; `deep` changes nothing."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> "OneShotClassifier":
        """Set some of the parameters. They take effect at the next `fit`."""
        known = self._parameter_names()
        for name in params:
            if name not in known:
                raise ValueError(f"Invalid parameter {name!r} for estimator OneShotClassifier; there are "
                                 f"{', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _check_parameters(self) -> None:
        if self.ink not in get_args(Ink):
            raise ValueError(f"ink is {shown(self.ink)}; it is one of {', '.join(get_args(Ink))}")
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"batch_size is {shown(self.batch_size)}; it is a whole number of at least 1")

    def _require_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            error = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", NotFittedError)
            raise error("This OneShotClassifier is not fitted yet: it has no examples; call fit with pictures and "
                        "their labels first")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "support_")

    def __sklearn_tags__(self) -> Any:
        """Tags for scikit-learn from 1.6 on; nothing else asks for them."""
        utils = importlib.import_module("sklearn.utils")
        of_vectors = isinstance(self.encoder, nn.Module) and self.preprocess is None
        return utils.Tags(estimator_type="classifier", target_tags=utils.TargetTags(required=True),
                          transformer_tags=None, classifier_tags=utils.ClassifierTags(), regressor_tags=None,
                          input_tags=utils.InputTags(two_d_array=of_vectors, three_d_array=not of_vectors))

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = (f"{name}={shown(value, LONGEST)}" for name, value in self.get_params().items()
                 if value is not defaults[name].default and value != defaults[name].default)
        return f"OneShotClassifier({', '.join(given)})"


def _joined(parts: Iterator[Tensor], most: int) -> Iterator[Tensor]:
    """Fewer and larger parts, of `most` rows or a little more: full context embeddings read the support for each."""
    waiting: list[Tensor] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= most:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)
