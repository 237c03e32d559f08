"""Access to a Ray cluster: its token is required, or, if it has no token, everybody who reaches it has access."""

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
    """Let Ray use the token when it is imported next: by itself, only a local Ray uses it."""
    if has_token(os.environ):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def warn_of_open_cluster(address: str) -> None:
    """Warn on standard error of a cluster that has been seen to take requests without a token."""
    print(f"WARNING: the Ray cluster at {address} asks for no token: whoever reaches it can run any command there. "
          "On its head, make a token and start Ray anew: `ray get-auth-token --generate`, then "
          f"`RAY_AUTH_MODE=token ray start --head`; copy {TOKEN_FILE} to every node and to this machine",
          file=sys.stderr, flush=True)
