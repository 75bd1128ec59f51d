"""Footage: what `sample` writes (shards of small H.264 segments and an index) and every later step reads."""
