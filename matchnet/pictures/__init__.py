"""Picture files of any kind, as grey or RGB. This room of matchnet imports Pillow; equations know nothing of it."""

from matchnet.pictures.reading import FORMATS, MAX_PIXELS, Paper, PictureError, format_of, read_picture

__all__ = ["FORMATS", "MAX_PIXELS", "Paper", "PictureError", "format_of", "read_picture"]
