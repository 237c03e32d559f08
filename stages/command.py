"""What the stages share: one name on the command line, checked parameters, plain errors for a user's mistakes."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pipeline import paths
from pipeline.messages import shortened, without_credentials
from pipeline.params import read_params

LONGEST_MESSAGE = 6000  # characters: one of Ray's has the end of a worker's log


def run_stage(stage: Callable[..., None], about: str | None, what: str, flags: Mapping[str, str] | None = None) -> None:
    """Run `stage(name, params)` as a command; `python -m stages.train --help` shows `about`.

    Each of `flags`, with its help, is a keyword of `stage` as well: `--profile` calls it with `profile=True`.

    A ValueError (bad parameters or data) or an error of the system (a full disk) is printed and ends with status 1;
    any other is our bug and keeps its traceback. Ctrl-C ends with status 130.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("name", metavar=what, help=f"name of the {what} in params.yaml")
    for flag, help_text in (flags or {}).items():
        parser.add_argument(f"--{flag}", action="store_true", help=help_text)
    arguments = vars(parser.parse_args())
    name = arguments.pop("name")
    with plain_errors():
        stage(name, read_params(), **arguments)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors of the block as `run_stage` ends with them; first, folders that DVC would refuse after the work."""
    try:
        paths.require_no_links_out()
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {shortened(without_credentials(str(error)), LONGEST_MESSAGE)}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
