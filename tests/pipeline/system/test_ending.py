"""A stage ends in order: by SIGTERM, and when the `dvc repro` that started it is ended alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from places import ROOT

from pipeline.system.ending import dvc_process

STAGE = """
import sys, time
from pipeline.system.ending import ending_in_order
try:
    with ending_in_order():
        print("begun", flush=True)
        time.sleep(60)
except KeyboardInterrupt as stop:
    print(f"stopped: {stop}", flush=True)
    sys.exit(130)
"""
DVC = """
import os, subprocess, sys
subprocess.run(["sh", "-c", f"{sys.executable} stage.py; exit $?"], env={**os.environ, "DVC_STAGE": "train@x"})
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "stage.py").write_text(STAGE, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("answer", [signal.SIG_DFL, signal.SIG_IGN], ids=["", "in the background"])
def test_sigterm_is_as_ctrl_c(tmp_path, environment, answer):
    """Also where Ctrl-C is ignored: a shell without job control starts its background jobs so."""
    before = signal.signal(signal.SIGINT, answer)
    try:
        stage = subprocess.Popen([sys.executable, "stage.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                                 text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with stage:
        assert stage.stdout is not None and stage.stdout.readline() == "begun\n"
        stage.terminate()
        assert stage.stdout.read() == "stopped: ended by SIGTERM\n"
    assert stage.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_dvc_that_started_it(tmp_path, environment, number):
    """DVC starts a stage by a shell, and of itself ends neither."""
    with subprocess.Popen([sys.executable, "-c", DVC], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                          text=True) as dvc:
        assert dvc.stdout is not None and dvc.stdout.readline() == "begun\n"
        below = psutil.Process(dvc.pid).children(recursive=True)
        dvc.send_signal(number)
        assert dvc.stdout.read() == "stopped: `dvc repro` has ended\n"
    assert psutil.wait_procs(below, timeout=10)[1] == []


def test_a_stage_that_was_started_by_hand_has_no_dvc_to_end_with(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert dvc_process() is None
