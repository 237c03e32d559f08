"""Reading params.yaml."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from matchnet.parsing import ParamsError, nearest, parse
from pipeline.params.rules import check_params
from pipeline.params.sections import Params

PARAMS_FILE = Path("params.yaml")


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML 1.2 file (so 1e-3 is a number), anchors and merge keys resolved."""
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: there is no such file; run this from the folder that holds it") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: this is not YAML: {error}") from error


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: what is wrong, where, and what to do.
    """
    params = parse(Params, read_yaml(path), "")
    check_params(params)
    return with_environment(params)


def with_environment(params: Params) -> Params:
    """MATCHNET_MIRROR and RAY_ADDRESS go before what the file says."""
    cluster = replace(params.cluster,
                      mirror=os.environ.get("MATCHNET_MIRROR") or params.cluster.mirror,
                      ray_address=os.environ.get("RAY_ADDRESS") or params.cluster.ray_address)
    return replace(params, cluster=cluster)


def named(section: Mapping[str, Any], path: str, name: str) -> Any:
    """`section[name]`, or an error that says which names there are."""
    if name not in section:
        raise ParamsError(f"{path}: there is no {name!r} in params.yaml; {nearest(name, section)}")
    return section[name]
