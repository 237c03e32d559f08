"""Two hosts on this machine: network namespaces with an address each, and a slow link between them that can be cut."""

import json
import os
import subprocess

from ray_nodes import Cluster, Host

LINK, SUBNET = "eth0", "10.77.0"
SLOW = ("rate", "200mbit", "burst", "256kb", "latency", "50ms")  # the link, in each direction
NOTHING = ("rate", "8kbit", "burst", "1600", "limit", "1")  # a queue that no packet fits into: all are dropped
# gloo would take the address of the machine's name, which is the loopback's
ENVIRONMENT = {"GLOO_SOCKET_IFNAME": LINK}


class Hosts:
    """Two namespaces and the link between them; CalledProcessError or OSError where they cannot be made."""

    def __init__(self) -> None:
        self.names = [f"mn{os.getpid()}{side}" for side in "ab"]
        try:
            for name in self.names:
                _run("ip", "netns", "add", name)
            near, far = self.names
            _run("ip", "link", "add", LINK, "netns", near, "type", "veth", "peer", "name", LINK, "netns", far)
            for number in range(2):
                self._run_on(number, "ip", "link", "set", "lo", "up")
                self._run_on(number, "ip", "address", "add", f"{self.address(number)}/24", "dev", LINK)
                self._run_on(number, "ip", "link", "set", LINK, "up")
                # Ray asks the system which address a packet to the internet would have
                self._run_on(number, "ip", "route", "add", "default", "via", self.address(1 - number))
            self.mend()
        except subprocess.CalledProcessError:
            self.close()
            raise

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def address(self, number: int) -> str:
        return f"{SUBNET}.{number + 1}"

    def host(self, number: int) -> Host:
        return ("ip", "netns", "exec", self.names[number]), self.address(number)

    def cut(self) -> None:
        """Nothing goes through the link any more; neither side is told."""
        self._queue(NOTHING)

    def mend(self) -> None:
        self._queue(SLOW)

    def bytes_sent(self) -> list[int]:
        """Over the link, by each host."""
        shown = [json.loads(self._run_on(number, "ip", "-s", "-j", "link", "show", LINK)) for number in range(2)]
        return [one[0]["stats64"]["tx"]["bytes"] for one in shown]

    def _queue(self, kind: tuple[str, ...]) -> None:
        for number in range(2):
            self._run_on(number, "tc", "qdisc", "replace", "dev", LINK, "root", "tbf", *kind)

    def _run_on(self, number: int, *command: str) -> str:
        return _run(*self.host(number)[0], *command)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class ClusterOfTwo(Cluster):
    """The head, which has no CPUs, and a node on the first host; another node on the second."""

    def __init__(self, hosts: Hosts) -> None:
        super().__init__()
        self.hosts = [hosts.host(0), hosts.host(0), hosts.host(1)]

    def far_node_is_lost(self) -> bool:
        return self.nodes[2].process.poll() is not None
