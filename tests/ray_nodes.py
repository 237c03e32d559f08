"""A cluster of several nodes on this machine, each a `ray start` that can be killed with all that it started."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from places import ROOT, TESTS
from ray_head import cluster_environment, free_ports, processes_naming

from pipeline.cluster.ray_environment import SETTINGS

START_SECONDS, END_SECONDS = 300, 60
STARTED = "Ray runtime started."
OWN_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
             "metrics-export-port", "node-manager-port", "object-manager-port")  # of one node; else they would meet
Host = tuple[tuple[str, ...], str]
HERE: Host = ((), "127.0.0.1")
SITE = TESTS / "chaos_site"  # its sitecustomize does nothing unless CHAOS_DISK is set


def environment() -> dict[str, str]:
    """Of nodes and drivers: this checkout's code, and what the driver sets for itself before it imports Ray."""
    return {**cluster_environment(), **SETTINGS, "PYTHONPATH": f"{ROOT}{os.pathsep}{SITE}"}


class Node:
    """One `ray start --block`, and all processes below it.

    host: what runs a command there, and its address.
    """

    def __init__(self, folder: Path, *options: str, host: Host = HERE) -> None:
        self.folder, self.options, self.host = folder, options, host
        self._start()

    def _start(self) -> None:
        self.output = self.folder / f"node{time.monotonic_ns()}.txt"
        ports = zip(OWN_PORTS, free_ports(len(OWN_PORTS)), strict=True)
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [*self.host[0], str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats",
                 f"--node-ip-address={self.host[1]}", "--object-store-memory=83886080", "--min-worker-port=0",
                 "--max-worker-port=0", *(f"--{name}={port}" for name, port in ports), *self.options],
                env=environment(), cwd=self.folder, stdout=output, stderr=subprocess.STDOUT)

    def wait(self) -> None:
        """Ray gives a node 30 s to start, which a busy machine may exceed: it is then started again."""
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in self.output.read_text():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no node after {START_SECONDS} s:\n{self.output.read_text()}")
            if self.process.poll() is not None:
                self._start()
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def training_workers(self) -> list[int]:
        return [process.pid for process in self.processes() if "RayTrainWorker" in _command(process)]

    def kill(self) -> None:
        """As if its machine lost power."""
        for process in self.processes():
            if process.is_running():
                process.kill()
        self.process.wait()

    def stop(self) -> None:
        """In order; what has not ended after a while is killed."""
        below = self.processes()
        self.process.send_signal(signal.SIGTERM)
        _, late = psutil.wait_procs(below, END_SECONDS)
        for process in late:
            process.kill()
        self.process.wait()


class Cluster:
    """A head without CPUs, where driver and controller are, and two nodes with one CPU each; `nodes` begins with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ch", dir="/tmp"))  # short: sockets lie in it
        self.ports = free_ports(2)
        self.hosts = [HERE] * 3  # of the head and of each node
        self.nodes: list[Node] = []

    @property
    def address(self) -> str:
        return f"{self.hosts[0][1]}:{self.ports[0]}"

    def start(self) -> None:
        self.head = Node(self.folder, "--head", f"--port={self.ports[0]}", "--include-dashboard=false", "--num-cpus=0",
                         f"--ray-client-server-port={self.ports[1]}", f"--temp-dir={self.folder}", host=self.hosts[0])
        self.nodes = [self.head]
        self.head.wait()
        for host in self.hosts[1:]:
            self.nodes.append(self._node(host))
            self.nodes[-1].wait()

    def _node(self, host: Host) -> Node:
        return Node(self.folder, f"--address={self.address}", "--num-cpus=1", host=host)

    def replace(self, node: Node, host: Host | None = None) -> None:
        """Training waits for the new node, which is on the same host unless another is given."""
        new = self.nodes[self.nodes.index(node)] = self._node(host or node.host)
        new.wait()

    def training_workers(self) -> list[int]:
        return sorted(pid for node in self.nodes for pid in node.training_workers())

    def stop(self) -> None:
        """Raises AssertionError if a process is left; the folder is removed in any case."""
        every = [process for node in self.nodes for process in node.processes()]
        try:
            for node in reversed(self.nodes):
                node.stop()
            left = [process for process in every if process.is_running()]
            named = processes_naming(str(self.folder))
            for pid in named:
                os.kill(pid, signal.SIGKILL)
            assert not left and not named, f"still running after the cluster was stopped: {left} {named}"
        finally:
            shutil.rmtree(self.folder)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # ended meanwhile
        return ""
