"""A plan's figures are those of models and SAEs that are really made, and what is known of the paper's models."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GPTNeoXConfig

from saelite.__main__ import main
from saelite.activation_functions import TopK
from saelite.checking import plan_a_run as planning
from saelite.checking.plan_a_run import plan, reading_flop, sae_needs
from saelite.data.harvest import harvest
from saelite.data.language_models import layers, read_layer
from saelite.grid import papers_grid
from saelite.sae import SAE
from saelite.training import _Run, train

PAPER = Path(__file__).resolve().parents[1] / "book" / "params" / "paper.yaml"
SMALL = {
    "vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    tiny_model().model.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def of_paper(entry="09_reconstruction", **changed):
    known = planning.plan.__kwdefaults__
    settings = yaml.safe_load(PAPER.read_text())[entry]
    return plan(**{name: value for name, value in settings.items() if name in known} | {"tflops": 100.0} | changed)


def test_a_folders_model_has_the_parameters_and_bytes_that_it_has(folder):
    needs = plan(model=folder, layer=1, l0=4, tokens=2000, batch_size=64, dtype="float32", tflops=1.0)
    model = tiny_model().model
    assert needs["model_parameters"] == sum(p.numel() for p in model.parameters())
    assert needs["model_bytes"] == sum(p.nbytes for p in model.parameters())
    assert needs["download_bytes"] == 0 and needs["model_source"] == "its folder"
    assert (needs["d_in"], needs["d_sae"], needs["trained_on"], needs["steps"]) == (16, 128, 1800, 28)
    assert plan(model=folder, layer=1, l0=4, dtype="bfloat16", tflops=1.0)["model_bytes"] == needs["model_bytes"] // 2


def test_an_sae_and_its_optimiser_take_what_they_take():
    sae = SAE(16, 128, TopK(4))
    needs = sae_needs(16, 128)
    assert needs["sae_parameters"] == sum(p.numel() for p in sae.parameters())
    held = sum(t.nbytes for t in sae.state_dict().values())
    assert needs["sae_bytes"] == pytest.approx(held, abs=64)  # a few scalars
    run = _Run(sae, lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    sae.calibrate(x := torch.randn(64, 16))
    run.step(x, 0)
    moments = [t for state in run.optimiser.state.values() for t in state.values() if t.ndim]
    assert needs["optimiser_bytes"] == sum(t.nbytes for t in moments)
    assert needs["gradient_bytes"] == sum(p.nbytes for p in sae.parameters())


def test_the_store_and_the_grid_take_what_they_take(tmp_path, folder):
    from tiny import tiny_texts

    needs = plan(model=folder, layer=1, l0=4, tokens=1000, tflops=1.0, architectures=["TopK"])
    store = harvest(tiny_model(), tiny_texts(), layer=1, tokens=1000, context=16, progress=False, folder=tmp_path)
    assert needs["store_bytes"] == (store.folder / "activations.bin").stat().st_size
    assert needs["saes"] == len(papers_grid([TopK(4)], torch.randn(50, 16), d_sae=128))


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=50, n_embd=64, n_layer=3, n_head=4, n_positions=64),
        GPTNeoXConfig(**SMALL),
        Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=32),
    ],
    ids=lambda config: config.model_type,
)
def test_operations_of_reading_are_those_that_torch_counts(config):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    lm = tiny_model().__class__(model, None, "tiny", torch.device("cpu"), torch.float32, 3, 64)
    ids = torch.ones(2, 32, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        read_layer(lm, ids, 1)
    planned = reading_flop(layers(model)[:2], config.get_text_config(), 32) * ids.numel()
    assert planned == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_operations_of_training_are_at_least_those_of_the_encoders_product():
    sae, x = SAE(64, 512, TopK(4)), torch.randn(256, 64)
    train(sae, [x], progress=False)  # calibrates, and finds out which products are fast here
    with FlopCounterMode(display=False) as counter:
        train(sae, [x] * 30, progress=False)
    products = 2 * 64 * 512 * 256 * 30
    assert products <= counter.get_total_flops() < 1.1 * products  # torch counts no sums of rows
    assert planning.training_flop(64, 512, 4) * 256 * 30 == pytest.approx(products, rel=0.05)


def test_the_papers_setting_is_planned_with_no_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    needs = of_paper()
    assert needs["model_parameters"] == 2_614_341_888 and needs["d_sae"] == 73_728  # as the hub and the paper say
    assert needs["trained_on"] == 500_000_000 and needs["store_if_kept_bytes"] == 2304 * 10**9
    assert 10e9 < needs["download_bytes"] < 11e9 and 10e9 < needs["device_bytes"] < 24e9
    llama = of_paper(model="meta-llama/Llama-3.1-8B", layer=16)
    assert llama["model_parameters"] == 8_030_261_248 and llama["d_sae"] == 131_072
    # half of the blocks of eight billion parameters, two operations each, for ten SAEs
    assert 7e9 * 5e8 * 10 < llama["reading_flop"] < 9e9 * 5e8 * 10
    assert of_paper(tflops=50.0)["seconds"] == pytest.approx(2 * needs["seconds"])
    words = "\n".join(planning.in_words(needs))
    assert "2,614,341,888 parameters" in words and "2.3 TB" in words and "100 TFLOP/s (as given)" in words


@pytest.mark.parametrize("entry", yaml.safe_load(PAPER.read_text()))
def test_every_entry_of_the_papers_setting_can_be_planned(entry):
    assert of_paper(entry)["model"] == "google/gemma-2-2b"


def test_speed_is_measured_and_labelled_so(folder):
    needs = plan(model=folder, layer=1, l0=4)
    assert needs["tflops"] > 0 and needs["tflops_measured"]
    assert "measured now" in "\n".join(planning.in_words(needs))


def test_the_command_plans(capsys, folder):
    assert main(["plan", "--params", str(PAPER), "14_scorecard", "--layer", "19", "--tflops", "100"]) == 0
    assert "73,728 latents" in capsys.readouterr().out
    assert main(["plan", "--model", folder, "--layer", "1", "--l0", "4", "--architectures", "TopK"]) == 0
    assert "To train: 5 SAEs of 128 latents" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--layer", "99"], "layer=99 is not in"),
        (["--layer", "1", "--site", "heads"], "site='heads'"),
        (["--layer", "1", "--l0", "400"], "l0=400 active latents are more than the 128"),
        (["--layer", "1", "--tokens", "0"], "tokens=0 must be a whole number of 1 or more"),
        (["--layer", "1", "--tflops", "0"], "tflops=0.0"),
        (["--layer", "1", "--dtype", "int8"], "not a floating type"),
        (["--params", str(PAPER), "no_such"], "no entry 'no_such'"),
        (["--params", "no/such.yaml", "x"], "no/such.yaml"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, folder, arguments, message):
    capsys.readouterr()  # what making the folder printed
    assert main(["plan", "--model", folder, *arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and message in errors and errors.count("\n") == 1


def test_an_unknown_model_names_those_that_are_known(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="'no/such': give google/gemma-2-2b, meta-llama/Llama-3.1-8B"):
        plan(model="no/such")


def test_kept_configurations_say_where_they_are_from():
    kept = json.loads(Path(planning.__file__).with_name("model_configs.json").read_text())
    assert all("config.json of" in one["source"] for one in kept.values())


@pytest.mark.parametrize(
    "text, message",
    [
        ("one: [", "is no YAML: while parsing"),
        ("one: 3", "no entry 'one' with settings in it"),
        ("one: {tokens: 4e5}", "tokens='4e5' must be int, such as 400000"),
        ("one: {tflops: fast}", "tflops='fast' must be"),
        ("one: {architectures: TopK}", "architectures='TopK' must be list"),
    ],
)
def test_a_file_of_parameters_that_does_not_fit_is_refused_in_one_line(text, message, tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(text)
    assert main(["plan", "--params", str(tmp_path / "params.yaml"), "one"]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
