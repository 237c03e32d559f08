"""The log of a job, shown while it runs, through lost connections."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from matchnet.messages import without_credentials
from pipeline.submission.job_server import JobServer, UnreachableError

PATIENCE = 600.0  # seconds without an answer after which we give up; the job goes on
SILENCE = 60.0  # seconds without a line after which we connect anew: a connection may be dead without a word
LONGEST_WAIT = 30.0  # seconds between two tries

Ending = Literal["whole", "silent", "lost"]


@dataclass
class Follower:
    """Shows each character of the log once, for as long as it lives: Ray sends a log from its beginning each time.

    Args:
        show: gets the log's text in pieces.
        shown: characters shown so far.
    """

    server: JobServer
    job_id: str
    show: Callable[[str], None]
    patience: float = PATIENCE
    silence: float = SILENCE
    shown: int = 0

    def follow(self) -> Any:
        """Until the job has ended; returns its JobDetails. After an interruption, call it again.

        Raises:
            UnreachableError: no answer for `patience` seconds.
            UnknownJobError: there is no such job, or the cluster was started anew and forgot it.
        """
        answered, failures = time.monotonic(), 0
        while True:
            shown_before = self.shown
            ending = asyncio.run(self._read_log())
            try:
                job = self.server.job(self.job_id)
                answered = time.monotonic()
            except UnreachableError as error:
                if time.monotonic() - answered > self.patience:
                    raise UnreachableError(f"{error}\nno answer for {self.patience:.0f} s") from error
                job, ending = None, "lost"
            nothing_new = self.shown == shown_before
            unreadable = nothing_new and (failures > 0 or ending == "silent")  # for example, its node is gone
            if job is not None and job.status.is_terminal() and (ending == "whole" or unreadable):
                return job
            if ending == "silent" or not nothing_new:
                failures = 0
            if ending != "silent":
                failures += 1
                if failures == 1 and job is None:
                    print(f"connection to {without_credentials(self.server.address)} lost; trying again",
                          file=sys.stderr, flush=True)
                time.sleep(min(2.0 ** (failures - 1), LONGEST_WAIT))

    async def _read_log(self) -> Ending:
        """Show what is new in the log until the job or the connection ends."""
        position = 0  # characters of the log received so far
        try:
            async with aclosing(self.server.log(self.job_id)) as pieces:
                while True:
                    piece = await asyncio.wait_for(anext(pieces), self.silence)
                    position += len(piece)
                    fresh = position - self.shown
                    if fresh > 0:
                        self.show(piece[-fresh:])
                        self.shown = position
        except StopAsyncIteration:
            return "whole"
        except TimeoutError:
            return "silent"
        except UnreachableError:
            return "lost"
