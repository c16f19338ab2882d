"""What a researcher types first: ten lines on their own activations, and the ways in which these used to go wrong."""

import doctest
import importlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, TensorDataset

import saelite as sl
from saelite.reuse import train_or_load
from saelite.synthetic import constant_probabilities

WORLD = sl.FeatureWorld(constant_probabilities(60, 4), d_in=16)
X = WORLD.batches(6000, 1)[0]
QUICK = {"batch_size": 100, "progress": False}


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    path = tmp_path_factory.mktemp("acts") / "acts.npy"
    np.save(path, X.numpy().astype(np.float16))
    return np.load(path, mmap_mode="r")


@pytest.fixture(scope="module")
def result(acts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sl.compare(acts, "BatchTopK", l0=4, expansion=4, epochs=10, seeds=2, **QUICK)


def test_importing_is_free_and_every_name_is_a_public_object_with_an_example_that_runs():
    heavy = "import sys, saelite; print([name for name in ('torch', 'numpy', 'pandas') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout == "[]\n"
    for name in sl.__all__:
        assert getattr(sl, name).__module__.startswith("saelite."), name
    with pytest.raises(AttributeError, match="no attribute 'comparer'; it has .*compare"):
        _ = sl.comparer


@pytest.mark.parametrize("module", sorted({f"saelite.{place}" for place in sl._PLACES.values()}))
def test_examples_run(module):
    torch.manual_seed(0)
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_compare_says_all_of_each_sae_and_seed(result):
    table = result.table
    assert table.groupby("baseline", sort=False)["seed"].apply(list).to_dict() == {
        name: [0, 1]
        for name in ("fully trained", "Frozen Decoder", "Frozen Decoder (cov)", "Soft-Frozen Decoder", "Frozen Encoder")
    }
    assert (table["low"] < table["explained_variance"]).all() and (table["explained_variance"] < table["high"]).all()
    trained = table[table["baseline"] == "fully trained"].set_index("seed")
    for row in table[table["baseline"] != "fully trained"].itertuples():
        best = trained.loc[row.seed]
        assert row.difference == pytest.approx(row.explained_variance - best["explained_variance"])
        assert row.margin == pytest.approx(0.1 * (best["explained_variance"] - row.floor))
    frozen = table[table["baseline"] == "Frozen Decoder"]
    assert (frozen["floor"] < frozen["explained_variance"]).all() and set(frozen["verdict"]) == {"worse"}
    assert result.plot().axes and "fully trained" in repr(result)


def test_explained_variance_of_the_table_is_that_of_plain_numpy(result, acts):
    x = np.asarray(acts[-600:], dtype=np.float64)
    sae = result.saes["Frozen Encoder"][1]
    x_hat = sae(torch.from_numpy(x).float()).detach().double().numpy()
    expected = 1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    row = result.table.set_index(["baseline", "seed"]).loc["Frozen Encoder", 1]
    assert row["explained_variance"] == pytest.approx(expected, abs=1e-6)


def test_an_sae_is_saved_loaded_and_checked_without_a_language_model(result, acts, tmp_path):
    mine = result.saes["fully trained"][0]
    mine.save(tmp_path / "my_sae")
    again = sl.load(tmp_path / "my_sae")
    assert repr(again) == repr(mine) and torch.equal(again(X), mine(X))
    with pytest.warns(UserWarning) as said:
        found = sl.check(again, activations=acts, epochs=1, **QUICK)
    assert any("trained too little" in str(one.message).lower() for one in said)
    assert set(found.table["verdict"]) == {"the reference", "trained too little", "rule never bound"}
    paths = found.save(tmp_path / "report")
    assert all(path.is_file() for path in paths) and {path.suffix for path in paths} >= {".html", ".json"}
    text = (tmp_path / "report" / "report.json").read_text(encoding="utf-8")
    for part in ("digest", "epochs", "torch", "lr", "seeds"):  # all that would reproduce it
        assert f'"{part}"' in text, part


def test_another_width_is_refused_before_training():
    with pytest.raises(ValueError, match="reads activations of width 8; these have width 16"):
        sl.check(sl.SAE(8, 32, "TopK", l0=2), activations=X, **QUICK)


def test_two_tensors_under_the_same_settings_give_two_saes():
    weights = []
    for x in (X, X.flip(0) * 2 + 1, X):
        sae = sl.SAE(16, 32, "TopK", l0=4)
        train_or_load(sae, x, **QUICK)
        weights.append(sae.W_dec.detach())
    assert not torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])


def test_no_start_is_the_dictionary_that_anyone_draws_for_a_toy():
    for seed in range(3):
        toy = normalize(torch.randn(64, 16, generator=torch.Generator().manual_seed(seed)), dim=1)
        torch.manual_seed(seed)
        for drawn in (toy, normalize(torch.randn(64, 16), dim=1)):
            starts = sl.iso(64, 16, seed), sl.cov(64, torch.randn(500, 16), seed)
            for start in starts:
                assert (start @ drawn.T).abs().max() < 0.99


def test_all_ways_to_give_the_same_data_train_the_same_sae(tmp_path):
    x = X[:1000].half().float()  # what half precision holds, so that every type holds the same
    np.save(tmp_path / "x.npy", x.numpy())
    ways = [x, x.numpy(), x.double(), x.half(), x.reshape(10, 100, 16), np.load(tmp_path / "x.npy", mmap_mode="r")]
    trained = []
    for way in ways:
        sae = sl.SAE(16, 32, "TopK", l0=4)
        sl.train(sae, way, **QUICK)
        trained.append(sae.W_dec.detach())
    assert all(torch.equal(one, trained[0]) for one in trained)
    in_batches = []
    for way in (list(x.split(100)), DataLoader(TensorDataset(x), batch_size=100), [b.numpy() for b in x.split(100)]):
        sae = sl.SAE(16, 32, "TopK", l0=4)
        sl.train(sae, way, progress=False)
        in_batches.append(sae.W_dec.detach())
    assert all(torch.equal(one, in_batches[0]) for one in in_batches)
    for way in (ways[1], DataLoader(TensorDataset(x), batch_size=100), list(x.split(100))):
        scores = sl.evaluate(sae, way)
        assert scores.explained_variance == pytest.approx(sl.evaluate(sae, x).explained_variance, abs=1e-6)


def test_leading_dimensions_and_types_pass_through():
    sae = sl.SAE(16, 32, "TopK", l0=4)
    x = X[:12]
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        assert sae(x.to(kind)).dtype == torch.float32
    assert torch.equal(sae.encode(x.reshape(3, 2, 2, 16)), sae.encode(x).reshape(3, 2, 2, 32))
    assert sae(x[0]).shape == (16,)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: sl.compare([1.0, 2.0], l0=4), "Batch 0 is a float, not a tensor"),
        (lambda: sl.compare("acts.npy", l0=4), "not as str; open the file first"),
        (lambda: sl.compare(X.long(), l0=4), "floating-point numbers; these are torch.int64"),
        (lambda: sl.compare(X, "batchtopk", l0=4), "no activation function 'batchtopk'; .*did you mean BatchTopK"),
        (lambda: sl.compare(X, "TopK"), "How many latents are active"),
        (lambda: sl.compare(X, sl.TopK(4), l0=5), "give one of the two"),
        (lambda: sl.compare(X, l0=4, baselines=["Frozen"]), "no baseline 'Frozen'; choose from"),
        (lambda: sl.compare(X, l0=4, lr="1e-3"), "lr='1e-3' must be a finite number"),
        (lambda: sl.compare(X, l0=4, groups=[1, 2]), "groups holds 2 numbers for 6000"),
        (lambda: sl.compare(X[:50], l0=4), "too few for one batch of 1,024"),
        (lambda: sl.compare(X, l0=4, expansion=0.1), "cannot keep 4 of 2 latents"),
        (lambda: sl.SAE(16, 32, "TopK", object(), l0=4), "no baseline <object"),
        (lambda: sl.SAE(16, 32, "TopK", l0=4, init="cov"), "pass them as sample="),
        (lambda: sl.SAE(16, 32, "TopK", l0=4)(X.numpy()), "reads tensors of a floating type; it was given ndarray"),
        (lambda: sl.train(sl.SAE(16, 32, "TopK", l0=4), X, lr="1e-3"), "lr='1e-3' must be a number"),
        (lambda: sl.train(sl.SAE(16, 32, "TopK", l0=4), [X], epochs=2), "batches are passed over once"),
        (lambda: sl.train(sl.SAE(16, 32, "TopK", l0=4), [(X, X)]), "Batch 0 is a tuple of 2"),
        (lambda: train_or_load(sl.SAE(16, 32, "TopK", l0=4), iter([X])), "give the activations themselves"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence_before_anything_is_trained(ask, said, monkeypatch):
    monkeypatch.setattr("saelite.training._Run.step", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match=said) as caught:
        ask()
    assert "\n" not in str(caught.value)


OWN = """
import sys
import numpy as np
import torch
import saelite as sl

class SignedTopK(sl.TopK):
    def forward(self, pre, norms):
        top = pre.abs().topk(self.k, dim=1).indices
        return torch.zeros_like(pre).scatter(1, top, pre.gather(1, top))

    def select(self, pre):
        dense = pre.dense()
        top = dense.abs().topk(self.k, dim=1).indices.sort(dim=1).values
        rows = torch.arange(len(top)).repeat_interleave(self.k)
        from saelite.kernels.sparse import Support
        return Support(rows, top.flatten(), dense.shape), dense.gather(1, top).flatten()

class Thawing(sl.Baseline):
    name = "Thawing Decoder"
    until = UNTIL
    def constrain(self, sae, step):
        if step < self.until:
            sae.W_dec.data.copy_(sae.W_dec_start)

x = torch.from_numpy(np.load(sys.argv[1])).float()
result = sl.compare(x, SignedTopK, l0=3, expansion=4, baselines=[Thawing, "FrozenDecoder"], batch_size=100, epochs=4,
                    progress=False)
row = result.table.set_index("baseline").loc["Thawing Decoder"]
print(row["l0"], row["explained_variance"], result.saes["Thawing Decoder"][0].cosine_to_start().median().item())
"""


def test_classes_of_ones_own_work_on_the_first_and_on_the_second_run_and_are_known_by_their_source(acts, tmp_path):
    script, said = tmp_path / "own.py", []
    for until in ("50", "50", "1000"):
        script.write_text(OWN.replace("UNTIL", until), encoding="utf-8")
        run = subprocess.run([sys.executable, script, acts.filename], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        said.append([float(number) for number in run.stdout.split()])
    first, second, other = said
    assert first == second != other
    assert first[0] == 3  # codes below zero count, too
    assert first[2] < 0.999 and other[2] == pytest.approx(1)  # told the step, it thaws or does not


def test_a_rule_that_never_bound_and_an_l0_off_its_target_are_said(acts):
    with pytest.warns(UserWarning) as said:
        found = sl.compare(
            acts, "TopK", l0=4, expansion=4, epochs=5, baselines=[sl.SoftFrozenDecoder(0.0)], **QUICK
        )
    assert any("never bound" in str(one.message) for one in said)
    assert found.table.set_index("baseline").loc["Soft-Frozen Decoder", "verdict"] == "rule never bound"
