"""What the processes that decode share: imported by the server that they are forked from (`rushes.footage.workers`)."""

import gc
import os

# As many processes as cores do the same: a thread more would only spin beside them.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
gc.disable()  # all of it stays

import rushes.footage.shards  # noqa: E402, F401

gc.freeze()  # a collection would write to, and so copy, the pages that the forked share
gc.enable()
