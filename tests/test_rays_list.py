"""Ray keeps a list of a run's checkpoints, and refuses the run if a kill has cut the list short; ours needs no list."""

from pathlib import Path

import pytest

from pipeline.storage import place_of
from pipeline.training.ray_training import RAYS_LIST, _forget_rays_list

from ray.train import CheckpointConfig  # isort: skip
from ray.train.v2._internal.exceptions import CheckpointManagerInitializationError  # isort: skip
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager  # isort: skip
from ray.train.v2._internal.execution.storage import StorageContext  # isort: skip


@pytest.mark.parametrize("bytes_left", [0, 40])
def test_a_list_cut_short_by_a_kill_does_not_stop_the_run(tmp_path, bytes_left):
    storage, config = StorageContext(storage_path=str(tmp_path), experiment_dir_name="run"), CheckpointConfig()
    listed = Path(storage.checkpoint_manager_snapshot_path)
    assert listed.name == RAYS_LIST
    CheckpointManager(config, storage)._write_state_to_storage()
    listed.write_bytes(listed.read_bytes()[:bytes_left])
    with pytest.raises(CheckpointManagerInitializationError):
        CheckpointManager(config, storage)
    _forget_rays_list(place_of(listed.parent))
    CheckpointManager(config, storage)


def test_a_new_run_has_no_list(tmp_path):
    _forget_rays_list(place_of(tmp_path))
