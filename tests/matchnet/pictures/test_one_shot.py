"""OneShotClassifier: scikit-learn's conventions, examples of any kind and number, and what it refuses."""

import pickle
import re
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_pictures import encoded
from PIL import Image, ImageDraw
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from small_drawings import PHOTOGRAPHS, SHAPES, drawing, model_file
from small_omniglot import mirror
from torch import nn

from matchnet import OneShotClassifier, published
from matchnet.context import FullContextSpec
from matchnet.encoders.bag_of_words import BagOfWordsSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods import build_method
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.mann import MannSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.methods.siamese import SiameseSpec
from matchnet.model_file import ModelFile, read_model, write_model
from matchnet.pictures import PictureError
from matchnet.statistics import mean_and_interval
from matchnet.weights import CheckpointError

SMALL = Conv4Spec(num_filters=8, num_blocks=2)
METHODS = {"matching": MatchingNetworkSpec(encoder=SMALL), "untied": MatchingNetworkSpec(encoder=SMALL, tied=False),
           "fce": MatchingNetworkSpec(encoder=SMALL, fce=FullContextSpec(num_steps=2)),
           "classifier": ClassifierSpec(encoder=SMALL), "siamese": SiameseSpec(encoder=SMALL), "pixels": PixelsSpec()}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: model_file(folder / f"{name}.pt", spec) for name, spec in METHODS.items()}


SUPPORT = [drawing(shape) for shape in SHAPES]
QUERIES = [drawing(shape, shift) for shape in SHAPES for shift in (-1, 0, 1)]
ANSWERS = [shape for shape in SHAPES for _ in range(3)]

# These are of numbers of 64 bits: features here have 32, and the last digits depend on what else is in a batch.
NOT_OURS = {"check_methods_subset_invariance": "features are float32"}


def test_scikit_learns_own_checks() -> None:
    """Of a module that is given rows of numbers; pictures are not what these checks make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(OneShotClassifier(nn.Flatten()), expected_failed_checks=NOT_OURS, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(NOT_OURS)
    assert sum(result["status"] == "passed" for result in results) > 45


@pytest.mark.parametrize("name", METHODS)
def test_shapes_are_told_apart_with_every_method_and_without_training(models: dict[str, Path], name: str) -> None:
    classifier = OneShotClassifier(models[name])
    assert classifier.fit(SUPPORT, SHAPES) is classifier
    assert classifier.classes_.tolist() == sorted(SHAPES)
    probability_QN, weight_QS = classifier.predict_proba(QUERIES), classifier.attention(QUERIES)
    assert probability_QN.sum(1) == pytest.approx(np.ones(9)) and weight_QS.sum(1) == pytest.approx(np.ones(9))
    for n, one in enumerate(classifier.classes_):  # a class has the weight of its one example
        assert probability_QN[:, n] == pytest.approx(weight_QS[:, SHAPES.index(one)], abs=1e-5)
    assert (classifier.predict(QUERIES) == classifier.classes_[probability_QN.argmax(1)]).all()
    if name in ("pixels", "matching", "classifier"):
        assert classifier.score(QUERIES, ANSWERS) == 1


def test_all_kinds_of_pictures_are_the_same_picture(models: dict[str, Path], tmp_path: Path) -> None:
    classifier = OneShotClassifier(models["matching"]).fit(SUPPORT, SHAPES)
    image = QUERIES[0]
    image.save(tmp_path / "query.png")
    bytes_HW = np.asarray(image)
    many: list[Any] = [
        [tmp_path / "query.png"], [str(tmp_path / "query.png")], np.array([str(tmp_path / "query.png")]), [image],
        [image.convert("RGB")], [image.convert("1")], [image.convert("RGBA")], [image.convert("P")], [bytes_HW],
        bytes_HW[None], bytes_HW[None, ..., None], bytes_HW[None, None], [bytes_HW / 255], [bytes_HW > 127],
        [bytes_HW.astype(np.uint16) * 257], [bytes_HW.astype(np.int64)], torch.from_numpy(bytes_HW.copy())[None, None],
        [torch.from_numpy(bytes_HW.copy()) / 255], np.repeat(bytes_HW[None, ..., None], 3, axis=3),
        [torch.from_numpy(bytes_HW.copy())[None].expand(3, -1, -1)], ((tmp_path / "query.png").read_bytes(),)]
    expected = classifier.predict_proba([image])
    for pictures in many:
        assert classifier.predict_proba(pictures) == pytest.approx(expected, abs=1e-5), repr(pictures)[:80]


def test_a_picture_that_exif_turns_is_upright(models: dict[str, Path]) -> None:
    classifier = OneShotClassifier(models["pixels"]).fit(SUPPORT, SHAPES)
    upright = Image.new("L", (64, 48), 255)
    upright.paste(0, (4, 4, 60, 12))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    assert classifier.predict_proba([turned]) == pytest.approx(classifier.predict_proba([upright]), abs=1e-6)


@pytest.mark.parametrize("labels", [[3, 1, 2], [b"x", b"y", b"z"], ["é", "b", "c"], [True, False, True],
                                    [(1, 2), (0, 3), (1, 1)], [1, "a", None], [2.0, 1.0, 7.0]])
def test_labels_of_any_type_come_back_as_they_are(models: dict[str, Path], labels: list[Any]) -> None:
    found = OneShotClassifier(models["pixels"]).fit(SUPPORT, labels).predict(SUPPORT).tolist()
    assert found == labels and [type(one) for one in found] == [type(one) for one in labels]


@pytest.mark.parametrize("name", ["matching", "fce"])
def test_examples_and_classes_added_later_count_as_if_they_had_been_there(models: dict[str, Path], name: str) -> None:
    """Also with unequal numbers of examples, and a label that sorts before those that were there."""
    labels = ["square", "square", "cross", "circle", "square"]
    pictures = [drawing(label, shift) for shift, label in enumerate(labels)]
    whole = OneShotClassifier(models[name], batch_size=2).fit(pictures, labels)
    grown = OneShotClassifier(models[name]).partial_fit(pictures[:2], labels[:2])
    assert grown.predict(QUERIES[:2]).tolist() == ["square", "square"]
    grown.partial_fit(pictures[2:], labels[2:])
    assert grown.classes_.tolist() == whole.classes_.tolist() == sorted(SHAPES)
    assert grown.predict_proba(QUERIES) == pytest.approx(whole.predict_proba(QUERIES), abs=1e-5)
    assert grown.attention(QUERIES) == pytest.approx(whole.attention(QUERIES), abs=1e-5)


def test_a_class_that_is_announced_has_no_probability_until_it_has_an_example(models: dict[str, Path]) -> None:
    classifier = OneShotClassifier(models["pixels"]).partial_fit(SUPPORT[:2], SHAPES[:2], classes=SHAPES)
    assert classifier.predict_proba(QUERIES)[:, 1].tolist() == [0.0] * 9  # "cross"
    assert classifier.partial_fit(SUPPORT[2:], SHAPES[2:]).score(QUERIES, ANSWERS) == 1


def test_a_picture_that_cannot_be_read_leaves_the_classifier_as_it_was(models: dict[str, Path]) -> None:
    classifier = OneShotClassifier(models["pixels"]).fit(SUPPORT, SHAPES)
    with pytest.raises(PictureError, match=r"^x: No such file or directory; give the path"):
        classifier.partial_fit([SUPPORT[0], "x"], ["new", "new"])
    assert classifier.classes_.tolist() == sorted(SHAPES) and len(classifier.support_) == 3


@pytest.mark.parametrize("name", METHODS)
def test_chunks_do_not_change_what_is_said(models: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = OneShotClassifier(models[name]).fit(SUPPORT, SHAPES).predict_proba(QUERIES)
    monkeypatch.setattr("matchnet.pictures.one_shot.WEIGHTS_AT_ONCE", 6)
    monkeypatch.setattr("matchnet.pictures.one_shot.FEWEST_QUERIES_AT_ONCE", 2)
    small = OneShotClassifier(models[name], batch_size=2).fit(SUPPORT, SHAPES)
    assert small.predict_proba(QUERIES) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("support_ink", ["dark", "light"])
def test_the_ground_of_each_picture_is_seen_by_itself(models: dict[str, Path], support_ink: str) -> None:
    support = [drawing(shape, ink=support_ink) for shape in SHAPES]
    classifier = OneShotClassifier(models["pixels"]).fit(support, SHAPES)
    for ink in ("dark", "light"):
        queries = [drawing(shape, 1, ink) for shape in SHAPES]
        assert classifier.predict(queries).tolist() == list(SHAPES)
    assert OneShotClassifier(models["pixels"], ink=support_ink).fit(support, SHAPES).attention(support) == \
        pytest.approx(classifier.attention(support), abs=1e-6)


def test_pictures_that_may_not_be_written_to_are_taken_without_a_warning(models: dict[str, Path]) -> None:
    """Pixels of Pillow's may not be; torch says so once a process, unless it is told to say it always."""
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classifier = OneShotClassifier(models["pixels"]).fit([drawing(shape, ink="light") for shape in SHAPES],
                                                                 SHAPES)
            classifier.predict([drawing("cross", 1, "light").convert("RGB")])
            vectors = np.zeros((3, 4), np.float32)
            vectors.flags.writeable = False
            OneShotClassifier(nn.Flatten()).fit(vectors, SHAPES)
    finally:
        torch.set_warn_always(False)


def test_photographs_are_seen_as_they_are(tmp_path: Path) -> None:
    path = model_file(tmp_path / "photographs.pt", PixelsSpec(), PHOTOGRAPHS)
    colours = [Image.new("RGB", (20, 30), colour) for colour in ((250, 10, 10), (10, 250, 10), (10, 10, 250))]
    classifier = OneShotClassifier(path).fit(colours, SHAPES)
    assert classifier.predict([Image.new("RGB", (9, 9), (10, 200, 10))]).tolist() == ["square"]
    with pytest.raises(ValueError, match=r"ink is 'dark', which is for models of drawings; photographs\.pt is none"):
        OneShotClassifier(path, ink="dark").fit(colours, SHAPES)
    with pytest.raises(ValueError, match=r"margin is 0\.1, which is for models of drawings; photographs\.pt is none"):
        OneShotClassifier(path, margin=0.1).fit(colours, SHAPES)


@pytest.mark.parametrize(("given", "shown"), [({"ink": "light"}, "ink is 'light'"), ({"margin": 0.1}, "margin is 0.1")])
def test_pictures_of_which_nothing_is_known_count_as_photographs(
        tmp_path: Path, given: dict[str, Any], shown: str) -> None:
    path = model_file(tmp_path / "own.pt", PixelsSpec(), replace(PHOTOGRAPHS, channels=1, kind=None))
    OneShotClassifier(path).fit(SUPPORT, SHAPES)
    message = (f"{shown}, which is for models of drawings; own.pt is none (its training data had neither invert nor "
               "margin, so its pictures count as photographs): leave it out")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OneShotClassifier(path, **given).fit(SUPPORT, SHAPES)


def test_a_margin_makes_the_size_of_a_drawing_irrelevant(models: dict[str, Path]) -> None:
    small = Image.new("L", (200, 200), 255)
    small.paste(QUERIES[3].resize((30, 30)), (150, 20))  # a square
    assert OneShotClassifier(models["pixels"], margin=0.1).fit(SUPPORT, SHAPES).predict([small]).tolist() == ["square"]


def test_upright_makes_the_slant_of_a_drawing_irrelevant(models: dict[str, Path]) -> None:
    ell, zed, slash = (Image.new("L", (100, 100), 255) for _ in range(3))
    ImageDraw.Draw(ell).line((50, 10, 50, 90), fill=0, width=9)
    ImageDraw.Draw(zed).line((15, 10, 85, 10, 15, 90, 85, 90), fill=0, width=9)
    ImageDraw.Draw(slash).line((85, 10, 15, 90), fill=0, width=9)  # an ell that leans
    for upright, answer in ((False, "z"), (True, "l")):
        classifier = OneShotClassifier(models["pixels"], margin=0.1, upright=upright).fit([ell, zed], ["l", "z"])
        assert classifier.predict([slash]).tolist() == [answer]


def test_lost_colours_are_told(models: dict[str, Path]) -> None:
    classifier = OneShotClassifier(models["matching"]).fit(SUPPORT, SHAPES)
    with pytest.warns(UserWarning, match=r"pictures have colours, and the model matching\.pt sees grey alone"):
        classifier.predict([Image.new("RGB", (20, 20), (200, 30, 30))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.predict([SUPPORT[0].convert("RGB")])


def test_a_larger_scale_makes_probabilities_more_extreme(models: dict[str, Path]) -> None:
    flat, sharp = (OneShotClassifier(models["classifier"], scale=scale).fit(SUPPORT, SHAPES) for scale in (1, 100))
    assert (flat.predict(QUERIES) == sharp.predict(QUERIES)).all()
    assert (sharp.predict_proba(QUERIES).max(1) > flat.predict_proba(QUERIES).max(1)).all()
    for scale, name, message in ((0, "matching", "scale is 0; the similarities are multiplied with it: above 0"),
                                 (5, "siamese", r"scale is 5, and siamese\.pt has no attention over similarities")):
        with pytest.raises(ValueError, match=message):
            OneShotClassifier(models[name], scale=scale).fit(SUPPORT, SHAPES)


class Mean(nn.Module):
    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return image_BCHW.mean((2, 3))


def to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.resize((8, 8))).copy()).permute(2, 0, 1) / 255


def test_any_module_with_what_prepares_its_pictures(tmp_path: Path) -> None:
    colours = {"red": (250, 10, 10), "green": (10, 250, 10), "grey": (90, 90, 90)}
    paths = [tmp_path / f"{name}.png" for name in colours]
    for path, colour in zip(paths, colours.values(), strict=True):
        Image.new("RGB", (20, 30), colour).save(path)
    module = Mean().train()
    classifier = OneShotClassifier(module, preprocess=to_tensor).fit(paths, list(colours))
    assert classifier.predict(paths).tolist() == list(colours) and module.training
    with pytest.raises(ValueError, match="preprocess makes a Image of a picture; it must make a tensor"):
        OneShotClassifier(module, preprocess=lambda image: image).fit(paths, list(colours))
    with pytest.raises(ValueError, match=r"preprocess makes tensors of 2 shapes, such as \(3, 8, 8\) and \(3, 9, 8\)"):
        sizes = iter((8, 9, 8))
        OneShotClassifier(module, preprocess=lambda image: torch.zeros(3, next(sizes), 8)).fit(paths, list(colours))
    with pytest.raises(ValueError, match=r"encoder: Flatten makes .* of 3 samples; it must make one row of numbers"):
        OneShotClassifier(nn.Flatten(0), preprocess=to_tensor).fit(paths, list(colours))


def test_it_works_in_pipelines_and_cross_validation(models: dict[str, Path]) -> None:
    classifier = OneShotClassifier(models["pixels"])
    copy = clone(classifier)
    assert copy is not classifier and copy.get_params() == classifier.get_params()
    pictures = np.stack([np.asarray(drawing(shape, shift)) for shift in range(-2, 4) for shape in SHAPES])
    labels = np.array([shape for _ in range(6) for shape in SHAPES])
    chain = make_pipeline(FunctionTransformer(lambda pictures_NHW: pictures_NHW[:, ::2, ::2]), classifier)
    assert cross_val_score(chain, pictures, labels, cv=3).tolist() == [1, 1, 1]
    assert chain.fit(pictures, labels).score(pictures, labels) == 1


def test_parameters_are_read_set_and_shown(models: dict[str, Path]) -> None:
    classifier = OneShotClassifier(models["pixels"]).set_params(ink="dark", batch_size=7)
    assert classifier.get_params()["batch_size"] == 7 and "ink='dark'" in repr(classifier)
    with pytest.raises(ValueError, match="Invalid parameter 'inc' for estimator OneShotClassifier; there are batch_s"):
        classifier.set_params(inc="dark")


def test_a_fitted_one_is_pickled_and_says_the_same(models: dict[str, Path]) -> None:
    classifier = OneShotClassifier(models["fce"]).fit(SUPPORT, SHAPES)
    back = pickle.loads(pickle.dumps(classifier))
    assert (back.predict_proba(QUERIES) == classifier.predict_proba(QUERIES)).all()


@pytest.mark.parametrize(("pictures", "labels", "message"), [
    (SUPPORT, None, "requires y to be passed, but the target y is None"),
    (SUPPORT, ["a", "b"], "found 3 pictures and 2 labels: inconsistent numbers of samples"),
    (SUPPORT, ["a", "a", "a"], r"y has 1 class, .*'a'.*; there is nothing to tell it from: add a picture of another"),
    (SUPPORT, [[1, 2], [3, 4], [5, 6]], r"y has the shape \(3, 2\); give one label for each picture"),
    (SUPPORT, [0.5, 1.0, 2.5], "Unknown label type"),
    ([], [], "found no picture: 0 samples"),
    ("a.png", ["a"], r"found one picture \('a\.png'\) where several are asked for; give a list: \[picture\]"),
    (np.zeros((3, 64)), SHAPES, r"found an array of shape \(3, 64\); pictures are \(pictures, height, width\)"),
    (np.zeros((3, 8, 8, 2)), SHAPES, r"picture 0: an array of shape \(8, 8, 2\); a picture has \(height, width\), "),
    (np.full((3, 8, 8), 200.0), SHAPES, r"picture 0: an array of type float64 with values from 200\.0 to 200\.0; they "
     r"must be from 0 \(black\) to 1 \(white\): scale them, or give uint8"),
    (np.full((3, 8, 8), np.nan), SHAPES, "picture 0: an array that contains NaN or infinity"),
    (np.full((3, 8, 8), -1), SHAPES, "with values from -1 to -1; they must be from 0"),
    (np.zeros((3, 8, 8), complex), SHAPES, "picture 0: an array of type complex128; a picture has whole numbers"),
    ([SUPPORT[0], np.zeros((1, 1), np.uint8), SUPPORT[1]], SHAPES,
     "picture 1: 1 x 1 pixels, too few to see anything; a picture has at least 4 x 4: leave it out"),
    (SUPPORT[0], ["a"], r"found one picture \(<PIL\.Image\.Image image mode=L size=\d+x\d+>\) where several are asked"),
    ([to_tensor, *SUPPORT[:2]], SHAPES, "picture 0: function <function to_tensor> is no picture; give a path, a PIL"),
    ([encoded(SUPPORT[0], "JPEG")[:-9], *SUPPORT[:2]], SHAPES,
     r"picture 0: not a whole JPEG \(.*\); replace it with a whole copy, or leave it"),
    ([encoded(Image.new("1", (12_001, 10_000)), "PNG"), *SUPPORT[:2]], SHAPES,
     r"picture 0: a picture of 12,001 x 10,000 pixels, more than max_pixels \(.*\); make the picture smaller$"),
    ([SUPPORT[0], 7, SUPPORT[1]], SHAPES, "picture 1: int 7 is no picture; give a path, a PIL image, an array or a te"),
    (["/none/a.png", SUPPORT[0], SUPPORT[1]], SHAPES, r"/none/a\.png: No such file or directory; give the path"),
])
def test_what_is_no_example_is_refused(models: dict[str, Path], pictures: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneShotClassifier(models["pixels"]).fit(pictures, labels)


def test_what_is_asked_too_early_is_refused(models: dict[str, Path]) -> None:
    for ask in ("predict", "predict_proba", "attention"):
        with pytest.raises(NotFittedError, match="not fitted yet: it has no examples; call fit with pictures"):
            getattr(OneShotClassifier(models["pixels"]), ask)(SUPPORT)


@pytest.mark.parametrize(("parameters", "message"), [
    ({"encoder": "omniglott"}, "encoder 'omniglott': there is no such file, and no such published checkpoint; publis"),
    ({"encoder": 3}, r"encoder is 3; give the name of a published checkpoint, the path of a model file, or a torch\."),
    ({"encoder": to_tensor}, r"encoder is <function to_tensor>; give the name of a published checkpoint, the path of"),
    ({"ink": "black"}, "ink is 'black'; it is one of auto, dark, light"), ({"batch_size": 0}, "batch_size is 0; it i"),
    ({"margin": 0.5}, r"margin is 0\.5; the share left free at each edge is at least 0 and below 0\.5"),
    ({"upright": True}, r"upright without a margin: a drawing that was sheared must be cropped anew; give a margin to"),
    ({"preprocess": to_tensor}, r"preprocess: the model .*pixels\.pt' knows how its pictures are prepared; a preproc"),
])
def test_parameters_that_cannot_be_are_refused(models: dict[str, Path], parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneShotClassifier(**{"encoder": models["pixels"]} | parameters).fit(SUPPORT, SHAPES)


def test_files_that_are_no_such_model_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    words = MatchingNetworkSpec(encoder=BagOfWordsSpec(num_words=9, embedding_size=4))
    write_model(path, ModelFile(
        model_name="words", method=words, sample_shape=(5,), num_classes=3, step=0, seed=0, dataset="ptb",
        state_dict=build_method(words, (5,), 3).state_dict(), dataset_sha256="ab", split="all", train_classes=["a"],
        seconds=0.0))
    with pytest.raises(CheckpointError, match=r"other\.pt: a model of words \(matching_network of ptb\), and this cl"):
        OneShotClassifier(path).fit(SUPPORT, SHAPES)
    torch.save({"fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.pt: not a model file of matchnet: it holds fc\.weight, fc\.bi"):
        OneShotClassifier(path).fit(SUPPORT, SHAPES)
    path.write_bytes(models["pixels"].read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"other\.pt: cut short or damaged \(300 bytes\)"):
        OneShotClassifier(path).fit(SUPPORT, SHAPES)
    model_file(path, MannSpec(num_ways=3))
    with pytest.raises(CheckpointError, match=r"other\.pt: a memory-augmented network answers for its own number of "):
        OneShotClassifier(path).fit(SUPPORT, SHAPES)


def test_a_file_is_loaded_without_running_what_is_in_it(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"format": 2, "method": Runs()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: holds more than tensors and plain values"):
        OneShotClassifier(tmp_path / "evil.pt").fit(SUPPORT, SHAPES)
    assert not (tmp_path / "ran").exists()


def test_weights_of_inception_are_named_by_their_hash(tmp_path: Path) -> None:
    path = tmp_path / "inception_v3_google-0cc3c7bd.pth"
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="its name says that its SHA-256 begins with 0cc3c7bd, and it is "):
        OneShotClassifier(path).fit(SUPPORT, SHAPES)
    with pytest.raises(CheckpointError, match=r"weights\.pth: its weights are of another architecture"):
        OneShotClassifier(path.rename(tmp_path / "weights.pth")).fit(SUPPORT, SHAPES)


@pytest.mark.parametrize("name", published.names())
def test_published_checkpoints_are_what_their_cards_say(name: str) -> None:
    card, path = published.read_card(name), published.checkpoint(name)
    assert card.name == name and card.size == path.stat().st_size <= published.LARGEST
    assert card.trained_on and card.limits and re.fullmatch("[0-9a-f]{64}", card.sha256)
    OneShotClassifier(name).fit(SUPPORT, SHAPES).predict(QUERIES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_omniglot_checkpoint_is_as_accurate_on_files_as_its_card_says(tmp_path: Path) -> None:
    """1,000 tasks of 20 ways, one example and one query of each, from PNG files of characters it was not trained on."""
    for name in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(Path(mirror()) / "omniglot" / f"{name}.zip") as archive:
            archive.extractall(tmp_path)
    seen = set(read_model(published.checkpoint("omniglot")).seen_classes)
    characters = sorted({path.parent for path in tmp_path.glob("images_*/*/*/*.png")})
    new = [one for one in characters if f"{one.parent.name}/{one.name}" not in seen]
    assert (len(characters), len(new)) == (1623, 423)
    random, classifier, accuracy = np.random.default_rng(0), OneShotClassifier("omniglot"), []
    for _ in range(1000):
        ways = [new[i] for i in random.choice(len(new), 20, replace=False)]
        pairs = [random.choice(sorted(way.glob("*.png")), 2, replace=False) for way in ways]
        names = [way.as_posix() for way in ways]
        accuracy.append(100 * classifier.fit([one for one, _ in pairs], names).score([two for _, two in pairs], names))
    figure = next(one for one in published.read_card("omniglot").figures if one.task == "20w1s")
    mean, ci95 = mean_and_interval(np.array(accuracy))
    assert abs(mean - figure.accuracy) <= ci95 + figure.ci95


def test_published_checkpoints_are_small_together() -> None:
    assert sum(path.stat().st_size for path in published.FOLDER.glob("*.pt")) <= published.LARGEST_TOGETHER
    assert {path.stem for path in published.FOLDER.glob("*.pt")} == set(published.names())


def test_a_published_checkpoint_that_was_edited_is_refused(tmp_path: Path, models: dict[str, Path]) -> None:
    card = published.Card(name="small", trained_on="t", limits="l", picture="p", figures=(), method="pixels", model="m",
                          dataset="d", split="s", dataset_sha256="ab", num_classes=1, step=0, seconds=0.0, seed=0,
                          sha256="00", size=1)
    published.write_card(replace(card), tmp_path)
    with pytest.raises(published.DamagedError, match=r"small\.pt: there is no such file, and small\.json describes it"):
        published.checkpoint("small", tmp_path)
    for damaged, message in ((b"{", "this is no card \\(Expecting property name"), (b"\xff", "this is no card \\("),
                             (b"[" * 100_000, "this is no card \\("), (b"[]", "found \\[\\]; it must be a section"),
                             (b"{}", "name: this parameter is missing")):
        (tmp_path / "other.json").write_bytes(damaged)
        with pytest.raises(published.DamagedError, match=rf"other\.json(: |\.){message}.*; install matchnet again"):
            published.read_card("other", tmp_path)
    (tmp_path / "small.pt").write_bytes(models["pixels"].read_bytes())
    with pytest.raises(published.DamagedError, match=r"small\.pt: its SHA-256 is [0-9a-f]{64}, and its card says 00:"):
        published.checkpoint("small", tmp_path)
