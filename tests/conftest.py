import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test sees the user's cache, or another test's."""
    monkeypatch.setenv("SAELITE_CACHE", str(tmp_path / "cache"))
