"""Checkpoints that the other libraries wrote (tests/foreign/make.py) compute here what they compute there."""

import io
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from grid import ACTIVATIONS
from safetensors.torch import load_file, save_file

from saelite import formats
from saelite.activation_functions import BatchTopK, JumpReLU, Matryoshka, ReLU, TopK
from saelite.sae import SAE
from saelite.training import train

FOREIGN = Path(__file__).parent / "foreign"
FOLDERS = sorted(path.parent for path in FOREIGN.rglob("expected.safetensors"))


def closest(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(FOREIGN).as_posix())
def test_encode_and_decode_are_the_librarys_own(folder):
    sae, about = formats.read(folder)
    expected = load_file(folder / "expected.safetensors")
    assert 0 < (expected["code"] > 0).float().mean() < 0.9
    with torch.no_grad():
        assert closest(sae.encode(expected["x"]), expected["code"]) < 1e-5
        assert closest(sae(expected["x"]), expected["x_hat"]) < 1e-5
    assert about["format"].lower().replace(" ", "-") in folder.as_posix()


def test_what_is_read_says_what_it_is():
    kinds = {
        "saelens-standard": ReLU, "saelens-topk": TopK, "saelens-jumprelu": JumpReLU, "saelens-batchtopk": JumpReLU,
        "dictionary_learning-batchtopk": BatchTopK, "dictionary_learning-matryoshka": Matryoshka,
    }  # fmt: skip
    for name, kind in kinds.items():
        assert type(formats.read(FOREIGN / name)[0].activation) is kind
    assert formats.read(FOREIGN / "dictionary_learning-matryoshka")[0].activation.groups == [(0, 4), (4, 12)]
    for name in ("saelens-topk", "saelens-5-topk"):
        about = formats.read(FOREIGN / name)[1]
        assert (about["model"], about["texts"], about["scale"]) == ("gpt2", "some/texts", "none")
        assert about["layer"] == 3  # what block 4 reads is what block 3 gives
    assert formats.read(FOREIGN / "dictionary_learning-topk")[1]["layer"] == 4
    assert formats.read(FOREIGN / "sparsify" / "layers.4")[1]["layer"] == 4
    assert formats.read(FOREIGN / "gemma-scope" / "layer_12" / "params.npz")[1]["layer"] == 12


@pytest.mark.parametrize("name", ["ReLU", "TopK", "BatchTopK", "RelativeBatchTopK", "Matryoshka", "JumpReLU"])
def test_saelens_gets_what_it_reads(name, tmp_path):
    x = 3 + 2 * torch.randn(400, 10)
    sae = SAE(10, 40, ACTIVATIONS[name]())
    train(sae, [x] * 5, progress=False)
    if name == "RelativeBatchTopK":
        with pytest.raises(ValueError, match="no architecture in which RelativeBatchTopK"):
            formats.write_saelens(sae, tmp_path / "sae")
        return
    formats.write_saelens(sae, tmp_path / "sae", model_name="tiny", hook_name="blocks.2.hook_resid_post")
    again, about = formats.read(tmp_path / "sae")
    assert (about["model"], about["layer"]) == ("tiny", 2)
    with torch.no_grad():
        assert closest(again(x), sae(x)) < 1e-5
    with pytest.raises(FileExistsError):
        formats.write_saelens(sae, tmp_path / "sae")


@pytest.mark.parametrize("name", ["ReLU", "TopK", "JumpReLU", "BatchTopK", "Matryoshka"])
def test_the_real_saelens_reads_it(name, tmp_path):
    sae_lens = pytest.importorskip("sae_lens", reason="its 104 packages are not among this project's")
    x = 3 + 2 * torch.randn(400, 10)
    sae = SAE(10, 40, ACTIVATIONS[name]())
    train(sae, [x] * 5, progress=False)
    formats.write_saelens(sae, tmp_path / "sae", model_name="tiny")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    with torch.no_grad():
        assert closest(theirs.encode(x) * 1.0, sae.encode(x)) < 1e-5
        assert closest(theirs(x), sae(x)) < 1e-5


def test_our_own_is_read_too(tmp_path):
    sae = SAE(4, 8, TopK(2))
    sae.save(tmp_path / "sae", data={"model": "tiny", "layer": 3})
    again, about = formats.read(tmp_path / "sae" / "sae.safetensors")
    assert torch.equal(again.W_enc, sae.W_enc) and (about["model"], about["layer"]) == ("tiny", 3)


# What is refused


@pytest.mark.parametrize(
    "hook, place",
    [
        ("blocks.5.hook_resid_post", "residual"),
        ("blocks.5.hook_resid_pre", "residual"),
        ("resid_post_layer_8", "residual"),
        ("layers.4", "residual"),
        ("layer_12", "residual"),
        ("transformer.h.3", "residual"),
        ("blocks.5.hook_mlp_out", "mlp"),
        ("layers.4.mlp", "mlp"),
        ("transformer.h.3.mlp", "mlp"),
        ("layer_12/mlp_out", "mlp"),
        ("blocks.5.hook_attn_out", "attention"),
        ("model.layers.4.self_attn", "attention"),
        ("transformer.h.3.attn", "attention"),
        ("gpt_neox.layers.3.attention", "attention"),
        ("blocks.5.attn.hook_z", "other"),
        ("blocks.5.hook_resid_mid", "other"),
        ("blocks.5.mlp.hook_post", "other"),
        ("blocks.5.ln2.hook_normalized", "other"),
        ("", None),
        (None, None),
    ],
)
def test_a_hooks_name_tells_the_hook_point(hook, place):
    assert formats.place_of(hook) == place


def test_the_repository_tells_gemma_scopes_hook_point(tmp_path):
    for kind, place in (("res", "residual"), ("mlp", "mlp"), ("att", "other")):
        folder = tmp_path / f"models--google--gemma-scope-2b-pt-{kind}" / "snapshots" / "0" / "layer_12"
        shutil.copytree(FOREIGN / "gemma-scope" / "layer_12", folder)
        about = formats.read(folder)[1]
        assert about["layer"] == 12 and formats.place_of(about["site"]) == place


def copy_of(name, tmp_path):
    return Path(shutil.copytree(FOREIGN / name, tmp_path / Path(name).name))


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "name,changes,message",
    [
        ("saelens-standard", {"architecture": "gated"}, "architecture 'gated'"),
        ("saelens-5-standard", {"activation_fn_str": "tanh-relu"}, "tanh-relu"),
        ("saelens-standard", {"normalize_activations": "layer_norm"}, "normalize_activations='layer_norm'"),
        ("saelens-standard", {"reshape_activations": "hook_z"}, "reshape_activations='hook_z'"),
        ("saelens-5-standard", {"hook_point": "blocks.3.attn.hook_z"}, "hook_z"),
        ("saelens-standard", {"metadata": {"hook_name": "blocks.3.attn.hook_z"}}, "hook_z"),
        ("saelens-5-standard", {"finetuning_scaling_factor": True}, "finetuning_scaling_factor=True"),
        ("saelens-topk", {"k": 2.5}, "active latents, not 2.5"),
        ("saelens-topk", {"k": 100}, "cannot keep 100 of 12"),
        ("saelens-standard", {"d_in": 7}, "states d_in=7, yet its weights have 6"),
        ("sparsify/layers.4", {"transcode": True}, "transcode=True"),
        ("sparsify/layers.4", {"skip_connection": True}, "skip_connection=True"),
        ("sparsify/layers.4", {"activation": "groupmax"}, "activation='groupmax'"),
        ("dictionary_learning-topk", {"trainer": {"dict_class": "GatedAutoEncoder"}}, "'GatedAutoEncoder'"),
    ],
)
def test_what_cannot_be_honoured_is_named(name, changes, message, tmp_path):
    folder = copy_of(name, tmp_path)
    rewrite(next(path for path in (folder / "cfg.json", folder / "config.json") if path.exists()), **changes)
    with pytest.raises(ValueError, match=message):
        formats.read(folder)


@pytest.mark.parametrize(
    "name", ["saelens-jumprelu", "sparsify/layers.4", "dictionary_learning-topk", "gemma-scope/layer_12"]
)
@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped header"])
def test_a_damaged_file_is_refused(name, damage, tmp_path):
    folder = copy_of(name, tmp_path)
    weights = next(path for path in folder.iterdir() if path.suffix in (".pt", ".npz") or path.name.startswith("sae"))
    whole = weights.read_bytes()
    weights.write_bytes(
        {"cut": whole[:-200], "emptied": b"", "flipped header": bytes([whole[0] ^ 255]) + whole[1:]}[damage]
    )
    with pytest.raises(ValueError, match=f"{folder}.*damaged"):
        formats.read(folder)


def test_settings_that_are_no_settings_are_refused(tmp_path):
    folder = copy_of("saelens-topk", tmp_path)
    for text in ("{", "[1]", "\udcff"):
        (folder / "cfg.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ValueError, match="damaged"):
            formats.read(folder)


@pytest.mark.parametrize("name", ["W_enc", "b_dec", "threshold"])
def test_nan_is_refused(name, tmp_path):
    folder = copy_of("saelens-jumprelu", tmp_path)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(ValueError, match="NaN"):
        formats.read(folder)


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk"])
def test_a_missing_threshold_is_refused(architecture, tmp_path):
    folder = copy_of("saelens-jumprelu", tmp_path)
    rewrite(folder / "cfg.json", architecture=architecture, k=3)
    tensors = load_file(folder / "sae_weights.safetensors")
    del tensors["threshold"]
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(ValueError, match="damaged .*KeyError: 'threshold'"):
        formats.read(folder)


def test_wrong_shapes_are_refused(tmp_path):
    folder = copy_of("saelens-standard", tmp_path)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["W_dec"] = tensors["W_dec"].T.contiguous()
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(ValueError, match=r"W_dec has shape \(6, 12\), not \(12, 6\)"):
        formats.read(folder)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["dictionary_learning-topk", "gemma-scope/layer_12"])
def test_a_pickle_with_code_in_it_does_not_run(name, tmp_path):
    folder, mark = copy_of(name, tmp_path), str(tmp_path / "ran")
    if name.startswith("gemma"):
        np.savez(folder / "params.npz", W_enc=np.array([Harmful(mark)], dtype=object))
    else:
        for made in (torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value))):
            made({"encoder.weight": Harmful(mark)}, folder / "ae.pt")
            with pytest.raises(ValueError, match="damaged"):
                formats.read(folder)
    with pytest.raises(ValueError, match="damaged"):
        formats.read(folder)
    assert not Path(mark).exists()
    pickle.load(io.BytesIO(pickle.dumps(Harmful(mark))))
    assert Path(mark).exists()  # it would have run


def test_an_empty_folder_says_what_would_be_read(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        ValueError, match=r"no checkpoint in a format that is known here \(saelite, .*it holds notes.txt"
    ):
        formats.read(tmp_path)


@pytest.mark.parametrize(
    "source", ["nowhere", "/no/such/folder", "../up/here", "owner/name/../../etc", "owner/../name"]
)
def test_a_path_that_leads_nowhere_or_out_is_refused(source):
    with pytest.raises(ValueError, match="There is no checkpoint at"):
        formats.read(source)


@pytest.mark.parametrize("source", ["owner/name", "owner/name/layer_3/width", "owner/bad name?"])
def test_without_a_network_the_hub_is_named(source, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"owner.*cannot be fetched from the Hugging Face hub"):
        formats.read(source)


def test_a_folder_inside_a_repository_is_fetched_alone(tmp_path, monkeypatch):
    def fetch(repository, allow_patterns):
        assert repository == "owner/name" and allow_patterns[0] == "layers/one/*"
        shutil.copytree(FOREIGN / "saelens-topk", tmp_path / "layers" / "one", dirs_exist_ok=True)
        return str(tmp_path)

    monkeypatch.setattr(formats, "snapshot_download", fetch)
    assert formats.read("owner/name/layers/one")[1]["architecture"] == "topk"
    with pytest.raises(ValueError, match="holds no layers/two"):
        monkeypatch.setattr(formats, "snapshot_download", lambda *_, **__: str(tmp_path))
        formats.read("owner/name/layers/two")
