"""What the stages share: one name on the command line, checked parameters, plain errors for a user's mistakes."""

import argparse
import sys
from collections.abc import Callable

from pipeline.params import Params, read_params


def run_stage(stage: Callable[[str, Params], None], about: str | None, what: str) -> None:
    """Run `stage(name, params)` as a command; `python -m stages.train --help` shows `about`.

    A ValueError (bad parameters or data) or an error of the system (a full disk) is printed and ends with status 1;
    any other is our bug and keeps its traceback. Ctrl-C ends with status 130.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("name", metavar=what, help=f"name of the {what} in params.yaml")
    name = parser.parse_args().name
    try:
        stage(name, read_params())
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
