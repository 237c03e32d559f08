"""Samples to train or test on: those of some parts of a split behind one store, images or sentences."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch

from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.store import MemoryStore, Store
from matchnet.text import SentenceStore
from pipeline.data.formats.word_table import FIRST_WORD
from pipeline.data.load.decoder import Decoder
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.load.sentences import load_words, words_in_sentences
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.spec import Part
from pipeline.data.wordnet.class_tree import class_groups
from pipeline.system.machine import available_memory, cores, memory_to_share
from pipeline.system.progress import Progress

ROWS_AT_ONCE = 1024  # images whose bytes are read before the first of them is decoded


@dataclass(frozen=True)
class Samples:
    """R samples and their classes.

    Args:
        class_names: the names of all classes of the dataset; in a corpus, its words.
        manifest_sha256: names the data.
        class_id_R: int64, positions in class_names.
        origin_R: the sentence that each row is cut from; None for images.
    """

    name: str
    class_names: list[str]
    manifest_sha256: str
    store: Store
    class_id_R: np.ndarray
    origin_R: np.ndarray | None = None

    @property
    def vocabulary(self) -> list[str] | None:
        """token - FIRST_WORD -> word; None for images."""
        return None if self.origin_R is None else self.class_names

    def names_of(self, classes: ClassRows, position_N: np.ndarray) -> list[str]:
        """The names of classes at some positions of a ClassRows of these samples."""
        return [self.class_names[class_id] for class_id in self.class_id_R[classes.rows[classes.starts[position_N]]]]

    @property
    def num_classes(self) -> int:
        """Number of classes that have a sample here; see EpisodeSpec.among."""
        return len(np.unique(self.class_id_R))

    def classes_for(self, spec: EpisodeSpec) -> ClassRows:
        """The classes that episodes of this spec are drawn from.

        Words with fewer sentences than an episode needs are left out, as in the paper; every class of images has to
        have enough.

        Raises:
            ValueError: the classes cannot serve the spec; says what they have and what it needs.
        """
        classes = ClassRows.from_class_ids(self.class_id_R, origin_R=self.origin_R)
        if self.origin_R is not None:
            frequent = classes.with_at_least(spec.samples_per_way)
            if frequent.num_classes < spec.num_ways:
                raise ValueError(
                    f"{self.name}: {frequent.num_classes} of {classes.num_classes} words are in {spec.samples_per_way} "
                    f"sentences or more; {spec.num_ways} ways with {spec.num_shots} shots + {spec.num_queries} queries "
                    f"need {spec.num_ways} such words; lower one of them or take a larger corpus")
            classes = frequent
        if spec.fine_grained is not None:
            classes = classes.with_groups(class_groups(self.names_of(classes, np.arange(classes.num_classes))))
        classes.check(spec)
        return classes


@dataclass(frozen=True)
class Room:
    """Memory and processes that this process may spend on samples. They change no result.

    memory_bytes: images that take more, decoded, stay in their shards and are decoded each time they are asked for.
    num_processes: processes that decode such images.
    shared_bytes: shared memory in which the processes hand over decoded images. Half of all that there is, because
        training has a second store for validation.
    """

    memory_bytes: int = field(default_factory=lambda: available_memory() // 4)
    num_processes: int = field(default_factory=cores)
    shared_bytes: int = field(default_factory=lambda: memory_to_share() // 2)


def load_samples(shards: ShardFolder, split: str, parts: Sequence[Part], sample_shape: tuple[int, ...],
                 room: Room | None = None) -> Samples:
    """The samples of some parts, in the shape that a model takes them; rows are sorted by class and key.

    Images that fit into memory are decoded once, into one uint8 tensor: 5 s for all of Omniglot at 28 x 28 on one core.
    The shards that the parts are in are compared with their SHA-256 first. Other shards need not be there.

    Args:
        sample_shape: (C, size, size) for images, C of 1 or 3. (L,) tokens for sentences: `SentenceStore` has odd L with
            the word blanked, even L with the word itself at the end.
    Raises:
        ValueError: an unknown split or part, samples of the other kind, a shard cut short or edited, an image that
            cannot be decoded (shard, key and offset are named).
    """
    name = shards.manifest.name
    if len(sample_shape) == 1:
        words = load_words(shards, split, parts)
        sentences = SentenceStore(words.sentences.token_T, words.sentences.sentence_start_Z,
                                  torch.from_numpy(words.row_sentence_R), torch.from_numpy(words.row_word_R),
                                  context=(sample_shape[0] - 1) // 2, blank=sample_shape[0] % 2 == 1)
        return Samples(name, words.words, shards.sha256, sentences, words.row_word_R - FIRST_WORD, words.row_sentence_R)
    room = room or Room()
    if shards.count_samples(split, parts) * math.prod(sample_shape) > room.memory_bytes:
        store = ShardStore(shards, split, sample_shape, parts, room.num_processes, room.shared_bytes)
        return Samples(name, shards.class_names, shards.sha256, store, store.class_id_R)
    groups = shards.groups_of(split, parts)
    shards.verify(groups)
    decoder = Decoder(shards, sample_shape, groups)
    with closing(decoder.shards):
        rows, class_id_R = shards.select(split, parts)
        samples_RCHW = np.empty((len(rows), *sample_shape), np.uint8)
        with Progress(f"loading {name}", len(rows), "samples") as progress:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                chunk = rows[start:start + ROWS_AT_ONCE]
                for position, pixels in enumerate(decoder.decode(shards.index.take(chunk)), start):
                    samples_RCHW[position] = pixels
                progress.advance(len(chunk))
    return Samples(name, shards.class_names, shards.sha256, MemoryStore(torch.from_numpy(samples_RCHW)), class_id_R)


def require_episodes(shards: ShardFolder, split: str, parts: Sequence[Part], spec: EpisodeSpec, field: str,
                     copies: int = 1) -> None:
    """Refuse episodes that the classes of these parts cannot serve, from the manifest and the word table alone.

    Args:
        field: the field of the parameters that holds `spec`; for messages.
        copies: classes that are made of each, of as many samples: itself and its rotations.
    Raises:
        ValueError: names the field, the dataset, the parts and the class, with the numbers and what to do.
    """
    manifest = shards.manifest
    names = set(shards.names_of(split, parts))
    where = f"dataset {manifest.name}, split {split}, {' and '.join(parts)}"
    if manifest.words is not None:
        _require_words(shards.words.word_P[words_in_sentences(shards, split, parts)], spec, field, where)
        return
    num_classes = len(names) * copies
    if max(spec.num_ways, 2) > num_classes:  # episodes of all classes, too, need two
        raise ValueError(f"{field}: num_ways is {spec.num_ways}, and there are {num_classes} classes ({where}); lower "
                         f"it, or change datasets.{manifest.name}.splits.{split} so that there are more")
    fewest = min((entry for entry in manifest.classes if entry.name in names), key=lambda entry: entry.num_samples)
    if spec.samples_per_way > fewest.num_samples:
        raise ValueError(f"{field}: num_shots is {spec.num_shots} and num_queries {spec.num_queries}, "
                         f"{spec.samples_per_way} samples of a class, and class {fewest.name!r} has "
                         f"{fewest.num_samples} ({where}); lower one of them or leave the class out of the dataset")
    if spec.fine_grained is not None and copies == 1:
        _require_groups([entry.name for entry in manifest.classes if entry.name in names], spec, f"{field}: {where}")


def _require_words(word_R: np.ndarray, spec: EpisodeSpec, field: str, where: str) -> None:
    """As `Samples.classes_for`, which leaves out words of too few sentences."""
    words, num_sentences = np.unique(word_R, return_counts=True)
    frequent, num_ways = int((num_sentences >= spec.samples_per_way).sum()), max(spec.among(len(words)).num_ways, 2)
    if frequent < num_ways:
        raise ValueError(f"{field}: num_shots is {spec.num_shots} and num_queries {spec.num_queries}, and {frequent} "
                         f"of {len(words)} words are in {spec.samples_per_way} sentences or more ({where}); {num_ways} "
                         "ways need as many such words: lower num_ways, num_shots or num_queries")


def _require_groups(names: Sequence[str], spec: EpisodeSpec, where: str) -> None:
    classes = ClassRows.from_class_ids(np.arange(len(names)))
    try:
        classes.with_groups(class_groups(names)).groups_for(spec.among(len(names)))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
