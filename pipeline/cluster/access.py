"""Who may use a Ray cluster: those who have its token, or, of a cluster without one, everybody who reaches it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

TOKEN_FILE = Path("~/.ray/auth_token")  # where Ray keeps it


def has_token(environment: Mapping[str, str]) -> bool:
    """Whether there is a token where Ray looks for one."""
    return bool(environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH")
                or TOKEN_FILE.expanduser().is_file())


def use_token() -> None:
    """Let Ray, when it is imported next, use the token that there is: by itself it does so for a local Ray alone."""
    if has_token(os.environ):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def warn_of_open_cluster(address: str) -> None:
    """To standard error, for a cluster that has been seen to take requests without a token."""
    print(f"WARNING: the Ray cluster at {address} asks for no token: whoever reaches it can run any command there. "
          "On its head, make a token and start Ray anew: `ray get-auth-token --generate`, then "
          f"`RAY_AUTH_MODE=token ray start --head`; copy {TOKEN_FILE} to every node and to this machine",
          file=sys.stderr, flush=True)
