"""Two hosts on this machine: network namespaces with an address each, and a slow link between them that can be cut."""

import json
import os
import shutil
import subprocess

from ray_nodes import Cluster, Host

LINK, SUBNET = "eth0", "10.77.0"
RATE = "200mbit"  # of the link, in each direction
# gloo would take the address of the machine's name, which is the loopback's
ENVIRONMENT = {"GLOO_SOCKET_IFNAME": LINK}


def can_be_made() -> bool:
    """Whether this user may make network namespaces, and has the programs for it."""
    if os.getuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        return False
    name = f"try{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return made


class Hosts:
    """Two namespaces and the link between them."""

    def __init__(self) -> None:
        self.names = [f"mn{os.getpid()}{side}" for side in "ab"]
        for name in self.names:
            _ip("netns", "add", name)
        _ip("link", "add", LINK, "netns", self.names[0], "type", "veth", "peer", "name", LINK, "netns", self.names[1])
        for number in range(2):
            self._ip_on(number, "link", "set", "lo", "up")
            self._ip_on(number, "address", "add", f"{self.address(number)}/24", "dev", LINK)
            self._run_on(number, "tc", "qdisc", "add", "dev", LINK, "root", "tbf", "rate", RATE, "burst", "256kb",
                         "latency", "50ms")
            self._up(number)

    def close(self) -> None:
        for name in self.names:
            _ip("netns", "del", name)

    def address(self, number: int) -> str:
        return f"{SUBNET}.{number + 1}"

    def host(self, number: int) -> Host:
        return ("ip", "netns", "exec", self.names[number]), self.address(number)

    def cut(self) -> None:
        """Nothing goes through the link any more; neither side is told."""
        self._ip_on(1, "link", "set", LINK, "down")

    def mend(self) -> None:
        self._up(1)

    def bytes_sent(self) -> list[int]:
        """Over the link, by each host."""
        shown = [json.loads(self._ip_on(number, "-s", "-j", "link", "show", LINK)) for number in range(2)]
        return [one[0]["stats64"]["tx"]["bytes"] for one in shown]

    def _up(self, number: int) -> None:
        self._ip_on(number, "link", "set", LINK, "up")
        # Ray asks the system which address a packet to the internet would have
        self._ip_on(number, "route", "replace", "default", "via", self.address(1 - number))

    def _ip_on(self, number: int, *arguments: str) -> str:
        return _ip("-n", self.names[number], *arguments)

    def _run_on(self, number: int, *command: str) -> None:
        subprocess.run([*self.host(number)[0], *command], check=True)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class ClusterOfTwo(Cluster):
    """The head, which has no CPUs, and a node on the first host; another node on the second."""

    def __init__(self, hosts: Hosts) -> None:
        super().__init__()
        self.hosts = [hosts.host(0), hosts.host(0), hosts.host(1)]

    def far_node_is_lost(self) -> bool:
        return self.nodes[2].process.poll() is not None
