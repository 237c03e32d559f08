"""params.yaml as nested frozen dataclasses, checked as a whole before any work begins."""

from matchnet.parsing import ParamsError
from pipeline.params.reading import named, read_params
from pipeline.params.sections import ComputeParams, ExperimentParams, ModelParams, Params

__all__ = ["ComputeParams", "ExperimentParams", "ModelParams", "Params", "ParamsError", "named", "read_params"]
