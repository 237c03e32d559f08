"""In each process of the nodes and drivers of tests/chaos.py: which fsyncs there were, and a death in a checkpoint."""

import os
import sys
from pathlib import Path

if "CHAOS_DISK" in os.environ:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import kill_points
    import power_loss

    del sys.path[0]
    disk = Path(os.environ["CHAOS_DISK"])
    power_loss.watch(disk / "synced", disk)
    kill_points.die_in_a_checkpoint(disk / "armed")
