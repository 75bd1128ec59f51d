"""Not tried on a cluster. Copies a folder to a URL: `python -m deploy.kind.upload FOLDER s3://bucket/prefix`."""

import sys
from pathlib import Path

import fsspec


def upload(folder: Path, url: str) -> int:
    """Copies all files but hidden ones under their own paths; returns how many."""
    files, root = fsspec.core.url_to_fs(url)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    for path in paths:
        files.put_file(str(path), f"{root}/{path.relative_to(folder).as_posix()}")
    return len(paths)


if __name__ == "__main__":
    sys.stdout.write(f"{upload(Path(sys.argv[1]), sys.argv[2])} files at {sys.argv[2]}\n")
