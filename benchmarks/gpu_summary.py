"""The end of benchmarks/gpu.sh: which parts ran, what does not hold, and what failed.

    python -m benchmarks.gpu_summary FOLDER     # that has gpu.jsonl
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu_part import LINES_FILE

STATUS = {0: "done", 1: "something does not hold or failed", 124: "stopped at its time limit",
          137: "stopped at its time limit"}


def summary(lines: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """The lines to print, and whether all is well."""
    ended = [line for line in lines if "status" in line]
    wrong = [line for line in lines if line.get("holds") == "NO" or "failed" in line]
    checks = [line for line in lines if "holds" in line]
    said = [f"{line['part']:<12}{line['seconds']:>5} s  {STATUS.get(line['status'], 'ended by itself: see its output')}"
            for line in ended]
    said += [f"{len(checks) - sum(line['holds'] == 'NO' for line in checks)} of {len(checks)} checks hold"]
    said += [f"  {line['part']}: {line['what']}: {line.get('failed') or line.get('difference') or line.get('count')}"
             for line in wrong]
    return said, not wrong and all(line["status"] == 0 for line in ended)


def main() -> None:
    file = Path(sys.argv[1], LINES_FILE)
    text, well = summary([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])
    print("\n## summary", *text, f"all lines: {file}", sep="\n")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
