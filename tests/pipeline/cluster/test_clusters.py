"""Joining a cluster: one that does not answer, one without a token, one that goes away; and a Ray of this machine."""

import fcntl
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import psutil
import pytest
from places import ROOT
from ray_head import free_ports

from pipeline.cluster import head
from pipeline.cluster.access import warn_of_open_cluster
from pipeline.cluster.connection import ray_cluster
from pipeline.cluster.head import NoHeadError, asks_for_token
from pipeline.cluster.local_ray import LOCK, remove_left_behind
from pipeline.cluster.placement import ResourcesError

CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


@contextmanager
def a_head(asks: bool = False) -> Iterator[str]:
    """What answers as a cluster's head does."""
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if asks and "authorization" not in dict(context.invocation_metadata()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing")
        return b""

    class Head(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            return grpc.unary_unary_rpc_method_handler(answer) if details.method == CHECK_ALIVE else None

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Head(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


@contextmanager
def nobody() -> Iterator[str]:
    yield f"127.0.0.1:{free_ports(1)[0]}"


def test_a_head_is_asked_for_its_token():
    with a_head(asks=False) as address:
        assert not asks_for_token(address)
    with a_head(asks=True) as address:
        assert asks_for_token(address)


@pytest.fixture
def no_ray_yet(monkeypatch) -> None:
    """A session of other tests may have one, and what is connected is used."""
    monkeypatch.setattr("pipeline.cluster.connection.ray.is_initialized", lambda: False)


def test_a_cluster_that_is_not_there_is_named_before_ray_is_asked(no_ray_yet):
    with nobody() as address, pytest.raises(ResourcesError, match=rf"no Ray cluster answers at {address} .*refused; "
                                            "check the address, and that Ray runs there"):
        ray_cluster(address).__enter__()
    with pytest.raises(ResourcesError, match=r"address .* is http://head:8265; a stage joins a cluster at the host and "
                                             r"port of its head, such as 10.0.0.1:6379"):
        ray_cluster("http://head:8265").__enter__()


@pytest.mark.parametrize("left_behind", [True, False])
def test_the_cluster_that_ray_finds_here_is_asked_before_ray_asks_it(no_ray_yet, monkeypatch, left_behind):
    """A head that was killed leaves its address behind, and Ray would ask it for minutes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setattr("ray.init", None)  # calling it would be a TypeError
    with nobody() as address:
        found = address if left_behind else None
        monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda temp_dir: found)
        message = rf"no Ray cluster answers at {address} .*refused; check" if left_behind else \
            r"no Ray cluster runs on this machine \(RAY_ADDRESS, cluster\.ray_address: auto\): start Ray here"
        with pytest.raises(ResourcesError, match=message):
            ray_cluster("auto").__enter__()


def test_a_host_that_takes_connections_and_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NoHeadError, match="Deadline"):
        asks_for_token(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)


def test_a_token_that_is_missing_here_is_asked_for(no_ray_yet, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with a_head(asks=True) as address, pytest.raises(ResourcesError, match=f"{address} asks for a token, and there is "
                                                     "none here: put that of its head into ~/.ray/auth_token"):
        ray_cluster(address).__enter__()


def test_a_cluster_that_asks_for_no_token_is_named(capsys):
    warn_of_open_cluster("10.0.0.1:6379")
    said = capsys.readouterr().err
    assert said.startswith("WARNING: the Ray cluster at 10.0.0.1:6379 asks for no token: whoever reaches it can run "
                           "any command there.") and "ray get-auth-token --generate" in said


@pytest.mark.parametrize("asks", [False, True])
def test_a_dashboard_that_shows_its_jobs_to_everybody_is_open(asks):
    from pipeline.submission.job_server import JobServer

    class Dashboard(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401 if asks and "Authorization" not in self.headers else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster = object.__new__(JobServer)  # without what Ray asks at first
        cluster.address = f"http://127.0.0.1:{server.server_address[1]}"
        assert cluster.is_open() != asks
        server.shutdown()


WATCHED = """
import sys, time
from pipeline.cluster import head
head.SECONDS_BETWEEN_LOOKS, head.PATIENCE = 0.1, 0.5
with head.ending_with_head(sys.argv[1]):
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_head_that_goes_away_ends_the_driver_with_a_reason():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with a_head() as address:
        driver = subprocess.Popen([sys.executable, "-c", WATCHED, address], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, env=environment)
        assert driver.stdout is not None and driver.stdout.readline() == "begun\n"
        time.sleep(0.5)
        assert driver.poll() is None, "it answers"
    said = driver.communicate(timeout=30)[1]
    assert driver.returncode == 1
    assert f"ClusterLostError: the head of the Ray cluster at {address} has not answered for" in said
    assert "the same command goes on from here" in said
    assert head.PATIENCE + 2 * head.SECONDS_BETWEEN_LOOKS <= 30


def test_a_ray_of_this_machine_listens_on_loopback_alone(ray_session):
    ours = {process.pid for process in [psutil.Process(), *psutil.Process().children(recursive=True)]}
    listening = {connection.laddr.ip for connection in psutil.net_connections("inet")
                 if connection.pid in ours and connection.status == psutil.CONN_LISTEN}
    assert listening and listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening


def test_what_a_killed_driver_left_is_removed_and_nothing_else(tmp_path, capsys):
    dead, alive, others = (tmp_path / name for name in ("raydead", "rayalive", "rayothers"))
    for folder in (dead, alive, others):
        folder.mkdir()
        (folder / "log").touch()
    (dead / LOCK).touch()
    code = "import sys, time; file = open('log', 'w'); print('begun', flush=True); time.sleep(60)"
    agents = {folder: subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE)
              for folder in (dead, alive)}
    for agent in agents.values():
        assert agent.stdout is not None and agent.stdout.readline() == b"begun\n"
    with open(alive / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_left_behind(tmp_path)
    assert not dead.exists() and alive.exists() and others.exists()
    assert agents[dead].wait(10) < 0 and agents[alive].poll() is None
    agents[alive].kill()
    agents[alive].wait()
    assert f"{dead}: removed" in capsys.readouterr().err
