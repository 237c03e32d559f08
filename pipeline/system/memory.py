"""Keep large blocks of memory in the process between steps, instead of giving them back to the system.

By default every activation of 32 MB and more is fresh pages from the system, zeroed and faulted in one by one at each
step. That is half a million pages for a step of Conv-4 on 160 images of 84 x 84, which trains 1.7 times as fast without
them (benchmarks/training_loop.py measures it).
"""

# In the environment of a process before it starts, for glibc, and without effect elsewhere. One arena, since Ray trains
# in a thread (one worker on this machine does not): a thread's own arena asks the system for whatever is larger than
# 64 MB, whatever the settings are. No mapped blocks instead of a threshold for them: older versions of glibc ignore one
# above 32 MB.
KEEP_FREED_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0",
                     "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}
