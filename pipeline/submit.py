"""Run a command of this repository on a Ray cluster, show its log, and end as it ends.

    python -m pipeline.submit --address http://head:8265 --folder /shared/matchnet -- \\
        dvc repro experiments/omniglot/dvc.yaml
    python -m pipeline.submit --follow matchnet-3fa9c1

The code of this repository is sent (what .gitignore and .rayignore leave of it), data never. The command runs on the
cluster's head, its training workers anywhere. Variables MATCHNET_* of this environment go with it.

--folder names a folder on storage that all nodes see under this path. The code is put there and the command runs
there, so that data/, results/ and every dvc.lock outlive the job. Without --folder the command runs in a copy that Ray
removes after the job.

Exit status: 0 the job succeeded; 1 it failed; 2 refused, nothing was sent; 3 it was stopped; 4 the cluster does not
answer or does not know the job; 130 interrupted, and the job goes on.
"""

import argparse
import os
import re
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from matchnet.messages import without_credentials
from pipeline.cluster.access import warn_of_open_cluster
from pipeline.submission.follow import Follower
from pipeline.submission.job_server import (
    ClusterError,
    JobServer,
    UnknownJobError,
    UnreachableError,
    job_server_address,
)
from pipeline.submission.package import pack

ROOT = Path(__file__).resolve().parent.parent
SUCCEEDED, FAILED, REFUSED, STOPPED, LOST, INTERRUPTED = 0, 1, 2, 3, 4, 130
STATUS = {"SUCCEEDED": SUCCEEDED, "FAILED": FAILED, "STOPPED": STOPPED}
STOP_SECONDS = 60.0  # Ray kills processes that have not ended 3 s after the request
TRAVELLING = "MATCHNET_"


class SubmitError(ValueError):
    """The request makes no sense; nothing was sent."""


def submit(server: JobServer, command: list[str], name: str, folder: Path | None,
           environment: Mapping[str, str]) -> str:
    """Send the code and start the command; returns the job's id.

    Raises:
        SubmitError: the name or the folder cannot be used, another job uses the folder, or there is no code to send.
        PackageError: the code is too large.
    """
    if not (ROOT / "dvc.yaml").is_file():
        raise SubmitError(f"{ROOT} is where this package was installed to, and no checkout of the repository, whose "
                          "code is to be sent; run this command from a checkout")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise SubmitError(f"--name is {name!r}; use letters, digits, '.', '_' and '-'")
    metadata = {"name": name}
    if folder is not None:
        _check_folder(server, folder)
        metadata["folder"] = str(folder)
        command = ["python", "-m", "pipeline.submission.workspace", str(folder), *command]
    elif command[0] == "dvc":
        raise SubmitError("dvc in a copy that is removed after the job would begin from nothing and leave nothing; "
                          "add --folder with a path that all nodes see")
    job_id = f"{name}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "code.zip"
        total = pack(ROOT, package)
        _say(f"sending the code to {server.address}: {total / 2**20:.1f} MiB, "
             f"{package.stat().st_size / 2**20:.1f} MiB compressed")
        variables = {key: value for key, value in environment.items() if key.startswith(TRAVELLING)}
        try:
            server.submit(job_id, shlex.join(command), {"working_dir": str(package), "env_vars": variables}, metadata)
        except UnreachableError as error:  # perhaps after the job had been taken
            raise UnreachableError(f"{error}\nwhether the job runs: {_again('--follow', server, job_id)}") from error
    return job_id


def _check_folder(server: JobServer, folder: Path) -> None:
    if not folder.is_absolute():
        raise SubmitError(f"--folder is {str(folder)!r}; give the absolute path that all nodes see")
    for job in server.jobs():
        if not job.status.is_terminal() and (job.metadata or {}).get("folder") == str(folder):
            raise SubmitError(f"job {job.submission_id} runs in {folder}, and its code would be replaced under it; "
                              "wait for it, stop it, or name another folder")


def follow(server: JobServer, job_id: str, ask: Callable[[], str] | None) -> int:
    """Show the log to the end of the job; returns the exit status.

    Args:
        ask: returns the user's choice after Ctrl-C: "stop", "leave" or "go on". None leaves the job running.
    """
    follower = Follower(server, job_id, _show)
    stopping = False
    while True:
        try:
            job = follower.follow()
            break
        except KeyboardInterrupt:
            wish = "leave" if ask is None or stopping else ask()
            if wish == "stop":
                server.stop(job_id)
                stopping = True
            elif wish == "leave":
                _say(f"job {job_id} goes on. To see it again: {_again('--follow', server, job_id)}\n"
                     f"to stop it: {_again('--stop', server, job_id)}")
                return INTERRUPTED
        except UnreachableError as error:
            raise UnreachableError(f"{error}\nthe job may go on. To see it again: "
                                   f"{_again('--follow', server, job_id)}") from error
    _say(f"job {job_id} {job.status.value.lower()}{_reason(job)}")
    return STATUS[job.status.value]


def stop(server: JobServer, job_id: str) -> int:
    """Stop a job and wait until it has ended."""
    if not server.stop(job_id):
        _say(f"job {job_id} had ended before: {server.job(job_id).status.value.lower()}")
        return SUCCEEDED
    deadline = time.monotonic() + STOP_SECONDS
    while not (job := server.job(job_id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise ClusterError(f"job {job_id} was asked to stop {STOP_SECONDS:.0f} s ago and is {job.status.value}; "
                               "look at the head's logs")
        time.sleep(0.5)
    _say(f"job {job_id} {job.status.value.lower()}")
    return SUCCEEDED


def table(jobs: list[Any]) -> str:
    """One line a job: id, status, when it began, how long it ran, its command."""
    lines = [f"{'job':<24} {'status':<10} {'began':<19} {'seconds':>8}  command"]
    for job in jobs:
        began = (job.start_time or 0) / 1000
        ended = job.end_time / 1000 if job.end_time else time.time()
        lines.append(f"{job.submission_id:<24} {job.status.value.lower():<10} "
                     f"{datetime.fromtimestamp(began):%Y-%m-%d %H:%M:%S} {ended - began:8.0f}  {job.entrypoint}")
    return "\n".join(lines)


def _reason(job: Any) -> str:
    """The reason of a failure; for a failed command only the exit status, since the log has shown the rest."""
    if job.status.value != "FAILED" or not job.message:
        return ""
    own = job.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR"
    return ": " + (job.message.split(",")[0] if own else job.message)


def _again(option: str, server: JobServer, job_id: str) -> str:
    return f"python -m pipeline.submit --address {server.address} {option} {job_id}"


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    """Print to standard error, without the credentials of addresses."""
    print(without_credentials(text), file=sys.stderr, flush=True)


def ask_after_interrupt() -> str:
    """Ask what to do with the job; a second Ctrl-C leaves it running."""
    wishes = {"s": "stop", "l": "leave", "g": "go on"}
    try:
        while True:
            answer = input("\n[s]top the job, [l]eave it running, or [g]o on watching? ").strip().lower()[:1]
            if answer in wishes:
                return wishes[answer]
    except (KeyboardInterrupt, EOFError):
        return "leave"


def arguments(words: list[str]) -> argparse.Namespace:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m pipeline.submit", description=about, epilog=rest,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="address of the cluster's dashboard, http://HEAD:8265; else "
                                          "RAY_API_SERVER_ADDRESS, RAY_ADDRESS, this machine")
    parser.add_argument("--name", default="matchnet", help="the job's id begins with it")
    parser.add_argument("--folder", type=Path, help="a folder that all nodes see; the command runs there")
    parser.add_argument("--detach", action="store_true", help="print the job's id and end")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--follow", metavar="JOB", help="show the log of a job from its beginning")
    instead.add_argument("--stop", metavar="JOB", help="stop a job")
    instead.add_argument("--list", action="store_true", help="list the jobs of the cluster")
    parser.add_argument("command", nargs="*", help="the command to run, after --")
    given = parser.parse_args(words)
    if bool(given.command) == bool(given.follow or given.stop or given.list):
        parser.error("give a command after --, or one of --follow, --stop, --list")
    return given


def run(given: argparse.Namespace) -> int:
    server = JobServer(job_server_address(given.address, os.environ))
    if server.is_open():
        warn_of_open_cluster(without_credentials(server.address))
    if given.list:
        print(without_credentials(table(server.jobs())))
        return SUCCEEDED
    if given.stop:
        return stop(server, given.stop)
    job_id = given.follow or submit(server, given.command, given.name, given.folder, os.environ)
    if given.detach:
        print(job_id)
        _say(f"to see it: {_again('--follow', server, job_id)}\nto stop it: {_again('--stop', server, job_id)}")
        return SUCCEEDED
    if not given.follow:
        _say(f"job {job_id}")
    return follow(server, job_id, ask_after_interrupt if sys.stdin.isatty() else None)


def main() -> None:
    given = arguments(sys.argv[1:])
    try:
        status = run(given)
    except BrokenPipeError:  # `| head`: whoever read the log has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = INTERRUPTED
    except (ValueError, OSError) as error:
        _say(f"{type(error).__name__}: {error}")
        status = LOST if isinstance(error, UnreachableError | UnknownJobError) else REFUSED
    except KeyboardInterrupt:
        _say("interrupted before the job was started")
        status = INTERRUPTED
    sys.exit(status)


if __name__ == "__main__":
    main()
