"""A Ray cluster as its job server, the dashboard's address, shows it; its errors in words."""

import logging
import os
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from packaging.version import InvalidVersion, Version

from pipeline.cluster.access import TOKEN_FILE, use_token

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
TIMEOUTS = (10.0, 120.0)  # seconds to connect, and between two bytes; Ray itself would wait for ever
FIRST_TIMEOUTS = (10.0, 20.0)  # seconds for the first requests: a server that never answers is given up within 30 s
LEAST_RAY, NO_RAY = Version("2.60"), Version("3")  # as in pyproject.toml


class ClusterError(ValueError):
    """The cluster refused, or cannot serve us."""


class UnreachableError(ClusterError):
    """No answer; the same request may be answered later."""


class UnknownJobError(ClusterError):
    """The cluster has no such job."""


def job_server_address(given: str | None, environment: Mapping[str, str]) -> str:
    """The address to use: what is given, RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or this machine's default.

    Raises:
        ClusterError: it is not an http address.
    """
    sources = (("--address", given), ("RAY_API_SERVER_ADDRESS", environment.get("RAY_API_SERVER_ADDRESS")),
               ("RAY_ADDRESS", environment.get("RAY_ADDRESS")), ("the default", DEFAULT_ADDRESS))
    source, address = next((name, value) for name, value in sources if value)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(f"{source} is {address!r}, and jobs are submitted to the http address of the cluster's "
                           "dashboard; say --address http://HEAD:8265")
    return address.rstrip("/")


class JobServer:
    """A connection to the job server, made by the constructor.

    Raises, like every method:
        UnreachableError: no answer, or one that says to come again.
        UnknownJobError: there is no such job (only from methods that take one).
        ClusterError: not a Ray cluster, one of another version, or one that asks for another token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        # Ray prefers what stands in the environment to what it is given, and uses a token only if it is told to.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        use_token()
        from ray.job_submission import JobSubmissionClient  # reads the environment, and takes a second

        class Client(JobSubmissionClient):
            """Ray's client with time limits."""

            limits = FIRST_TIMEOUTS

            def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
                return super()._do_request(method, endpoint, timeout=self.limits, **options)

        for name in ("dashboard_sdk", "job.sdk"):  # these modules log every upload and every connection's end
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
        with self._errors_in_words():
            self._client = Client(address)
            found = self._client._do_request("GET", "/api/version").json()["ray_version"]
        check_version(address, found)
        self._client.limits = TIMEOUTS

    def is_open(self) -> bool:
        """Whether the server shows its jobs without a token; then it also takes jobs from everybody."""
        with self._errors_in_words():
            return requests.get(f"{self.address}/api/jobs/", timeout=FIRST_TIMEOUTS).ok

    def submit(self, job_id: str, entrypoint: str, runtime_env: dict[str, Any], metadata: dict[str, str]) -> None:
        with self._errors_in_words():
            self._client.submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env,
                                    metadata=metadata)

    def job(self, job_id: str) -> Any:
        """JobDetails of a job: status, message, ..."""
        with self._errors_in_words(job_id):
            return self._client.get_job_info(job_id)

    def jobs(self) -> list[Any]:
        """JobDetails of all that were submitted, oldest first."""
        with self._errors_in_words():
            found = [job for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0)

    def stop(self, job_id: str) -> bool:
        """Ask the job to end; False if it had ended before."""
        with self._errors_in_words(job_id):
            return bool(self._client.stop_job(job_id))

    async def log(self, job_id: str) -> AsyncGenerator[str, None]:
        """The job's log from its beginning, in pieces, until the job ends."""
        with self._errors_in_words(job_id):
            async for text in self._client.tail_job_logs(job_id):
                yield text

    @contextmanager
    def _errors_in_words(self, job_id: str = "") -> Iterator[None]:
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError
        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(f"{self.address} asks for a token: {str(error).splitlines()[0]}\nput the one of the "
                               f"cluster's head into {TOKEN_FILE}, or RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token") \
                from error
        except (KeyError, TypeError) as error:
            raise ClusterError(f"{self.address} answers, but not as Ray's dashboard does; its port is 8265 "
                               "unless it was started with another") from error
        except (RuntimeError, ValueError) as error:  # requests' JSON errors are ValueErrors and OSErrors
            if isinstance(error, ClusterError):
                raise
            raise self._refusal(str(error), job_id) from error
        except (OSError, ClientError) as error:
            raise UnreachableError(
                f"{self.address} does not answer ({type(error).__name__}); check that the cluster runs, that its "
                "dashboard listens on an address that this machine reaches (ray start --dashboard-host=0.0.0.0), "
                "and the port (8265 unless another was chosen); through ssh: ssh -L 8265:127.0.0.1:8265 HEAD") \
                from error

    def _refusal(self, message: str, job_id: str) -> ClusterError:
        found = re.search(r"status code (\d+)", message)
        status = int(found[1]) if found else 0
        if status == 404 and job_id:
            return UnknownJobError(f"{self.address} knows no job {job_id!r}; `python -m pipeline.submit --list` shows "
                                   "those it has; it forgets them when its head is started anew")
        if status in (502, 503, 504) or message.startswith("WebSocket"):
            return UnreachableError(f"{self.address}: {message}")
        if not found:
            return ClusterError(f"{self.address} answers, but not as Ray's dashboard does: {message}")
        return ClusterError(f"{self.address}: {message.strip().splitlines()[-1]}")


def check_version(address: str, found: str) -> None:
    """ClusterError if the cluster runs a Ray that this code does not run under."""
    try:
        fits = LEAST_RAY <= Version(found) < NO_RAY
    except InvalidVersion:
        fits = False
    if not fits:
        raise ClusterError(f"{address} runs Ray {found}, and this code needs at least {LEAST_RAY} and less than "
                           f"{NO_RAY} on every node; install the version of constraints.txt there")
