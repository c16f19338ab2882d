import itertools

import pytest
import torch
from grid import ACTIVATIONS, BASELINES

from saelite import checkpoints
from saelite.activation_functions import TopK
from saelite.initialisation import cov
from saelite.sae import SAE
from saelite.training import train


@pytest.mark.parametrize("activation,baseline", list(itertools.product(ACTIVATIONS, BASELINES)))
def test_a_saved_sae_comes_back_whole(activation, baseline, tmp_path):
    x = torch.randn(256, 10)
    sae = SAE(10, 40, ACTIVATIONS[activation](), BASELINES[baseline](), init=cov(40, x), seed=5)
    train(sae, [x] * 5, progress=False)
    sae.save(tmp_path / "sae", data={"source": "noise"})
    loaded = SAE.load(tmp_path / "sae")
    record = loaded.record
    assert torch.equal(loaded(x), sae(x)) and not loaded.training
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert loaded.settings() == sae.settings()
    assert record["data"] == {"source": "noise"}
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in sae.parameters()]
    assert loaded.W_enc.stride() == sae.W_enc.stride()


def test_nothing_is_overwritten(tmp_path):
    sae = SAE(4, 8, TopK(2))
    sae.save(tmp_path / "sae")
    with pytest.raises(FileExistsError, match="exists already"):
        sae.save(tmp_path / "sae")


DAMAGES = ["cut", "flip header", "flip weight", "no json", "bad json", "other format", "missing tensors"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_words(damage, tmp_path):
    folder = tmp_path / "sae"
    SAE(4, 8, TopK(2)).save(folder)
    tensors, record = folder / "sae.safetensors", folder / "sae.json"
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-10])
    elif damage == "flip header":
        tensors.write_bytes(b"\xff" + tensors.read_bytes()[1:])
    elif damage == "flip weight":
        data = bytearray(tensors.read_bytes())
        data[-5] ^= 1
        tensors.write_bytes(data)
    elif damage == "no json":
        record.unlink()
    elif damage == "bad json":
        record.write_text("{")
    elif damage == "other format":
        record.write_text(record.read_text().replace(checkpoints.FORMAT, "theirs-7"))
    elif damage == "missing tensors":
        tensors.unlink()
    with pytest.raises(ValueError, match=str(folder)):
        SAE.load(folder)
