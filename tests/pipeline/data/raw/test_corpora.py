"""Sentences from text files to word rows: what is in the shards, what each part has, and files that are no good."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import webdataset
from small_corpus import COUNTS, PARAMS, corpus, small_corpus, write_corpus
from small_omniglot import mirror

from matchnet.episodes import EpisodeSpec, sample_episodes
from matchnet.files import sha256_of
from matchnet.tokens import BLANK, FIRST_WORD
from pipeline.data.formats.word_table import WORDS, make_word_table, read_words
from pipeline.data.load.samples import load_samples
from pipeline.data.load.sentences import load_sentences, load_words
from pipeline.data.raw.datasets import ptb, ptb_sample, treebank3
from pipeline.data.raw.readers import treebank
from pipeline.data.raw.readers.sentence_files import read_sentences
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.data.spec import PARTS, DatasetParams, Part, WordSplit
from pipeline.data.splits import make_split, read_list

SPEC = EpisodeSpec(2, 1, 1)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_corpus(tmp_path / "raw", monkeypatch)


@pytest.fixture(scope="module")
def shards(small_corpus_shards: Path) -> Path:
    return small_corpus_shards


# ---- what is written ----

def test_plain_webdataset_reads_each_file_s_sentences_from_its_own_shards(shards: Path) -> None:
    for part, sentences in corpus().items():
        tars = sorted(str(path) for path in shards.glob(f"{part}-*.tar"))
        streamed = {sample["__key__"]: sample["txt"].decode()
                    for sample in webdataset.WebDataset(tars, shardshuffle=False)}
        assert len(tars) > 1
        assert [streamed[f"{part}/{row:06d}"] for row in range(COUNTS[part])] == sentences


def test_the_same_bytes_again_and_with_two_processes(raw: Path, shards: Path, tmp_path: Path) -> None:
    shard_dataset("small", PARAMS, raw, tmp_path / "two", num_processes=2)
    assert {path.name: sha256_of(path) for path in shards.iterdir()} == {
        path.name: sha256_of(path) for path in (tmp_path / "two").iterdir()}


def test_the_manifest_has_the_words_and_their_splits(shards: Path) -> None:
    manifest, table = ShardFolder(shards).manifest, read_words(shards / WORDS)
    assert [(entry.name, entry.num_samples) for entry in manifest.classes] == sorted(COUNTS.items())
    assert manifest.words is not None and manifest.words.sha256 == sha256_of(shards / WORDS)
    assert (manifest.words.num_pairs, manifest.words.num_words) == (len(table.word_P), 33)
    split = manifest.splits["words"]
    assert [len(split[part]) for part in PARTS] == [17, 6, 8]
    assert sorted(word for part in PARTS for word in split[part]) == sorted(set(table.vocabulary) - {"<unk>", "N"})
    ShardFolder(shards).verify()


def test_an_edited_word_table_is_noticed(raw: Path, tmp_path: Path) -> None:
    shard_dataset("small", PARAMS, raw, tmp_path / "shards")
    (tmp_path / "shards" / WORDS).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"words.parquet: edited after it was written"):
        load_words(ShardFolder(tmp_path / "shards"), "words", ["test"])
    with pytest.raises(ValueError, match=r"words.parquet: edited after it was written"):
        load_sentences(ShardFolder(tmp_path / "shards"), "train")


def test_the_table_has_each_word_of_each_distinct_sentence(shards: Path) -> None:
    table = read_words(shards / WORDS)
    found = Counter({(file, row, table.vocabulary[word]): count for word, file, row, count in
                     zip(*map(np.ndarray.tolist, (table.word_P, table.file_P, table.row_P, table.occurrences_P)),
                         strict=True)})
    expected = Counter((file, sentences.index(sentence), word) for file, sentences in corpus().items()
                       for sentence in dict.fromkeys(sentences) for word in sentence.split())
    assert found == expected
    frequencies = Counter(word for sentence in corpus()["train"] for word in sentence.split())
    assert table.vocabulary == sorted(frequencies, key=lambda word: (-frequencies[word], word))


# ---- what a part has ----

@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_its_own_words_in_its_own_sentences(shards: Path, part: Part) -> None:
    rows, names = load_words(ShardFolder(shards), "words", [part]), ShardFolder(shards).manifest.splits["words"][part]
    sentences = corpus()[part]
    found = [(sentences[z], rows.words[token - FIRST_WORD])
             for z, token in zip(rows.row_sentence_R.tolist(), rows.row_word_R.tolist(), strict=True)]
    assert Counter(found) == Counter((sentence, word) for sentence in set(sentences)
                                     for word in set(sentence.split()) & set(names))


@pytest.mark.parametrize("parts", [("train", "valid"), ("valid", "train")])
def test_train_and_valid_together_are_all_their_words_in_the_training_sentences(
        shards: Path, parts: tuple[Part, ...]) -> None:
    rows, split = load_words(ShardFolder(shards), "words", parts), ShardFolder(shards).manifest.splits["words"]
    words = {rows.words[token - FIRST_WORD] for token in rows.row_word_R.tolist()}
    assert words == {*split["train"], *split["valid"]} and len(rows.sentences.sentence_start_Z) == COUNTS["train"] + 1


@pytest.mark.parametrize("file", PARTS)
def test_running_text_is_the_file(shards: Path, file: Part) -> None:
    text, vocabulary = load_sentences(ShardFolder(shards), file), read_words(shards / WORDS).vocabulary
    words = [vocabulary[token - FIRST_WORD] for token in text.token_T.tolist()]
    starts = text.sentence_start_Z.tolist()
    assert [" ".join(words[a:b]) for a, b in pairwise(starts)] == corpus()[file]


def test_no_sentence_serves_twice_in_an_episode_and_no_word_is_left_in_its_sample(shards: Path) -> None:
    samples = load_samples(ShardFolder(shards), "words", ["test"], (2 * 8 + 1,))
    classes = samples.classes_for(SPEC)
    assert samples.origin_R is not None
    for number in range(300):
        episode = sample_episodes(0, [number], SPEC, classes)
        rows = np.concatenate([episode.support_ES[0], episode.query_EQ[0]])
        texts = [corpus()["test"][z] for z in samples.origin_R[rows]]
        assert len(set(texts)) == len(texts)
        names = samples.names_of(classes, episode.class_EN[0].numpy())
        ways = np.concatenate([episode.support_way_ES[0], episode.query_way_EQ[0]])
        for row, text, way in zip(rows.tolist(), texts, ways.tolist(), strict=True):
            sample = samples.store.gather(episode.support_ES.new_tensor([row]))[0].tolist()
            assert names[way] in text.split() and sample[8] == BLANK
            assert FIRST_WORD + samples.class_names.index(names[way]) not in sample


def test_words_with_too_few_sentences_are_left_out(shards: Path) -> None:
    samples = load_samples(ShardFolder(shards), "words", ["test"], (17,))
    counts = Counter(samples.class_id_R.tolist())
    for queries in (1, 2, 3):
        classes = samples.classes_for(EpisodeSpec(2, 1, queries))
        assert classes.num_classes == sum(count >= 1 + queries for count in counts.values())


def test_image_and_sentence_samples_keep_apart(shards: Path) -> None:
    with pytest.raises(ValueError, match="small holds sentences; give the model a context instead of an image_size"):
        load_samples(ShardFolder(shards), "words", ["test"], (1, 28, 28))


# ---- bad input ----

def change(raw: Path, part: Part, row: int, line: bytes) -> None:
    path = raw / ptb.FILES[part]
    lines = path.read_bytes().split(b"\n")
    lines[row] = line
    path.write_bytes(b"\n".join(lines))


def refused(raw: Path, message: str, params: DatasetParams = PARAMS) -> None:
    with pytest.raises(ValueError, match=message):
        shard_dataset("small", params, raw, raw.parent / "out")
    assert not (raw.parent / "out").exists()


def test_a_file_cut_short(raw: Path) -> None:
    path = raw / "ptb.valid.txt"
    path.write_bytes(path.read_bytes()[:300])
    refused(raw, r"ptb\.valid\.txt: \d+ sentences, expected 40: it was cut short, or is of another preparation; del")


def test_no_file(raw: Path) -> None:
    (raw / "ptb.test.txt").unlink()
    refused(raw, r"ptb\.test\.txt: no such file; run the download first")


def test_an_empty_line(raw: Path) -> None:
    change(raw, "train", 11, b"  ")
    refused(raw, r"ptb\.train\.txt, line 12: no word in it; a sentence has at least one: remove the line")


def test_bytes_that_are_not_utf_8(raw: Path) -> None:
    change(raw, "test", 4, b" the caf\xe9 w01 ")
    refused(raw, r"ptb\.test\.txt, line 5: byte 9 of it, b'\\xe9', is not UTF-8; take the file from its source again")


def test_a_byte_order_mark_is_no_letter_of_the_first_word(raw: Path) -> None:
    for path in raw.iterdir():
        before = path.read_text(encoding="utf-8")
        words = read_sentences(path)
        path.write_text(before, encoding="utf-8-sig")
        assert read_sentences(path) == words
    path.write_text("\ufeff" + before, encoding="utf-8-sig")
    with pytest.raises(ValueError, match=r"line 1: '\\ufeff.*' has a character that cannot be seen; remove it"):
        read_sentences(path)


@pytest.mark.parametrize("marker", ["<eos>", "<UNK>", "</s>", "[PAD]", "<num>"])
def test_a_marker_of_another_preparation(raw: Path, marker: str) -> None:
    path = raw / "ptb.train.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[6] += f" {marker}"
    path.write_text("\n".join(lines), encoding="utf-8")
    refused(raw, rf"ptb\.train\.txt, line 7: {re.escape(repr(marker))} is a marker of another preparation; the only "
                 "ones are <unk> for rare words and N for numbers, and a sentence ends with its line: replace it, or")


def test_a_word_that_training_does_not_have(raw: Path) -> None:
    change(raw, "valid", 2, b" the stranger ")
    refused(raw, r"valid, line 3: 'stranger' is not among the 33 words of the training file: the files are of "
                 r"different vocabularies; take all of them from one preparation")


def test_test_words_of_another_vocabulary(raw: Path) -> None:
    listed = DatasetParams(source="ptb", splits={"words": WordSplit(test="ptb_test_words.txt", num_valid=2)})
    refused(raw, r"ptb_test_words\.txt has \"'s\", no word of this corpus \(1000 such of 1000\): the corpus is of "
                 r"another vocabulary; name a list that was made for it, or give num_test", listed)


def test_more_words_than_there_are(raw: Path) -> None:
    params = DatasetParams(source="ptb", splits={"words": WordSplit(num_test=30, num_valid=2)})
    refused(raw, r"num_valid, num_test: 2 \+ 30 are more than the 31 words; ask for fewer", params)


def test_a_corpus_where_no_word_has_enough_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptb, "SENTENCES", {"train": 1, "valid": 1, "test": 2})
    raw = write_corpus(tmp_path / "raw", {"train": ["a b c d"], "valid": ["a"], "test": ["a b", "c d"]})
    params = DatasetParams(source="ptb", splits={"words": WordSplit(num_test=4, num_valid=0)})
    shard_dataset("tiny", params, raw, tmp_path / "shards")
    samples = load_samples(ShardFolder(tmp_path / "shards"), "words", ["test"], (5,))
    with pytest.raises(ValueError) as error:
        samples.classes_for(EpisodeSpec(2, 1, 1))
    assert str(error.value) == ("tiny: 0 of 4 words are in 2 sentences or more; 2 ways with 1 shots + 1 queries need 2 "
                                "such words; lower one of them or take a larger corpus")


def test_a_word_split_is_either_listed_or_drawn() -> None:
    for wrong in ({}, {"test": "ptb_test_words.txt", "num_test": 3}):
        with pytest.raises(ValueError, match=r"test, num_test: .* is not possible: test words are either"):
            WordSplit(num_valid=1, **wrong)  # type: ignore[arg-type]


# ---- Mikolov's form ----

def test_mikolov_s_form_of_a_tagged_sentence() -> None:
    tagged = [("``", "``"), ("The", "DT"), ("firm", "NN"), ("'s", "POS"), ("8.5", "CD"), ("%", "NN"), ("notes", "NNS"),
              (",", ","), ("*T*-1", "-NONE-"), ("due", "JJ"), ("1989-90", "CD"), ("--", ":"), ("rose", "VBD"),
              ("3\\/8", "CD"), ("to", "TO"), ("$", "$"), ("1,500", "CD"), ("a", "DT"), ("10-day", "JJ"),
              ("-RRB-", "-RRB-"), ("Corp.", "NNP"), ("&", "CC"), (".", ".")]
    assert " ".join(treebank.plain_words(tagged)) == \
        "the firm 's N N notes due N rose N to $ N a 10-day corp. &"


def test_rare_words_become_unk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(treebank, "NUM_WORDS", 4)
    treebank.write_files(tmp_path, {"train": [["a", "a", "b", "c"], ["b", "c", "d", "a"], ["d", "e"]],
                                         "valid": [["d", "a"]], "test": [["z", "b"]]})
    assert (tmp_path / "train.txt").read_text() == "a a b c\nb c <unk> a\n<unk> <unk>\n"
    assert (tmp_path / "valid.txt").read_text() == "<unk> a\n" and (tmp_path / "test.txt").read_text() == "<unk> b\n"


TREE = "( (S (NP-SBJ (DT The) (NN {noun}) ) (VP (VBZ falls) (NP (-NONE- *T*-1) )) (. .) ))\n"


def test_a_treebank_3_by_its_sections(tmp_path: Path) -> None:
    for section in range(25):
        folder = tmp_path / "ldc" / "parsed" / "mrg" / "wsj" / f"{section:02d}"
        folder.mkdir(parents=True)
        (folder / f"wsj_{section:02d}01.mrg").write_text(TREE.format(noun="Dollar") + TREE.format(noun=f"s{section}"))
    params = DatasetParams(source="treebank3", splits={"words": WordSplit(num_test=1, num_valid=1)})
    (tmp_path / "raw").mkdir()
    treebank3.prepare_raw(tmp_path / "raw", params, str(tmp_path / "ldc"))
    lines = {part: (tmp_path / "raw" / f"{part}.txt").read_text().splitlines() for part in PARTS}
    assert {part: len(lines[part]) for part in PARTS} == {"train": 42, "valid": 4, "test": 4}
    assert lines["valid"] == ["the dollar falls", "the <unk> falls"] * 2
    manifest = shard_dataset("ldc", params, tmp_path / "raw", tmp_path / "shards")
    assert manifest.num_samples == 50


def test_a_treebank_3_that_is_not_there(tmp_path: Path) -> None:
    def prepared(folder: str | None) -> None:
        treebank3.prepare_raw(tmp_path, DatasetParams(source="treebank3", splits=PARAMS.splits), folder)

    with pytest.raises(ValueError, match=r"licensed\.treebank3: null; .* Treebank-3 \(LDC99T42, https.*: name the"):
        prepared(None)
    with pytest.raises(ValueError, match=r"licensed\.treebank3: no WSJ section 00 below '.*', neither in parsed/mrg"):
        prepared(str(tmp_path))
    (tmp_path / "wsj" / "00").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"wsj/00: no trees \(wsj_\.\.\.\.mrg\) in it; the standard sections"):
        prepared(str(tmp_path))
    (tmp_path / "wsj" / "00" / "wsj_0001.mrg").write_text("( (S (NP (DT The")
    for section in range(1, 25):
        (tmp_path / "wsj" / f"{section:02d}").mkdir()
        (tmp_path / "wsj" / f"{section:02d}" / f"wsj_{section:02d}01.mrg").write_text(TREE.format(noun="x"))
    with pytest.raises(ValueError, match=r"00/wsj_0001\.mrg: 4 brackets open in it and 0 close: not a whole file"):
        prepared(str(tmp_path))


# ---- the real ones ----

def test_the_real_penn_treebank(tmp_path: Path) -> None:
    """The words that have enough sentences, as README says: 403, 297 and 241 of the 1,000."""
    files = {part: ptb.read_sentences(Path(mirror(), "ptb", name)) for part, name in ptb.FILES.items()}
    assert {part: len(sentences) for part, sentences in files.items()} == ptb.SENTENCES
    table = make_word_table(files)
    split = make_split(WordSplit(test="ptb_test_words.txt", num_valid=1000), table.classes)
    assert [len(split[part]) for part in PARTS] == [7997, 1000, 1000] and table.num_tokens == 10_003
    assert set(split["test"]) == set(read_list("ptb_test_words.txt"))
    tests = np.isin(np.array(table.vocabulary), split["test"])[table.word_P] & (table.file_P == "test")
    counts = np.bincount(table.word_P[tests])
    assert [int((counts >= least).sum()) for least in (2, 3, 4)] == [403, 297, 241]
    assert [int((counts >= least).sum()) for least in (5, 6, 7)] == [195, 172, 153]
    assert max(len(sentence.split()) for sentences in files.values() for sentence in sentences) == 82


def test_nltk_s_sample_comes_out_as_mikolov_has_it(tmp_path: Path) -> None:
    archive = Path(mirror(), "nltk", "treebank.zip")
    names = [f"wsj_{number:04d}.mrg" for number in range(1, 200)]
    ours = treebank.read_trees(archive, ptb_sample.FOLDER, {"train": names})["train"]
    lines = Counter(ptb.read_sentences(Path(mirror(), "ptb", "ptb.train.txt")))
    words = {word for line in lines for word in line.split()}
    known = Counter(" ".join(word if word in words else "<unk>" for word in sentence) for sentence in ours)
    assert known.total() == ptb_sample.NUM_SENTENCES and (known & lines).total() == 3_910


def test_a_sample_cut_short_is_refused(tmp_path: Path) -> None:
    params = DatasetParams(source="ptb_sample", splits=PARAMS.splits)
    (tmp_path / ptb_sample.ARCHIVE).write_bytes(Path(mirror(), "nltk", "treebank.zip").read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"treebank\.zip: not a whole zip"):
        ptb_sample.prepare_raw(tmp_path, params)
