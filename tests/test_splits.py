"""Splits: every class in exactly one part, families kept together, lists checked, the seed decides."""

import pytest

from pipeline.data.spec import FamilySplit, ListSplit, RandomSplit, SplitParams, WholeSplit
from pipeline.data.splits import family_of, make_split, read_list

CLASSES = [f"{family}/{number}" for family in "ABCDEFGH" for number in range(5)]
EVALUATION = read_list("lake_evaluation.txt")
SPLITS = [RandomSplit(num_valid=4, num_test=10), FamilySplit(num_valid=2, num_test=3), WholeSplit()]


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
    with pytest.raises(ValueError, match=r"test: '\.\./secret' is not possible"):
        ListSplit(test="../secret", num_valid=1)
