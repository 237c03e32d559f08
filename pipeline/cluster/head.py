"""The head of a Ray cluster that we join: whether it answers, asks for a token, and goes on answering.

Ray itself says nothing for minutes if nobody listens, and ends a driver with a C++ stack when the head has gone.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pipeline.cluster.ray_environment  # noqa: F401  # isort: skip

import grpc  # type: ignore[import-untyped]
from ray.core.generated.gcs_service_pb2 import CheckAliveRequest  # type: ignore[attr-defined]
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

from pipeline.system.threads import thread_beside

ANSWER_SECONDS = 10.0
SECONDS_BETWEEN_LOOKS = 2.0
PATIENCE = 20.0  # seconds without an answer; the look that follows ends within 30 s of the last one
NO_PROXY = (("grpc.enable_http_proxy", 0),)  # a cluster is reached directly, as Ray itself does


class NoHeadError(ConnectionError):
    """Nobody answers at a cluster's address."""


def asks_for_token(address: str, timeout: float = ANSWER_SECONDS) -> bool:
    """Whether the head at `host:port` refuses a request that has no token.

    Raises:
        NoHeadError: no answer within `timeout` seconds; quotes the network's error.
    """
    with closing(_channel(address)) as channel:
        try:
            NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=timeout)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                raise NoHeadError(" ".join(str(error.details()).split())) from error
            return True
    return False


def _channel(address: str) -> grpc.Channel:
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(address, NO_PROXY)
    files = [os.environ.get(f"RAY_TLS_{name}") for name in ("CA_CERT", "SERVER_KEY", "SERVER_CERT")]
    content = [Path(file).read_bytes() if file else None for file in files]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*content), NO_PROXY)


@contextmanager
def ending_with_head(address: str) -> Iterator[None]:
    """End this process with status 1, and say why, if the head has not answered for a while during the block.

    It ends at once, like by kill -9, which loses nothing: the main thread may be in a call of Ray that nothing can
    interrupt.
    """
    with thread_beside(_look, address):
        yield


def _look(address: str, stop: threading.Event) -> None:
    answered = time.monotonic()
    while not stop.wait(SECONDS_BETWEEN_LOOKS):
        try:
            asks_for_token(address, SECONDS_BETWEEN_LOOKS)
            answered = time.monotonic()
        except NoHeadError as error:
            if time.monotonic() - answered > PATIENCE and not stop.is_set():
                print(f"ClusterLostError: the head of the Ray cluster at {address} has not answered for "
                      f"{time.monotonic() - answered:.0f} s: {error}; check it and the network; the same command goes "
                      "on from here", file=sys.stderr, flush=True)
                os._exit(1)
