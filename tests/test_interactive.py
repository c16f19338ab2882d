import json

import numpy as np
import pytest
from bs4 import BeautifulSoup

from saelite.interactive import threshold_slider
from saelite.metrics import best_cosines, recovery
from saelite.synthetic import FeatureWorld, constant_probabilities


def test_the_slider_knows_the_recovery_at_every_threshold():
    generator = np.random.default_rng(0)
    best = {"a <b>": generator.random(50), "none": np.zeros(50)}
    soup = BeautifulSoup(threshold_slider(best, 0.8).data, "html.parser")
    shares = json.loads(soup.find("script", type="application/json").string)
    for step in (0, 37, 80, 100):
        assert shares[0][step] == pytest.approx((best["a <b>"] > step / 100).mean())
    assert [cell.get_text() for cell in soup.find_all("th", scope="row")] == ["a <b>", "none"]
    assert soup.find_all("td")[0].get_text() == f"{(best['a <b>'] > 0.8).mean():.2%}"
    assert soup.input["value"] == "80"


def test_it_counts_as_the_tables_do():
    world = FeatureWorld(constant_probabilities(30, 3), 10, seed=0)
    directions = world.features + 0.2
    soup = BeautifulSoup(threshold_slider({"x": best_cosines(world.features, directions)}, 0.8).data, "html.parser")
    shares = json.loads(soup.find("script", type="application/json").string)
    assert shares[0][80] == pytest.approx(recovery(world.features, directions, 0.8)["recovered"], abs=1e-5)


def test_a_threshold_that_is_no_cosine_is_refused():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        threshold_slider({"x": [0.1]}, 1.2)
