"""Jobs without a cluster: what is sent, where it is put, what is shown, what is said; and the examples."""

import asyncio
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import ROOT
from ruamel.yaml import YAML

from pipeline import submit
from pipeline.stage_code import PACKAGES
from pipeline.submission import follow, package
from pipeline.submission.follow import Follower
from pipeline.submission.job_server import (
    FIRST_TIMEOUTS,
    LEAST_RAY,
    NO_RAY,
    ClusterError,
    JobServer,
    UnknownJobError,
    UnreachableError,
    job_server_address,
)
from pipeline.submission.package import PackageError, pack, shipped_files
from pipeline.submission.workspace import WorkspaceError, lay_out

EXAMPLES = ROOT / "pipeline/submission/examples"


def status(word: str) -> SimpleNamespace:
    return SimpleNamespace(value=word, is_terminal=lambda: word in ("SUCCEEDED", "FAILED", "STOPPED"))


def job(word: str, **fields: object) -> SimpleNamespace:
    return SimpleNamespace(**{"submission_id": "job-1", "status": status(word), "message": None, "error_type": None,
                              "metadata": {}, "entrypoint": "true", "start_time": 0, "end_time": 1000, **fields})


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# What is sent

def test_code_is_sent_and_data_never(tmp_path):
    root = write(tmp_path, {
        ".gitignore": "/data/\n*.egg-info/\n", ".rayignore": (ROOT / ".rayignore").read_text(), "dvc.yaml": "",
        "data/raw/omniglot/images.zip": "x", "pipeline/data/shards/make.py": "",
        "results/omniglot/short/metrics.json": "{}",
        ".dvc/config": "", ".dvc/cache/files/ab": "x", ".dvc/.gitignore": "/config.local\n", ".dvc/config.local": "x",
        ".git/HEAD": "x", ".venv/bin/python": "x", "stages/__pycache__/train.pyc": "x", "stages/train.py": "",
        "matchnet.egg-info/PKG-INFO": "x", "notes/.gitignore": "*.txt\n!kept.txt\n", "notes/a.txt": "",
        "notes/kept.txt": ""})
    assert [path.as_posix() for path in shipped_files(root)] == [
        ".dvc/.gitignore", ".dvc/config", ".gitignore", ".rayignore", "dvc.yaml", "notes/.gitignore", "notes/kept.txt",
        "pipeline/data/shards/make.py", "stages/train.py"]


def test_a_link_to_data_elsewhere_is_not_followed(tmp_path):
    root = write(tmp_path / "code", {".rayignore": "/data\n", "dvc.yaml": ""})
    write(tmp_path / "big", {"raw/a": "x"})
    (root / "data").symlink_to(tmp_path / "big")
    assert [path.as_posix() for path in shipped_files(root)] == [".rayignore", "dvc.yaml"]


def test_this_repository_is_small_and_whole(tmp_path):
    total = pack(ROOT, tmp_path / "code.zip")
    names = zipfile.ZipFile(tmp_path / "code.zip").namelist()
    assert total < 8 * 2**20  # published models have up to 6 MB of it
    assert {"params.yaml", "dvc.yaml", "experiments/omniglot/params.yaml", "experiments/omniglot/dvc.yaml",
            "stages/train.py", "matchnet/training.py", "pipeline/submit.py",
            "pipeline/data/lists/lake_evaluation.txt", ".dvc/config"} <= set(names)
    assert not [name for name in names if name.startswith(("data/", "results/", ".venv/", ".git/", ".dvc/cache/"))]


def test_the_same_code_is_the_same_package(tmp_path):
    root = write(tmp_path / "code", {"a.py": "a", "b/c.py": "c"})
    pack(root, tmp_path / "1.zip")
    os.utime(root / "a.py", (1, 1))
    pack(root, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    write(root, {"a.py": "b"})
    pack(root, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() != (tmp_path / "2.zip").read_bytes()


def test_what_is_too_large_is_named_and_not_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(package, "MOST_BYTES", 3 * 2**20)
    root = write(tmp_path / "code", {"small.py": "x", "scratch/weights.pt": "x" * 3 * 2**20, "log.txt": "x" * 2**20})
    with pytest.raises(PackageError) as error:
        pack(root, tmp_path / "code.zip")
    message = str(error.value)
    assert "4.0 MiB would be sent" in message and "at most 3 MiB" in message and ".rayignore" in message
    assert re.search(r"3\.0 MiB  scratch/weights\.pt\n.* 1\.0 MiB  log\.txt", message)
    assert not (tmp_path / "code.zip").exists()


# Where it is put

CODE = {"dvc.yaml": "new", "params.yaml": "new", "dvc.lock": "sent", "stages/train.py": "new", ".dvc/config": "new",
        "experiments/a/params.yaml": "new", "experiments/a/dvc.lock": "sent", "experiments/b/dvc.lock": "sent"}


def test_code_is_replaced_and_results_stay(tmp_path):
    code = write(tmp_path / "code", CODE)
    folder = write(tmp_path / "shared/run", {
        "dvc.yaml": "old", "params.yaml": "old", "dvc.lock": "own", "stages/train.py": "old", "stages/gone.py": "old",
        "stages/gone/deep/file.py": "old", "stages/a-folder-before": "old", "stages/a-file-before/file.py": "old",
        ".dvc/config": "old", ".dvc/cache/ab": "cached", "data/models/a/model.pt": "weights", "results/a.json": "{}",
        "experiments/a/params.yaml": "old", "experiments/a/gone.yaml": "old", "experiments/a/dvc.lock": "own",
        "experiments/gone/params.yaml": "old", "experiments/gone/dvc.lock": "own"})
    write(code, {"stages/a-folder-before/file.py": "new", "stages/a-file-before": "new"})
    lay_out(code, folder)
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "dvc.yaml": "new", "params.yaml": "new", "dvc.lock": "own", "stages/train.py": "new", ".dvc/config": "new",
        ".dvc/config.local": "[core]\n    no_scm = true\n", ".dvc/cache/ab": "cached",
        "data/models/a/model.pt": "weights", "results/a.json": "{}", "experiments/a/params.yaml": "new",
        "experiments/a/dvc.lock": "own", "experiments/b/dvc.lock": "sent", "experiments/gone/dvc.lock": "own",
        "stages/a-folder-before/file.py": "new", "stages/a-file-before": "new"}
    assert not (folder / "stages/gone").exists()


@pytest.mark.parametrize("step", ["unlink", "rmdir", "copy2"])
def test_a_laying_out_that_is_broken_off_loses_no_lock(tmp_path, monkeypatch, step):
    """The next one goes on, wherever it was."""
    files = {f"experiments/{table}/{name}": "own" for table in "abc" for name in ("dvc.lock", "params.yaml", "old/f")}
    code = write(tmp_path / "code", CODE)
    folder = write(tmp_path / "run", {"dvc.yaml": "old", "params.yaml": "old", **files})
    owner = shutil if step == "copy2" else Path
    original, done = getattr(owner, step), []

    def break_off(*words: object) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(words)
        original(*words)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, step, break_off)
        lay_out(code, folder)
    for _ in range(2):
        assert [(folder / f"experiments/{table}/dvc.lock").read_text() for table in "abc"] == ["own"] * 3
        lay_out(code, folder)
    assert (folder / "experiments/a/params.yaml").read_text() == "new" and not list(folder.glob("experiments/*/old"))


def test_an_empty_folder_gets_all_and_dvc_works_there(tmp_path):
    code = tmp_path / "code"
    pack(ROOT, tmp_path / "code.zip")
    zipfile.ZipFile(tmp_path / "code.zip").extractall(code)
    for name in ("dvc.lock", "experiments/omniglot/dvc.lock"):
        (code / name).write_text("schema: '2.0'\nstages: {}\n# sent\n")
    lay_out(code, tmp_path / "shared/run")
    dvc = subprocess.run([Path(sys.executable).parent / "dvc", "stage", "list", "--name-only",
                          "experiments/omniglot/dvc.yaml"],
                         cwd=tmp_path / "shared/run", capture_output=True, text=True)
    assert dvc.returncode == 0 and "experiments/omniglot/dvc.yaml:report" in dvc.stdout.split(), dvc.stderr
    for name in ("dvc.lock", "experiments/omniglot/dvc.lock"):
        assert (tmp_path / "shared/run" / name).read_text().endswith("# sent\n")


@pytest.mark.parametrize(("found", "words"), [
    ({".git/HEAD": "x", "dvc.yaml": "", "params.yaml": ""}, "is a git checkout"),
    ({"thesis.tex": "x"}, "is not empty and lacks dvc.yaml and params.yaml"),
])
def test_a_folder_of_something_else_is_left_alone(tmp_path, found, words):
    code, folder = write(tmp_path / "code", CODE), write(tmp_path / "mine", found)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(WorkspaceError, match=words):
        lay_out(code, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# What is shown

class ScriptedCluster:
    """Sends `text` from its beginning at each attempt, in random pieces, as far as the attempt's place in `ends`.

    An attempt ends with an error, or as if the job had ended though it has not, or in silence.
    """

    address = "http://head:8265"

    def __init__(self, text: str, ends: list[tuple[int, str]], randomness: random.Random) -> None:
        self.text, self.ends, self.randomness = text, [*ends, (len(text), "closed")], randomness
        self.attempts = 0

    async def log(self, job_id):
        end, how = self.ends[self.attempts]
        self.attempts += 1
        position = 0
        while position < end:
            size = min(self.randomness.randint(1, 9), end - position)
            yield self.text[position:position + size]
            position += size
        if how == "lost":
            raise UnreachableError("gone")
        if how == "silent":
            await asyncio.sleep(60)

    def job(self, job_id):
        if self.attempts < len(self.ends) and self.ends[self.attempts - 1][1] == "lost":
            raise UnreachableError("gone")
        return job("SUCCEEDED" if self.attempts == len(self.ends) else "RUNNING")


@pytest.mark.parametrize("seed", range(40))
def test_every_line_is_shown_once_through_any_number_of_lost_connections(seed, monkeypatch):
    randomness = random.Random(seed)
    text = "".join(f"line {number} {'é' * randomness.randint(0, 5)}\n" for number in range(randomness.randint(0, 30)))
    ends = [(randomness.randint(0, len(text)), randomness.choice(["lost", "closed", "silent"]))
            for _ in range(randomness.randint(0, 6))]
    waits: list[float] = []
    monkeypatch.setattr(follow.time, "sleep", waits.append)
    shown: list[str] = []
    cluster = ScriptedCluster(text, ends, randomness)
    ended = Follower(cluster, "job-1", shown.append, silence=0.01).follow()
    assert "".join(shown) == text
    assert ended.status.value == "SUCCEEDED"
    assert cluster.attempts == len(ends) + 1
    assert all(wait >= 1 for wait in waits), "no attempt after a loss without a wait"


def test_the_log_of_a_job_that_has_ended_is_shown_to_its_end(monkeypatch):
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)
    text = "".join(f"line {number}\n" for number in range(20))
    cluster = ScriptedCluster(text, [(10, "lost"), (50, "lost"), (90, "lost")], random.Random(0))
    monkeypatch.setattr(cluster, "job", lambda job_id: job("FAILED"))
    shown: list[str] = []
    assert Follower(cluster, "job-1", shown.append).follow().status.value == "FAILED"
    assert "".join(shown) == text


def test_a_cluster_that_stays_away_is_given_up(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    cluster = ScriptedCluster("a\n", [(2, "lost")] * 1000, random.Random(0))
    with pytest.raises(UnreachableError, match="no answer for 600 s"):
        Follower(cluster, "job-1", lambda text: None).follow()
    assert 600 < now[0] < 640
    assert cluster.attempts < 30, "the waits between two tries grow"
    assert capsys.readouterr().err.count("lost; trying again") == 1


def test_no_message_has_the_password_of_the_address(monkeypatch, capsys):
    """The one of the dashboard is often that of a proxy before it."""

    class Server(ScriptedCluster):
        address = "http://ann:secret@head:8265"

        def __init__(self, *_):
            super().__init__("line\n", [(2, "lost")], random.Random(0))

        def is_open(self):
            return True

        def jobs(self):
            return [job("SUCCEEDED", entrypoint="cp s3://key:secret@bucket/x .")]

        def submit(self, *_):
            raise UnreachableError(f"{self.address} does not answer")

    monkeypatch.setattr(submit, "JobServer", Server)
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)
    for words in (["--list"], ["--follow", "job-1"], ["--detach", "true"], ["true"]):
        monkeypatch.setattr(sys, "argv", ["submit", "--address", Server.address, *words])
        with pytest.raises(SystemExit):
            submit.main()
    said = "".join(capsys.readouterr())
    assert "http://head:8265" in said and "s3://bucket/x" in said and "sending the code" in said
    assert "secret" not in said and "ann" not in said


def test_a_log_that_cannot_be_read_does_not_hold_up_the_end(monkeypatch):
    """The node with the log is gone; the job has failed."""
    class JobServer:
        address = "http://head:8265"

        async def log(self, job_id):
            raise UnreachableError("no such node")
            yield ""

        def job(self, job_id):
            return job("FAILED")

    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)
    assert Follower(JobServer(), "job-1", lambda text: None).follow().status.value == "FAILED"


# Ctrl-C

class InterruptedFollower:
    """Ctrl-C some times, then the end."""

    interrupts = 1

    def __init__(self, cluster, job_id, show):
        self.cluster, self.left = cluster, self.interrupts

    def follow(self):
        if self.left:
            self.left -= 1
            raise KeyboardInterrupt
        return job("STOPPED" if self.cluster.stopped else "SUCCEEDED")


@pytest.mark.parametrize(("interrupts", "answers", "code", "stopped"), [
    (1, ["stop"], 3, True), (1, ["leave"], 130, False), (1, ["go on"], 0, False), (2, ["go on", "stop"], 3, True),
    (2, ["stop"], 130, True),  # a second Ctrl-C while it stops: waits no longer
    (1, None, 130, False),  # nobody to ask
])
def test_ctrl_c_asks(interrupts, answers, code, stopped, monkeypatch, capsys):
    monkeypatch.setattr(InterruptedFollower, "interrupts", interrupts)
    monkeypatch.setattr(submit, "Follower", InterruptedFollower)
    cluster = SimpleNamespace(address="http://head:8265", stopped=False)
    cluster.stop = lambda job_id: setattr(cluster, "stopped", True)
    ask = None if answers is None else lambda: answers.pop(0)
    assert submit.follow(cluster, "job-1", ask) == code
    assert cluster.stopped == stopped
    if code == 130:
        told = capsys.readouterr().err
        assert "python -m pipeline.submit --address http://head:8265 --follow job-1" in told
        assert "--stop job-1" in told


@pytest.mark.parametrize(("typed", "wish"), [
    (["s"], "stop"), (["Leave"], "leave"), (["?", "", "g"], "go on"), ([EOFError], "leave"),
    ([KeyboardInterrupt], "leave")])
def test_the_question_takes_a_letter(typed, wish, monkeypatch):
    def answer(prompt):
        assert "[s]top" in prompt and "[l]eave" in prompt and "[g]o on" in prompt
        given = typed.pop(0)
        if isinstance(given, str):
            return given
        raise given

    monkeypatch.setattr("builtins.input", answer)
    assert submit.ask_after_interrupt() == wish


# What is refused

@pytest.mark.parametrize(("given", "environment", "address"), [
    (None, {}, "http://127.0.0.1:8265"),
    (None, {"RAY_ADDRESS": "http://a:8265"}, "http://a:8265"),
    (None, {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_API_SERVER_ADDRESS": "https://b/"}, "https://b"),
    ("http://c:1", {"RAY_ADDRESS": "http://a:8265", "RAY_API_SERVER_ADDRESS": "http://b"}, "http://c:1"),
])
def test_where_the_address_comes_from(given, environment, address):
    assert job_server_address(given, environment) == address


@pytest.mark.parametrize(("given", "environment", "words"), [
    ("head:8265", {}, "--address is 'head:8265'"), (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, "RAY_ADDRESS is '10.0"),
    (None, {"RAY_ADDRESS": "auto"}, "RAY_ADDRESS is 'auto'"), ("ray://head:10001", {}, "--address is 'ray:")])
def test_an_address_of_another_kind_is_refused(given, environment, words):
    with pytest.raises(ClusterError, match=words) as error:
        job_server_address(given, environment)
    assert "--address http://HEAD:8265" in str(error.value)


def refuse_to_send(*arguments: object) -> None:
    raise AssertionError("sent")


@pytest.mark.parametrize(("name", "folder", "command", "words"), [
    ("a b", None, ["true"], "--name is 'a b'"),
    ("a", Path("run"), ["true"], "--folder is 'run'; give the absolute path"),
    ("a", Path("/shared/run"), ["true"], "job job-1 runs in /shared/run"),
    ("a", None, ["dvc", "repro"], "add --folder"),
])
def test_a_submission_that_makes_no_sense_is_refused(name, folder, command, words):
    cluster = SimpleNamespace(address="http://head:8265", submit=refuse_to_send, jobs=lambda: [
        job("RUNNING", metadata={"folder": "/shared/run"}), job("FAILED", metadata={"folder": "/shared/other"})])
    with pytest.raises(submit.SubmitError, match=words):
        submit.submit(cluster, command, name, folder, {})


def test_an_installed_package_is_not_sent(monkeypatch, tmp_path):
    monkeypatch.setattr(submit, "ROOT", write(tmp_path / "site-packages", {"numpy/__init__.py": ""}))
    cluster = SimpleNamespace(address="http://head:8265", submit=refuse_to_send)
    with pytest.raises(submit.SubmitError, match=r"site-packages .* run this command from a checkout"):
        submit.submit(cluster, ["true"], "a", None, {})


def test_what_is_submitted():
    sent: list[tuple] = []
    cluster = SimpleNamespace(address="http://head:8265", submit=lambda *words: sent.append(words),
                              jobs=lambda: [job("FAILED", metadata={"folder": "/shared/run"})])
    environment = {"MATCHNET_STORAGE": "/shared", "HOME": "/root", "RAY_ADDRESS": "http://head:8265"}
    job_id = submit.submit(cluster, ["dvc", "repro", "evaluate@a b"], "mine", Path("/shared/run"), environment)
    (sent_id, entrypoint, runtime_env, metadata), = sent
    assert job_id == sent_id and re.fullmatch(r"mine-[0-9a-f]{6}", job_id)
    assert entrypoint == "python -m pipeline.submission.workspace /shared/run dvc repro 'evaluate@a b'"
    assert runtime_env["env_vars"] == {"MATCHNET_STORAGE": "/shared"}
    assert metadata == {"name": "mine", "folder": "/shared/run"}


@pytest.mark.parametrize("words", [[], ["--list", "--stop", "a"], ["--follow", "a", "--", "true"]])
def test_one_thing_at_a_time(words, capsys):
    with pytest.raises(SystemExit) as ended:
        submit.arguments(words)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_version_of_ray_is_the_one_of_pyproject():
    assert f"ray[default,train]>={LEAST_RAY},<{NO_RAY}" in (ROOT / "pyproject.toml").read_text()


class Server:
    """Answers every request the same; `headers` keeps what came."""

    def __init__(self, code: int, body: str) -> None:
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.headers.append(dict(self.headers))
                answered, text = outer.answer(self.path, self.headers) or (code, body)
                self.send_response(answered)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        return None

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class GuardedServer(Server):
    """A dashboard without jobs that asks for a token."""

    def answer(self, path, headers):
        if headers.get("authorization") != "Bearer open-sesame":
            return 401, "Unauthorized"
        return 200, "[]" if path.startswith("/api/jobs") else json.dumps({"ray_version": "2.60.0"})


@pytest.fixture
def no_token(monkeypatch):
    """The address of a cluster stands in the environment after each connection; a token of this machine is not used."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.mark.parametrize(("code", "body", "words"), [
    (200, json.dumps({"ray_version": "2.9.3"}), "runs Ray 2.9.3, and this code needs at least 2.60"),
    (200, json.dumps({"ray_version": "3.0.1"}), "runs Ray 3.0.1"),
    (200, "<html>hello</html>", "answers, but not as Ray's dashboard does"),
    (200, "{}", "answers, but not as Ray's dashboard does"),
    (404, "", "answers, but not as Ray's dashboard does"),
    (401, "no token", "asks for a token"),
])
def test_who_answers_is_checked(code, body, words, no_token):
    with Server(code, body) as server:
        with pytest.raises(ClusterError, match=words) as error:
            JobServer(server.address)
    assert server.address in str(error.value)


def test_nobody_answers(no_token):
    with Server(200, "") as server:
        address = server.address
    with pytest.raises(UnreachableError) as error:
        JobServer(address)
    for word in (address, "does not answer", "--dashboard-host", "8265", "ssh -L"):
        assert word in str(error.value)


def test_a_dashboard_that_takes_connections_and_says_nothing_is_given_up(no_token, monkeypatch):
    assert sum(FIRST_TIMEOUTS) <= 30
    monkeypatch.setattr("pipeline.submission.job_server.FIRST_TIMEOUTS", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=rf"{address} does not answer \(ReadTimeout\); check"):
            JobServer(address)
        cluster = object.__new__(JobServer)  # one that has answered once
        cluster.address = address
        with pytest.raises(UnreachableError, match=rf"{address} does not answer \(ReadTimeout\); check"):
            cluster.is_open()


def test_a_job_that_is_not_there(no_token):
    class Empty(Server):
        def answer(self, path, headers):
            return (200, json.dumps({"ray_version": "2.60.0"})) if path == "/api/version" else None

    with Empty(404, "Job nope does not exist") as server:
        with pytest.raises(UnknownJobError, match=r"knows no job 'nope'; .*--list"):
            JobServer(server.address).job("nope")


def test_the_token_of_the_environment_is_sent(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with GuardedServer(200, "") as server:
        ended = subprocess.run([sys.executable, "-m", "pipeline.submit", "--address", server.address, "--list"],
                               env={**environment, "RAY_AUTH_TOKEN": "open-sesame", "PYTHONPATH": str(ROOT)},
                               cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["job", "status", "began", "seconds", "command"]


# Examples

def documents(name: str) -> list[dict]:
    return list(YAML(typ="safe").load_all((EXAMPLES / name).read_text(encoding="utf-8")))


def modules_run(text: str) -> list[str]:
    return re.findall(r"python -m ([\w.]+)", text)


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "ray-job.yaml"])
def test_every_module_that_an_example_runs_is_there(name):
    modules = modules_run((EXAMPLES / name).read_text(encoding="utf-8"))
    assert modules
    for module in modules:
        assert module == "venv" or find_spec(module), f"{name}: {module}"


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "ray-job.yaml"])
def test_the_options_of_the_examples_are_understood(name):
    """`python -m pipeline.submit ...` in their comments."""
    for line in re.findall(r"python -m pipeline\.submit (.*)", (EXAMPLES / name).read_text(encoding="utf-8")):
        *command, table = submit.arguments(line.split()).command
        assert command == ["dvc", "repro"] and (ROOT / table).is_file()


def test_every_head_that_we_tell_to_start_asks_for_a_token():
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *EXAMPLES.iterdir()]
    starts = [found[0] for file in files
              for found in re.finditer(r"(?:\w+=\S+\s+)*ray start [^\n]*--head", file.read_text())]
    assert starts and all("RAY_AUTH_MODE=token" in line for line in starts), starts


def test_the_cluster_example_fits_rays_schema():
    import jsonschema
    import ray

    config, = documents("ray-cluster.yaml")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    assert config["provider"]["type"] == "local"
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    start = config["head_start_ray_commands"][-1]
    assert "ray start --head" in start and "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "--address=$RAY_HEAD_IP" in config["worker_start_ray_commands"][-1]
    assert all("RAY_AUTH_MODE=token" in config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker"))


def test_the_cluster_example_installs_what_the_package_needs():
    import tomllib

    config, = documents("ray-cluster.yaml")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in wanted:
        name = re.split(r"[<>=]", requirement)[0]
        assert name in config["setup_commands"][-1].replace('"', "").split(), f"ray-cluster.yaml installs no {name}"


def test_the_job_example_is_a_rayjob():
    found, claim = documents("ray-job.yaml")
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    spec = found["spec"]
    cluster = spec["rayClusterSpec"]
    ray_version = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert cluster["rayVersion"] == ray_version
    assert f"rayproject/ray:{ray_version}-" in (EXAMPLES / "ray-job.yaml").read_text()
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert len(groups) == 2
    for group in groups:
        pod = group["template"]["spec"]
        container, = pod["containers"]
        assert container["image"] == groups[0]["template"]["spec"]["containers"][0]["image"], "the same code everywhere"
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        assert mounts == {"shared": "/shared"} and volumes == {"shared": claim["metadata"]["name"]}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert all(isinstance(variable["value"], str) for variable in container["env"])
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "/shared/" in spec["entrypoint"] and modules_run(spec["entrypoint"]) == ["pipeline.submission.workspace"]
    shell, _, script = shlex.split(spec["entrypoint"])
    assert shell == "sh" and (ROOT / script.split()[-1]).is_file() and script.split()[-3:-1] == ["dvc", "repro"]


def test_the_image_of_the_job_example_has_all_that_a_table_needs():
    copied = re.findall(r"COPY --chown=ray (.*) \S+$", (EXAMPLES / "ray-job.yaml").read_text(), re.MULTILINE)
    for name in (*PACKAGES, "experiments", "dvc.yaml", "params.yaml", "pyproject.toml", ".dvc/config"):
        assert name in " ".join(copied).split(), f"ray-job.yaml copies no {name}"
