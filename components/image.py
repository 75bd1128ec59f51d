"""The image that every component runs in, without its tag: a profile and the code's digest give that.

`kfp.local` runs the components in this Python instead and never pulls it.
"""

IMAGE = "rushes/python"
