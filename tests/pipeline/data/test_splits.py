"""Splits: every class in exactly one part, families kept together, lists checked, the seed decides."""

import csv
import json
from dataclasses import asdict

import pytest
from places import ROOT
from small_omniglot import mirror

from pipeline.data.spec import (
    CutListSplit,
    FamilySplit,
    ListSplit,
    RandomSplit,
    SplitParams,
    TwoListsSplit,
    WholeSplit,
)
from pipeline.data.splits import family_of, make_split, read_list

CLASSES = [f"{family}/{number}" for family in "ABCDEFGH" for number in range(5)]
EVALUATION = read_list("lake_evaluation.txt")
SPLITS = [RandomSplit(num_valid=4, num_test=10), FamilySplit(num_valid=2, num_test=3), WholeSplit()]
RAVI = TwoListsSplit(valid="ravi_valid.txt", test="ravi_test.txt")
RAVI_CLASSES = [*read_list(RAVI.valid), *read_list(RAVI.test), "n01532829", "n01558993"]  # two of its 64 for train


@pytest.mark.parametrize("params", SPLITS, ids=lambda params: params.kind)
def test_every_class_is_in_exactly_one_part(params: SplitParams) -> None:
    split = make_split(params, CLASSES)
    assert sorted(split["train"] + split["valid"] + split["test"]) == sorted(CLASSES)


@pytest.mark.parametrize("params", SPLITS, ids=lambda params: params.kind)
def test_the_order_of_the_classes_does_not_matter(params: SplitParams) -> None:
    assert make_split(params, CLASSES) == make_split(params, CLASSES[::-1])


def test_random_counts_and_seeds() -> None:
    split = make_split(RandomSplit(num_valid=4, num_test=10), CLASSES)
    assert [len(split[part]) for part in ("train", "valid", "test")] == [26, 4, 10]
    assert split == make_split(RandomSplit(num_valid=4, num_test=10, seed=0), CLASSES)
    assert split != make_split(RandomSplit(num_valid=4, num_test=10, seed=1), CLASSES)


def test_more_validation_classes_leave_the_test_classes_alone() -> None:
    few, many = (make_split(RandomSplit(num_valid=count, num_test=10), CLASSES) for count in (0, 8))
    assert few["test"] == many["test"]


def test_families_stay_together() -> None:
    split = make_split(FamilySplit(num_valid=2, num_test=3), CLASSES)
    families = {part: {family_of(name) for name in names} for part, names in split.items()}
    assert [len(families[part]) for part in ("train", "valid", "test")] == [3, 2, 3]
    assert not families["train"] & families["test"] and not families["valid"] & families["test"]
    assert not families["train"] & families["valid"]


def test_a_list_may_name_classes_and_families() -> None:
    names = [f"{family}/character01" for family in EVALUATION] + [f"Other{i}/character01" for i in range(4)]
    split = make_split(ListSplit(test="lake_evaluation.txt", num_valid=1), names)
    assert {family_of(name) for name in split["test"]} == set(EVALUATION)
    assert len(split["valid"]) == 1 and len(split["train"]) == 3


def test_lake_s_evaluation_set_has_20_alphabets() -> None:
    assert len(EVALUATION) == len(set(EVALUATION)) == 20


def test_a_list_of_another_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lake_evaluation.txt names 'Angelic', no class .* \(20 such\)"):
        make_split(ListSplit(test="lake_evaluation.txt", num_valid=1), CLASSES)


def test_lists_of_valid_and_test_leave_the_others_for_train() -> None:
    split = make_split(RAVI, RAVI_CLASSES)
    assert split == make_split(RAVI, RAVI_CLASSES[::-1]) == {
        "train": ["n01532829", "n01558993"], "valid": read_list(RAVI.valid), "test": read_list(RAVI.test)}


def test_the_classes_of_miniimagenet_s_second_split_are_those_of_its_authors() -> None:
    classes = {}
    for part, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        with open(f"{mirror()}/mini_imagenet/ravi_{name}.csv", encoding="utf-8") as file:
            classes[part] = sorted({row["class_name"] for row in csv.DictReader(file)})
    assert [len(names) for names in classes.values()] == [64, 16, 20]
    assert make_split(RAVI, [name for names in classes.values() for name in names]) == classes


def test_imagenet_s_lists_are_as_long_as_the_paper_says() -> None:
    rand, dogs = read_list("imagenet_rand.txt"), read_list("imagenet_dogs.txt")
    assert len(rand) == len(set(rand)) == len(dogs) == len(set(dogs)) == 118
    assert len(set(rand) & set(dogs)) == 13


@pytest.mark.parametrize("name", ["imagenet_rand.txt", "imagenet_dogs.txt"])
def test_imagenet_s_lists_name_the_paper_s_synsets(name: str) -> None:
    path = ROOT.parent / "shared" / "paper" / name
    if not path.is_file():
        pytest.skip(f"no list of the paper's appendix B: {path}")
    assert set(read_list(name)) == set(path.read_text(encoding="utf-8").split())


def test_a_sample_may_lack_listed_classes() -> None:
    """But not all of a list's, and only if it is said to be a sample."""
    few = [*read_list(RAVI.valid)[:1], *read_list(RAVI.test)[:2], "n01532829"]
    split = make_split(RAVI, few, sample=True)
    assert split == {"train": ["n01532829"], "valid": few[:1], "test": few[1:3]}
    with pytest.raises(ValueError, match=r"valid: ravi_valid.txt names 'n02091244', no class .* \(15 such\)"):
        make_split(RAVI, few)
    with pytest.raises(ValueError, match=r"valid: of the 16 classes and families that ravi_valid.txt names this "
                                         "dataset has none, not even 'n01855672'"):
        make_split(RAVI, few[1:], sample=True)
    rand = ListSplit(test="imagenet_rand.txt", num_valid=1)
    assert make_split(rand, ["n01498041", "a", "b"], sample=True)["test"] == ["n01498041"]
    with pytest.raises(ValueError, match=r"test: imagenet_rand.txt names 'n01537544', no class .* \(117 such\)"):
        make_split(rand, ["n01498041", "a", "b"])


def test_a_list_of_a_larger_dataset_is_cut_to_the_classes_at_hand() -> None:
    """Those for valid are drawn of the others."""
    dogs = read_list("imagenet_dogs.txt")
    names = [*dogs[:3], *(f"n{number:08d}" for number in range(9))]
    split = make_split(CutListSplit(test="imagenet_dogs.txt", num_valid=4), names[::-1])
    assert split["test"] == dogs[:3] and [len(split[part]) for part in ("train", "valid")] == [5, 4]
    assert sorted(split["train"] + split["valid"]) == names[3:]
    whole = make_split(ListSplit(test="imagenet_dogs.txt", num_valid=4), [*dogs, *names[3:]])
    assert whole == {**split, "test": dogs}, "what is at hand is divided as it is where all of the list is"
    with pytest.raises(ValueError, match=r"names 'n\d+', no class .*, or write kind: cut_list, which passes"):
        make_split(ListSplit(test="imagenet_dogs.txt", num_valid=4), names)
    with pytest.raises(ValueError, match=r"imagenet_dogs.txt names this dataset has none, not even 'n02085620'"):
        make_split(CutListSplit(test="imagenet_dogs.txt", num_valid=4), names[3:])


def mini_imagenet_classes() -> list[str]:
    """The 100 of Ravi and Larochelle."""
    classes: set[str] = set()
    for name in ("train", "val", "test"):
        with open(f"{mirror()}/mini_imagenet/ravi_{name}.csv", encoding="utf-8") as file:
            classes |= {row["class_name"] for row in csv.DictReader(file)}
    return sorted(classes)


def test_the_paper_s_lists_cut_to_miniimagenet() -> None:
    names = mini_imagenet_classes()
    rand, dogs = (make_split(CutListSplit(test=f"imagenet_{kind}.txt", num_valid=16), names)["test"]
                  for kind in ("rand", "dogs"))
    assert (len(names), len(rand), len(dogs), len(set(rand) & set(dogs))) == (100, 12, 13, 2)


def test_lists_that_share_a_class_are_refused() -> None:
    """Both lists of the paper name 13 dogs."""
    both = TwoListsSplit(valid="imagenet_dogs.txt", test="imagenet_rand.txt")
    names = [*read_list(both.valid), *read_list(both.test)]
    message = r"imagenet_dogs.txt and imagenet_rand.txt both name 'n\d{8}' \(13 such\); a class is in one part alone"
    with pytest.raises(ValueError, match=message):
        make_split(both, sorted(set(names)))


@pytest.mark.parametrize("params, plain", [
    (RandomSplit(num_valid=4, num_test=10), '{"kind": "random", "num_valid": 4, "num_test": 10, "seed": 0}'),
    (FamilySplit(num_valid=2, num_test=3), '{"kind": "families", "num_valid": 2, "num_test": 3, "seed": 0}'),
    (ListSplit(test="a.txt", num_valid=1), '{"kind": "list", "test": "a.txt", "num_valid": 1, "seed": 0}'),
    (CutListSplit(test="a.txt", num_valid=1), '{"kind": "cut_list", "test": "a.txt", "num_valid": 1, "seed": 0}')])
def test_what_a_manifest_says_of_a_split_stays_as_it_was(params: SplitParams, plain: str) -> None:
    """Models and results name their data by the manifest's SHA-256: a field more, or another order, is other data."""
    assert json.dumps(asdict(params)) == plain


def test_an_unknown_list_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no list 'nothing.txt' .*lake_evaluation.txt"):
        make_split(ListSplit(test="nothing.txt", num_valid=1), CLASSES)


def test_more_classes_than_there_are() -> None:
    with pytest.raises(ValueError, match="4 \\+ 37 are more than the 40 classes; ask for fewer"):
        make_split(RandomSplit(num_valid=4, num_test=37), CLASSES)
    with pytest.raises(ValueError, match="2 \\+ 7 are more than the 8 families; ask for fewer"):
        make_split(FamilySplit(num_valid=2, num_test=7), CLASSES)


def test_impossible_values_are_refused_where_they_enter() -> None:
    with pytest.raises(ValueError, match="num_valid: -1 is not possible: it is a whole number of at least 0"):
        RandomSplit(num_valid=-1, num_test=3)
    with pytest.raises(ValueError, match="part: 'dev' is not possible: parts are train, valid, test"):
        WholeSplit(part="dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"test: '' is not possible: it is a list of classes; name a file of .*, or "
                                         r"the path of your own, with a slash, such as \./lake_evaluation\.txt"):
        ListSplit(test="", num_valid=1)
    with pytest.raises(ValueError, match=r"valid, test: 'ravi_test.txt' is not possible: a class is in one part alone"):
        TwoListsSplit(valid="ravi_test.txt", test="ravi_test.txt")
