"""Reading the parameters of a table, as the stages see them."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from matchnet.parsing import ParamsError, nearest
from pipeline.params.sections import Params
from pipeline.params.tables import folder_of, read_table


def read_params(table: str, root: Path = Path()) -> Params:
    """Read and check the parameters of a table; what the environment says goes first.

    Raises:
        ParamsError: what is wrong, with file and line, and what to do.
    """
    return with_environment(read_table(folder_of(table, root), root))


def with_environment(params: Params) -> Params:
    """MATCHNET_MIRROR and RAY_ADDRESS go before what the file says.

    Raises:
        ParamsError: a mirror that is no folder and no http address.
    """
    cluster = replace(params.cluster, ray_address=os.environ.get("RAY_ADDRESS") or params.cluster.ray_address)
    if mirror := os.environ.get("MATCHNET_MIRROR"):
        try:
            cluster = replace(cluster, mirror=mirror)
        except ValueError as error:
            raise ParamsError(f"MATCHNET_MIRROR, which is cluster.mirror: {error}") from None
    return replace(params, cluster=cluster)


def named(section: Mapping[str, Any], path: str, name: str) -> Any:
    """`section[name]`, or an error that says which names there are."""
    if name not in section:
        raise ParamsError(f"{path}: there is no {name!r}; {nearest(name, section)}")
    return section[name]
