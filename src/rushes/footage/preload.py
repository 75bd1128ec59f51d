"""What the processes that decode share: imported by the server that they are forked from (`rushes.footage.workers`)."""

import ctypes
import gc
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h

# As many processes as cores do the same: a thread more would only spin beside them.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# Left alone, glibc comes to keep large buffers on the heap, whose holes then grow with every segment and every file.
if hasattr(ctypes.CDLL(None), "mallopt"):
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 17)
    ctypes.CDLL(None).mallopt(_TRIM_THRESHOLD, 1 << 20)
gc.disable()  # all of it stays

import rushes.footage.shards  # noqa: E402, F401

gc.freeze()  # a collection would write to, and so copy, the pages that the forked share
gc.enable()
