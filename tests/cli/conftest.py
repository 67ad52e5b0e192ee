import pytest


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Where the chat prompt keeps what was typed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "motet"
