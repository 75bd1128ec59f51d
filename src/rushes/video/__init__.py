"""Video files in, I420 frames out; I420 frames in, small H.264 out. No torch: Triton's Python backend imports this."""
