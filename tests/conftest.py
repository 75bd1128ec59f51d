"""Fixtures that every test may use."""

from pathlib import Path

import pytest
from hypothesis import settings

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
