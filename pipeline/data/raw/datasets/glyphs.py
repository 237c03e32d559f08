"""Glyphs: a stand-in for Omniglot that needs no download, drawn from the fonts that matplotlib ships.

1,239 characters of 22 scripts and blocks of symbols (a class is `Greek/03A9`, its family the script) by 20
hands, 105 x 105 pixels of 1 bit, ink 0, in one zip like Omniglot's. Printed characters, bent and drawn again
with a pen: easier than people's handwriting.
"""

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from matchnet.files import atomic_write
from pipeline.data.raw.readers.glyph_characters import Character, choose_characters
from pipeline.data.raw.readers.glyph_drawing import draw
from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.raw.zip_files import list_zip, open_zips
from pipeline.data.spec import DatasetParams
from pipeline.system.machine import cores
from pipeline.system.progress import Progress
from pipeline.workers.processes import run_in_processes, stop_if_asked

EXTENSION = "png"
ARCHIVE = "glyphs.zip"


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """Draw all characters into `raw_dir/glyphs.zip` (20 s on two cores); the same params, the same bytes."""
    characters = choose_characters(params.seed, params.glyphs.max_per_script)
    draw_archive(raw_dir / ARCHIVE, characters, params, cores())


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """All drawings, by class and hand.

    Raises:
        ValueError: no archive, one that was drawn with other parameters, or one with drawings missing.
    """
    archive = raw_dir / ARCHIVE
    members = list_zip(archive)
    _check_made_with(archive, params, len(members))
    return [_sample(member) for member in members]


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """The PNG bytes of a sample, as the archive has them."""
    return open_zips(raw_dir)


def draw_archive(path: Path, characters: Sequence[Character], params: DatasetParams,
                 num_processes: int) -> None:
    """Draw `characters` and write them to a zip, in their order; the same bytes for any `num_processes`."""
    pngs: dict[Character, list[bytes]] = {}
    args = (params.glyphs.num_hands, params.seed)
    with Progress("drawing glyphs", total=len(characters), unit="character") as progress:
        for character, drawn in run_in_processes(_hands_and_seed, args, _draw_pngs, characters, num_processes):
            pngs[character] = drawn
            progress.advance()
    with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.comment = _made_with(params, len(characters) * params.glyphs.num_hands).encode()
        for character in characters:
            for hand, png in enumerate(pngs[character], start=1):
                # ZipInfo's own date is 1980-01-01, the same for every run.
                archive.writestr(zipfile.ZipInfo(f"{character.class_name}/{hand:02d}.png"), png)


def _hands_and_seed(num_hands: int, seed: int) -> tuple[int, int]:
    return num_hands, seed


def _draw_pngs(hands_and_seed: tuple[int, int], character: Character) -> list[bytes]:
    stop_if_asked()
    return [_png(ink) for ink in draw(character.code_point, *hands_and_seed)]


def _png(ink_HW: np.ndarray) -> bytes:
    """A PNG of 1 bit a pixel, ink black; by Huffman codes alone, as zlib's versions differ in all else."""
    buffer = io.BytesIO()
    Image.fromarray(~ink_HW).save(buffer, "PNG", compress_level=9, compress_type=zlib.Z_HUFFMAN_ONLY)
    return buffer.getvalue()


def _sample(member: zipfile.ZipInfo) -> RawSample:
    key = member.filename.removesuffix(".png")
    return RawSample(key, key.rpartition("/")[0], ARCHIVE, member.filename, member.file_size)


def _made_with(params: DatasetParams, num_drawings: int) -> str:
    return (f"{num_drawings} drawings, seed {params.seed}, num_hands {params.glyphs.num_hands}, "
            f"max_per_script {params.glyphs.max_per_script}")


def _check_made_with(archive: Path, params: DatasetParams, num_drawings: int) -> None:
    with zipfile.ZipFile(archive) as opened:
        found = opened.comment.decode(errors="replace")
    expected = _made_with(params, num_drawings)
    if found != expected:
        raise ValueError(f"{archive}: its comment is {found!r}, expected {expected!r}: it was drawn with "
                         "other parameters, or drawings are missing; run the download again, which draws all")
