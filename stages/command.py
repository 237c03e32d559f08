"""Shared parts of the stages: a table and a name on the command line, checked parameters, plain errors for mistakes."""

import argparse
import errno
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from matchnet.garbage import usual_collections
from matchnet.messages import shortened, without_credentials
from pipeline import paths
from pipeline.params import Params, named, read_params
from pipeline.system.ending import ending_in_order
from pipeline.system.machine import cores

# Remedies for errors whose text comes from the system.
HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; free some space on that disk, and run the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "; let this user read and write it"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP),
                    "; remove or rename what is in its place, and run the same command again"),
    errno.ENOENT: "; run the stage that makes it, or take it from where it was"}
# What a stage takes -> one that is committed.
EXAMPLES = {"dataset": "omniglot/mnist", "model": "omniglot/short", "row": "omniglot/short-fce",
            "comparison": "omniglot/figure2"}
LONGEST_MESSAGE = 6000  # characters: a message of Ray's has the end of a worker's log


def run_stage(stage: Callable[..., None], about: str | None, what: str, flags: Mapping[str, str] | None = None) -> None:
    """Run `stage(full_name, params)` as a command; `python -m stages.train --help` shows `about`.

    Each of `flags`, with its help, is a keyword of `stage` as well: `--profile` calls it with `profile=True`.

    A ValueError (bad parameters or data) or an error of the system (a full disk) is printed, and the status is 1. Any
    other error is our bug and keeps its traceback. Ctrl-C, SIGTERM and the end of `dvc repro` end with status 130.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("name", metavar=f"TABLE/{what.upper()}", help=f"the table and the name of the {what} in its "
                        f"params.yaml, such as {EXAMPLES[what]}; the table of the root is demo")
    for flag, help_text in (flags or {}).items():
        parser.add_argument(f"--{flag}", action="store_true", help=help_text)
    arguments = vars(parser.parse_args())
    name = arguments.pop("name")
    table, slash, rest = name.partition("/")
    if not slash or not rest:
        parser.error(f"found {name!r}; write the table, a slash and the name of the {what}, such as demo/{name}")
    usual_collections()
    torch.set_num_threads(min(torch.get_num_threads(), cores()))  # torch's own choice knows no container's limits
    with plain_errors():
        stage(name, read_params(table), **arguments)


@contextmanager
def plain_errors() -> Iterator[None]:
    """End errors of the block as `run_stage` says. First refuse folders that DVC would refuse after the work."""
    try:
        paths.require_no_links_out()
        with ending_in_order():
            yield
    except (ValueError, OSError) as error:
        hint = HINTS.get(error.errno or 0, "") if isinstance(error, OSError) and ";" not in str(error) else ""
        sys.exit(f"{type(error).__name__}: {shortened(without_credentials(str(error)), LONGEST_MESSAGE)}{hint}")
    except KeyboardInterrupt as stop:
        print(f"{str(stop) or 'interrupted'}; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def dataset_name(name: str, params: Params) -> str:
    """The dataset of `omniglot/mnist`; ParamsError unless that table declares it."""
    short = paths.short_name(name)
    named(dict.fromkeys(params.own_datasets), f"{params.folder / 'params.yaml'}: datasets", short)
    return short
