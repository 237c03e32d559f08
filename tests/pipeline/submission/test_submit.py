"""Jobs on a real cluster that the test starts, submitted from another directory."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import ROOT
from ray_head import Line, cluster_environment, is_open, processes_naming, ray_head
from small_omniglot import mirror, mirror_if_any

from pipeline import submit
from pipeline.submission.follow import Follower
from pipeline.submission.job_server import JobServer

COUNT = "import time\nfor number in range({0}): print('number', number, flush=True); time.sleep({1})"
SECONDS = 60  # for anything that a client does


@pytest.fixture(scope="module")
def dashboard() -> Iterator[int]:
    """The port of a cluster's dashboard."""
    with ray_head() as port:
        yield port


class Client:
    """`python -m pipeline.submit` in a process of its own, elsewhere; without a terminal unless it is given one."""

    def __init__(self, folder: Path, port: int, *words: str, terminal: int = subprocess.DEVNULL,
                 **environment: str) -> None:
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.submit", "--address", f"http://127.0.0.1:{port}", *words],
            cwd=folder, env={**cluster_environment(), "PYTHONPATH": str(ROOT), **environment},
            stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while data := os.read(self.output, 65536):
            self.text += data.decode()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until its output has this."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.text, re.MULTILINE):
                return found
            time.sleep(0.1)
        raise TimeoutError(f"no {pattern!r} in\n{self.text}")

    def ended(self) -> int:
        """Its exit status."""
        status = self.process.wait(SECONDS)
        self.reader.join(SECONDS)
        assert "Traceback" not in self.text
        return status

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
def run_here(dashboard, tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """The same command in this process, which spares it the import of Ray: exit status and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # so that it is restored

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["submit", "--address", f"http://127.0.0.1:{dashboard}", *words])
        with pytest.raises(SystemExit) as ended:
            submit.main()
        return ended.value.code, "".join(capsys.readouterr())

    return run


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^number (\d+)$", text, re.MULTILINE)]


LOOK = """
import os, pathlib, pipeline
here = pathlib.Path.cwd()
print('at', here)
print('code', (here / 'stages/train.py').is_file(), pipeline.__file__)
print('data', (here / 'data').exists(), (here / 'results').exists(), (here / '.git').exists())
print('variables', os.environ['MATCHNET_STORAGE'], 'RAY_ADDRESS' in os.environ, 'SECRET' in os.environ)
"""


@pytest.fixture(scope="module")
def three(dashboard, tmp_path_factory) -> dict[str, Client]:
    """Jobs that run at the same time, since each takes seconds to start and to end: good, bad, stage."""
    away = tmp_path_factory.mktemp("away")
    return {
        "good": Client(away, dashboard, "--name", "good", "--", "python", "-c", LOOK, MATCHNET_STORAGE="/shared/a b",
                       SECRET="1"),
        "bad": Client(away, dashboard, "--name", "bad", "--", "python", "-c", "print('no'); raise SystemExit(7)"),
        "stage": Client(away, dashboard, "--folder", str(away / "shared/run"), "--",
                        "python", "-m", "stages.download", "omniglot/mnist", MATCHNET_MIRROR=mirror_if_any())}


def test_success(three):
    client = three["good"]
    assert client.ended() == 0, client.text
    here = client.wait_for("^at (.*)$")[1]
    assert here != str(ROOT)
    assert f"code True {here}/pipeline/__init__.py" in client.lines, "the code that was sent is the code that runs"
    assert "data False False False" in client.lines
    assert "variables /shared/a b True False" in client.lines
    assert re.search(r"^job good-[0-9a-f]{6} succeeded$", client.text, re.MULTILINE)


def test_failure(three):
    client = three["bad"]
    assert client.ended() == 1, client.text
    assert "no" in client.lines
    assert re.search(r"^job bad-[0-9a-f]{6} failed: Job entrypoint command failed with exit code 7$", client.text,
                     re.MULTILINE)


def test_a_stage_runs_in_a_folder_that_outlives_the_job(three):
    mirror()  # skips without one
    client = three["stage"]
    assert client.ended() == 0, client.text
    folder = Path(client.wait_for("workspace (.*/shared/run) ")[1])
    assert sorted(path.name for path in (folder / "data/raw/mnist").iterdir())
    assert (folder / "stages/download.py").read_bytes() == (ROOT / "stages/download.py").read_bytes()


def test_a_killed_client_an_interrupted_one_and_one_who_stops_the_job(dashboard, tmp_path):
    killed = Client(tmp_path, dashboard, "--name", "long", "--", "python", "-c", COUNT.format(10_000, 0.2))
    job_id = killed.wait_for(r"^job (long-\w+)$")[1]
    killed.wait_for("^number 3$")
    killed.process.kill()
    killed.ended()

    keyboard, terminal = pty.openpty()
    with os.fdopen(keyboard, "wb", buffering=0) as keys, os.fdopen(terminal) as screen:
        leaving = Client(tmp_path, dashboard, "--follow", job_id)
        stopping = Client(tmp_path, dashboard, "--follow", job_id, terminal=screen.fileno())
        for client in (leaving, stopping):
            client.wait_for("^number 12$")
            client.process.send_signal(signal.SIGINT)
        assert leaving.ended() == 130, leaving.text
        assert f"job {job_id} goes on" in leaving.text
        assert f"--follow {job_id}" in leaving.text and f"--stop {job_id}" in leaving.text

        stopping.wait_for(r"\[s\]top the job, \[l\]eave it running, or \[g\]o on watching\? ")
        keys.write(b"g\n")
        stopping.wait_for(f"^number {numbers(stopping.text)[-1] + 5}$")
        stopping.process.send_signal(signal.SIGINT)
        stopping.wait_for(r"\[s\]top(.|\n)*\[s\]top")
        keys.write(b"s\n")
        assert stopping.ended() == 3, stopping.text
    assert f"job {job_id} stopped" in stopping.lines
    for client in (leaving, stopping):
        shown = numbers(re.sub(r"\n\[s\]top.*watching\? ", "", client.text))
        assert shown == list(range(len(shown))), f"not each line once, from the beginning:\n{client.text}"


def test_stop_list_detach_and_an_unknown_job(run_here):
    status, output = run_here("--detach", "--name", "apart", "--", "sleep", "600")
    found = re.search(r"^apart-[0-9a-f]{6}$", output, re.MULTILINE)  # beside a warning: this cluster asks for no token
    assert status == 0 and found, output
    job_id = found[0]
    assert f"--follow {job_id}" in output
    for said in (f"job {job_id} stopped\n", f"job {job_id} had ended before: stopped\n"):
        status, output = run_here("--stop", job_id)
        assert status == 0 and output.endswith(said), output
    status, output = run_here("--list")
    assert status == 0 and re.search(rf"^{job_id} +stopped .* sleep 600$", output, re.MULTILINE)
    status, output = run_here("--follow", "nope")
    assert status == 4 and "knows no job 'nope'" in output


def test_lines_are_neither_lost_nor_repeated_when_the_connection_is(dashboard, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # so that it is restored
    line = Line(dashboard)
    cuts: list[int] = []
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        seen = numbers("".join(shown))
        if len(cuts) < 2 and len(seen) > 5 * (len(cuts) + 1):
            cuts.append(len(seen))
            line.cut()
            threading.Timer(0.8, line.mend).start()

    try:
        cluster = JobServer(f"http://127.0.0.1:{line.port}")
        cluster.submit("cut-1", f'python -c "{COUNT.format(24, 0.3)}"', {}, {})
        ended = Follower(cluster, "cut-1", show).follow()
        assert ended.status.value == "SUCCEEDED"
        assert len(cuts) == 2 and cuts[-1] < 24
        assert "".join(shown) == cluster._client.get_job_logs("cut-1")
        assert numbers("".join(shown)) == list(range(24))
    finally:
        line.close()


def test_an_unreachable_address(tmp_path):
    nobody = 1  # tcpmux: closed on any machine of today
    client = Client(tmp_path, nobody, "--", "python", "-c", "pass")
    assert client.ended() == 4
    assert "http://127.0.0.1:1 does not answer" in client.text


def test_what_checks_that_nothing_is_left_can_fail():
    mark = "a-process-that-was-left"
    with subprocess.Popen(["sh", "-c", "echo begun; sleep 60; true", mark], stdout=subprocess.PIPE) as left:
        assert left.stdout.readline()  # until then it may still be a copy of this process, which does not name it
        assert left.pid in processes_naming(mark)
        left.kill()
    line = Line(1)
    assert is_open(line.port)
    line.close()
    assert not is_open(line.port)
