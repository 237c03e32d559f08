"""The files of parameters as nested frozen dataclasses, checked as a whole before any work begins."""

from matchnet.parsing import ParamsError
from pipeline.params.reading import named, read_params
from pipeline.params.sections import ComputeParams, ModelParams, Params, RowParams
from pipeline.params.tables import read_table, table_folders, table_name

__all__ = ["ComputeParams", "ModelParams", "Params", "ParamsError", "RowParams", "named", "read_params", "read_table",
           "table_folders", "table_name"]
