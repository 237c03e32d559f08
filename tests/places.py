"""Places of the repository: tests lie in rooms like those of what they test."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
