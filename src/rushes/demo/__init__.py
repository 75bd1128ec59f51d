"""The demo's own videos: real mp4 files of synthetic actions."""
