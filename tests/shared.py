"""Where the real models, vocabularies and texts are, and the mark that skips without them."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"needs the shared test data, not found at {SHARED}"
)
