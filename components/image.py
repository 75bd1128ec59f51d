"""The image that every component runs in; `kfp.local` runs them in this Python instead and never pulls it."""

IMAGE = "rushes/python:0.1.0"
