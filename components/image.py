"""The image of every component, without a tag: `pipelines.placement` sets image and tag from a profile.

`kfp.local` runs the components in this Python instead and never pulls it.
"""

IMAGE = "rushes/python"
