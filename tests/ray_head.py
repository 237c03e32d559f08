"""A Ray head with a dashboard, as `ray start` makes it, and a line to it that can be cut; for tests of jobs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

START_SECONDS, END_SECONDS = 90, 90  # a head that has run for long takes half a minute to end
PORTS = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port",
         "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port", "node-manager-port",
         "object-manager-port")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def is_open(port: int) -> bool:
    with closing(socket.socket()) as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def processes_naming(text: str) -> list[int]:
    """Processes whose command line has `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # ended meanwhile
                continue
    return found


def cluster_environment() -> dict[str, str]:
    """Of a node: without what would give jobs this checkout's code, or another cluster's address."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MATCHNET_")) and name != "PYTHONPATH"}
    return {**kept, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@contextmanager
def ray_head() -> Iterator[int]:
    """The port of its dashboard; at the end nothing of it is left: no process, no port, no folder."""
    folder = tempfile.mkdtemp(prefix="rj", dir="/tmp")  # short: sockets lie in it
    ports = free_ports(len(PORTS))
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=1",
         "--object-store-memory=83886080", "--include-dashboard=true", "--node-ip-address=127.0.0.1",
         "--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--disable-usage-stats",
         *(f"--{name}={port}" for name, port in zip(PORTS, ports, strict=True))],
        env=cluster_environment(), cwd="/tmp", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_dashboard(process, ports[1])
        yield ports[1]
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        finally:
            left = _wait_for_end(folder)
            shutil.rmtree(folder)
        assert not left, f"still running after the head was ended: {left}"
        assert not [port for port in ports if is_open(port)]
        assert not Path(folder).exists()


def _wait_for_end(folder: str) -> list[int]:
    """Kills what still runs after a while, and returns it."""
    deadline = time.monotonic() + END_SECONDS
    while (left := processes_naming(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def _wait_for_dashboard(process: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ray start ended with {process.returncode}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(f"no dashboard on port {port} after {START_SECONDS} s")


class Line:
    """A TCP proxy to a port of this machine. `cut` drops what goes through it; `mend` lets it through again."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.up = True
        self.open: list[socket.socket] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:  # closed
                return
            try:
                if not self.up:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        self.up = False
        for one in self.open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []

    def mend(self) -> None:
        self.up = True

    def close(self) -> None:
        self.cut()
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
