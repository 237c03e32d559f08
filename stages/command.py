"""What the stages share: one name on the command line, checked parameters, plain errors for a user's mistakes."""

import argparse
import sys
from collections.abc import Callable, Mapping

import torch

from pipeline.ending import ending_in_order
from pipeline.machine import cores
from pipeline.params import read_params


def run_stage(stage: Callable[..., None], about: str | None, what: str, flags: Mapping[str, str] | None = None) -> None:
    """Run `stage(name, params)` as a command; `python -m stages.train --help` shows `about`.

    Each of `flags`, with its help, is a keyword of `stage` as well: `--profile` calls it with `profile=True`.

    A ValueError (bad parameters or data) or an error of the system (a full disk) is printed and ends with status 1;
    any other is our bug and keeps its traceback. Ctrl-C, SIGTERM and the end of `dvc repro` end with status 130.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("name", metavar=what, help=f"name of the {what} in params.yaml")
    for flag, help_text in (flags or {}).items():
        parser.add_argument(f"--{flag}", action="store_true", help=help_text)
    arguments = vars(parser.parse_args())
    name = arguments.pop("name")
    torch.set_num_threads(min(torch.get_num_threads(), cores()))  # torch's own choice knows no container's limits
    try:
        with ending_in_order():
            stage(name, read_params(), **arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt as stop:
        print(f"{stop or 'interrupted'}; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
