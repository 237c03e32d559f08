"""Stage code: write data/code, one file a stage: the modules that it runs and their hashes. See pipeline.stage_code."""

import argparse

from pipeline import paths
from pipeline.stage_code import write_stage_code
from stages.command import plain_errors

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with plain_errors():
        write_stage_code(paths.CODE)
