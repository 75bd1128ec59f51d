"""Modules shared by the worker processes: imported by the server that forks them (`rushes.footage.workers`)."""

import ctypes
import gc
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h

# There is one process per core already: more threads would only spin.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# By default glibc starts to keep large buffers on the heap, whose holes then grow with every segment and file.
if hasattr(ctypes.CDLL(None), "mallopt"):
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 17)
    ctypes.CDLL(None).mallopt(_TRIM_THRESHOLD, 1 << 20)
gc.disable()  # nothing that is imported is ever freed

import rushes.footage.shards  # noqa: E402, F401

gc.freeze()  # a collection would write to the pages that forked processes share, and so copy them
gc.enable()
