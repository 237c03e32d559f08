"""Picture files of any kind, as grey or RGB. This room of matchnet imports Pillow; equations know nothing of it."""

from matchnet.pictures.reading import (
    FORMATS,
    MAX_PIXELS,
    WHITE,
    Paper,
    PictureError,
    check_size,
    format_of,
    orientation_of,
    read_picture,
    turned_upright,
)

__all__ = ["FORMATS", "MAX_PIXELS", "WHITE", "Paper", "PictureError", "check_size", "format_of", "orientation_of",
           "read_picture", "turned_upright"]
