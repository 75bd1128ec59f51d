"""Fixtures that every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.s3 import S3, running

# Shared machines are slow at times: how long an example takes proves nothing.
settings.register_profile("rushes", deadline=None)
settings.load_profile("rushes")

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real videos, beside the checkout; a test that needs them skips where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real videos: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture
def s3_server(tmp_path: Path) -> Iterator[S3]:
    with running(tmp_path) as server:
        yield server
