"""dataset.json: what a folder of shards holds and was made with; written last, when the rest is whole."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter

from matchnet.files import atomic_write
from matchnet.messages import said, shown
from matchnet.parsing import parse
from pipeline.data.spec import OF_PICTURE_FILES, PARTS, RAW_ONLY, SOURCES, DatasetParams, Part
from pipeline.system.checked_json import parse_checked

FORMAT = 1
MANIFEST = "dataset.json"
AGAIN = "run the shard stage again"
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[^/\x00]+$")]  # begins names of files and folders
FileName = Annotated[str, Field(pattern=r"^[^/\x00]+\.tar$")]  # in the folder of the shards, and nowhere else


@dataclass(frozen=True)
class ShardEntry:
    """One tar: its file name, the group whose classes it holds, its bytes, its samples, its SHA-256."""

    __pydantic_config__ = STRICT
    name: FileName
    group: Name
    size: Count
    num_samples: Count
    sha256: Sha256


@dataclass(frozen=True)
class ClassEntry:
    """One class; its class_id is its position in `Manifest.classes`."""

    __pydantic_config__ = STRICT
    name: str
    group: Name
    num_samples: Count


@dataclass(frozen=True)
class WordsEntry:
    """The word table of a corpus of sentences: its SHA-256, its pairs of word and sentence, its vocabulary."""

    __pydantic_config__ = STRICT
    sha256: Sha256
    num_pairs: Count
    num_words: Count


@dataclass(frozen=True)
class Manifest:
    """The content of dataset.json; `parameters` is DatasetParams in plain values, `sources` is file -> SHA-256.

    splits: of the samples' classes, or of words if there is a word table.
    words: the word table; None, and not in the file, if there is none.
    oddities: oddity of samples that the source mended (`CMYK JPEG`) -> how many; None for a source that mends nothing.
    left_out: classes that have too few samples -> how many they have; None if the source leaves none out.
    """

    __pydantic_config__ = STRICT
    name: Name
    num_samples: Count
    classes: tuple[ClassEntry, ...]
    splits: Mapping[str, Mapping[Part, list[str]]]
    shards: tuple[ShardEntry, ...]
    index_sha256: Sha256
    parameters: Mapping[str, Any]
    sources: Mapping[str, str]
    words: WordsEntry | None = None
    oddities: Mapping[str, int] | None = None
    left_out: Mapping[str, int] | None = None


ADAPTER = TypeAdapter(Manifest)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    with atomic_write(directory / MANIFEST) as file:
        fields = {name: value for name, value in asdict(manifest).items() if value is not None}
        json.dump({"format": FORMAT, **fields}, file, indent=1, ensure_ascii=False)
        file.write("\n")


def parse_manifest(content: bytes, origin: str) -> Manifest:
    """The manifest in the bytes of a dataset.json; `origin` names the file in messages.

    Raises:
        ValueError: not JSON, of another format version, a field missing or impossible, or fields that contradict one
            another; names the field.
    """
    try:
        fields = json.loads(content.decode())
        found = fields.pop("format", None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{origin}: not a manifest ({said(error)}); {AGAIN}") from error
    if found != FORMAT:
        raise ValueError(f"{origin}: format {shown(found)}, but this program reads format {FORMAT}; {AGAIN}")
    manifest = parse_checked(ADAPTER, json.dumps(fields), origin, ValueError, AGAIN)
    for problem in _problems(manifest):
        raise ValueError(f"{origin}: {problem}; {AGAIN}")
    return manifest


# Fields of a source's section that say how its samples are stored; see `raw.extension_of`.
STORED_AS = {"mini_imagenet": "prepared", **dict.fromkeys(OF_PICTURE_FILES, "format")}


def _problems(manifest: Manifest) -> Iterator[str]:
    """Yield contradictions between the fields, and parameters that no dataset has; without any, it can be trusted.

    Names of parameters that are not known here may be those of another version, and decide nothing.
    """
    groups, parameters = {entry.group for entry in manifest.shards}, manifest.parameters
    for what, entries in (("shards", manifest.shards), ("classes", manifest.classes)):
        total = sum(entry.num_samples for entry in entries)
        if total != manifest.num_samples:
            yield f"num_samples: {manifest.num_samples:,}, but its {what} have {total:,}"
        if len({entry.name for entry in entries}) < len(entries):
            yield f"{what}: a name is there twice"
    for entry in manifest.classes:
        if entry.group not in groups:
            yield f"classes: {shown(entry.name)} is of group {shown(entry.group)}, which has no shard"
    known = None if manifest.words is not None else {entry.name for entry in manifest.classes}
    for split, parts in manifest.splits.items():
        if tuple(parts) != PARTS:
            yield f"splits.{split}: its parts are {', '.join(parts)}, not {', '.join(PARTS)}"
        strangers = {name for part in parts.values() for name in part} - known if known is not None else set()
        if strangers:
            yield f"splits.{split}: {shown(min(strangers))} is none of its classes"

    if parameters.get("source") not in SOURCES:
        yield f"parameters.source: {shown(parameters.get('source'))} is none of {', '.join(SOURCES)}"
    if type(parameters.get("invert")) is not bool:
        yield f"parameters.invert: {shown(parameters.get('invert'))} is neither true nor false"
    source, stored_as = parameters["source"], STORED_AS.get(parameters["source"])
    for name in ("margin", *([source] if stored_as else [])):
        if name not in parameters:
            yield f"parameters.{name}: it is missing"
    found = {field.name: parameters[field.name] for field in fields(DatasetParams) if field.name in parameters}
    found |= {"splits": {"any": {"kind": "whole"}}}  # those that were made are checked above
    for section in set(found) & set(SOURCES):
        if isinstance(found[section], Mapping):  # whatever is no section, `parse` refuses
            known_fields = {field.name for field in fields(get_type_hints(DatasetParams)[section])}
            found[section] = {name: "not kept" for name in RAW_ONLY if name in known_fields} | {
                name: item for name, item in found[section].items() if name in known_fields}
    try:
        parse(DatasetParams, found, "parameters")
    except (ValueError, OverflowError) as error:  # a whole number that is no float
        yield f"{'' if isinstance(error, ValueError) else 'parameters: '}{error}"
    if stored_as and stored_as not in parameters[source]:
        yield f"parameters.{source}.{stored_as}: it is missing"
