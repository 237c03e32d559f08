"""Ray for the length of a block: a cluster that runs already, or a local one that ends with the block."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pipeline.cluster.ray_environment  # noqa: F401  # isort: skip

import ray
from ray._private import services
from ray.exceptions import RayError

from pipeline.cluster.access import TOKEN_FILE, has_token, warn_of_open_cluster
from pipeline.cluster.head import NoHeadError, asks_for_token, ending_with_head
from pipeline.cluster.local_ray import local_ray, sigterm_kept
from pipeline.cluster.placement import ResourcesError
from pipeline.system.machine import cores

FOUND_BY_RAY = "auto"  # an address that stands for the cluster that runs on this machine


@contextmanager
def ray_cluster(address: str | None, num_cpus: int | None = None) -> Iterator[None]:
    """Connect to `address`, or start Ray here if it is None; inside such a block, use what is connected.

    Nothing of a Ray started here is left after the block; its logs are kept if RAY_TMPDIR names a folder for them.
    A cluster whose head goes away later ends this process; see `ending_with_head`.

    Args:
        num_cpus: what a Ray started here may use; None is every core.
    Raises:
        ResourcesError: there is no cluster at `address`, this machine is no node of it, or it asks for another token.
    """
    if ray.is_initialized():
        yield
        return
    with local_ray(num_cpus or cores()) if address is None else _joined(address):
        yield


@contextmanager
def _joined(address: str) -> Iterator[None]:
    if "://" in address:
        raise ResourcesError(f"the cluster's address (RAY_ADDRESS, cluster.ray_address) is {address}; a stage joins a "
                             "cluster at the host and port of its head, such as 10.0.0.1:6379")
    _ask(_found_by_ray() if address == FOUND_BY_RAY else address)  # Ray itself would ask for minutes
    try:
        try:
            with sigterm_kept():
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, RayError) as error:
            raise ResourcesError(f"no Ray cluster at {address}, or this machine is no node of it: {error}; start Ray "
                                 "here, or send the command as a job (python -m pipeline.submit)") from error
        head = ray.get_runtime_context().gcs_address
        if not _ask(head):
            warn_of_open_cluster(head)
        with ending_with_head(head):
            yield
    finally:
        ray.shutdown()  # also one that Ctrl-C has stopped half-way


def _found_by_ray() -> str:
    """The address that Ray takes for `auto`: it may be that of a head which was killed."""
    try:
        return services.get_ray_address_from_environment(FOUND_BY_RAY, temp_dir=None)
    except ConnectionError as error:
        raise ResourcesError(f"no Ray cluster runs on this machine (RAY_ADDRESS, cluster.ray_address: {FOUND_BY_RAY}): "
                             "start Ray here (ray start --head), write the address of a cluster, or leave it out: "
                             "a stage then starts Ray itself") from error


def _ask(address: str) -> bool:
    """Whether the head asks for a token; ResourcesError if no head answers, or it asks and we have no token."""
    try:
        asks = asks_for_token(address)
    except NoHeadError as error:
        raise ResourcesError(f"no Ray cluster answers at {address} (RAY_ADDRESS, cluster.ray_address): {error}; check "
                             "the address, and that Ray runs there (ray start --head); without an address a stage "
                             "starts Ray on this machine") from error
    if asks and not has_token(os.environ):
        raise ResourcesError(f"the Ray cluster at {address} asks for a token, and there is none here: put that of its "
                             f"head into {TOKEN_FILE} or RAY_AUTH_TOKEN")
    return asks
