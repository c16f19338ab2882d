import pytest


@pytest.fixture(scope="session")
def converted_models(tmp_path_factory):
    """One place for converted models: the embedded one takes half a minute to convert."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch, converted_models):
    """No test sees the user's cache, or what another test left; only converted models are shared."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "models").symlink_to(converted_models)
    monkeypatch.setenv("SAELITE_CACHE", str(cache))
