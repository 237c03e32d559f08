"""A profile: a trace that Perfetto opens, and a training that does not feel it."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import SPEC, LinearMethod, fresh_network, run

from pipeline.system.usage import peak_memory
from pipeline.training.profiling import ACTIVE, WAIT, WARM_UP, _write, profiler

CPU = torch.device("cpu")


def profiled(trace: Path | None, method: Any, **change: int) -> None:
    spec = replace(SPEC, warmup_steps=0, **change)
    with profiler(trace and str(trace), spec.steps, CPU) as step_done:
        run(method, spec, step_done=step_done)


def steps_in(trace: Path) -> list[int]:
    """The steps that the trace shows, as torch names them: counted from 0."""
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {event["name"] for event in events if event.get("ph") == "X"}
    assert any("addmm" in name or "mm" in name for name in names), "operators"
    return sorted(int(name.removeprefix("ProfilerStep#")) for name in names if name.startswith("ProfilerStep#"))


def test_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    plain, watched = fresh_network(), fresh_network()
    run(plain, replace(SPEC, warmup_steps=0))
    profiled(tmp_path / "new" / "net.json.gz", watched)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    assert steps_in(tmp_path / "new" / "net.json.gz") == list(range(WAIT + WARM_UP, WAIT + WARM_UP + ACTIVE))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["net.json.gz"]


@pytest.mark.parametrize(("steps", "shown"), [(6, [3, 4, 5]), (4, [1, 2, 3]), (2, [0, 1])])
def test_of_few_steps_it_shows_the_last(tmp_path: Path, steps: int, shown: list[int]) -> None:
    trace = tmp_path / "net.json.gz"
    profiled(trace, LinearMethod(), steps=steps)
    assert steps_in(trace) == shown


def test_a_run_without_a_step_left_has_no_trace(tmp_path: Path) -> None:
    with profiler(str(tmp_path / "net.json.gz"), 0, CPU):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_a_trace_nothing_is_written(tmp_path: Path) -> None:
    profiled(None, LinearMethod())
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_without_a_profile_that_cannot_be_written(tmp_path: Path, capfd) -> None:
    (tmp_path / "file").touch()
    profiled(tmp_path / "file" / "net.json.gz", LinearMethod())
    assert "net.json.gz: the profile is lost" in capfd.readouterr().err


def test_a_profile_that_is_lost_shows_no_credentials(tmp_path: Path, capfd) -> None:
    class Watched:
        def export_chrome_trace(self, path: str) -> None:
            Path(path).touch()

    _write("far://ann:secret@host/net.json.gz", Watched())  # type: ignore[arg-type]
    said = capfd.readouterr().err
    assert "far://host/net.json.gz: the profile is lost" in said and "secret" not in said


def test_a_run_that_fails_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        profiled(tmp_path / "net.json.gz", LinearMethod(break_at_call=3))


def test_peak_memory_is_that_of_this_process() -> None:
    before = peak_memory(CPU)["peak_rss_mib"]
    assert before is not None and 50 < before < 100_000
    block = torch.ones(int(before) * 2**20 // 4 + 60 * 2**18)  # more than it ever had
    after = peak_memory(CPU)
    assert after["peak_rss_mib"] > before + 30 and after["peak_gpu_mib"] is None
    del block
