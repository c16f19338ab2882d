"""Make the checkpoints in this folder, with the libraries whose formats they are, and what these compute from them.

    python -m venv ENV && ENV/bin/pip install sae-lens==6.54.12 simple-parsing natsort einops nnsight schedulefree
    ENV/bin/pip install --no-deps dictionary-learning==0.1.0 eai-sparsify==1.3.3
    ENV/bin/python tests/foreign/make.py

where ENV is a folder outside this project, since these libraries bring a hundred packages of their own.

Each folder holds a checkpoint and expected.safetensors: activations `x`, and the library's own `code` and `x_hat`.
They are too small to be of any use, with weights at random, biases that are not zero and directions that are not of
unit norm.
"""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
D_IN, D_SAE, K = 6, 12, 3
METADATA = {"model_name": "gpt2", "hook_name": "blocks.4.hook_resid_pre", "dataset_path": "some/texts"}


def randomise(module):
    """Nothing at its default, so that no convention can be forgotten unseen."""
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            tensor.copy_(0.1 + 0.1 * torch.rand_like(tensor) if "threshold" in name else torch.randn_like(tensor) / 2)
    return module


def keep(name, library, encode, decode, x=None):
    x = torch.randn(50, D_IN) if x is None else x
    with torch.no_grad():
        code = encode(x)
        tensors = {"x": x, "code": code.contiguous(), "x_hat": decode(code).contiguous()}
        about = {"library": library, "version": version(library)}
        save_file(tensors, HERE / name / "expected.safetensors", metadata=about)


def fresh(name):
    shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / name).mkdir()
    return HERE / name


def saelens():
    from sae_lens import SAE
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    common = {"d_in": D_IN, "d_sae": D_SAE, "metadata": SAEMetadata(**METADATA)}
    for name, sae in {
        "saelens-standard": StandardSAE(StandardSAEConfig(**common)),
        "saelens-standard-no-b_dec": StandardSAE(StandardSAEConfig(**common, apply_b_dec_to_input=False)),
        "saelens-topk": TopKSAE(TopKSAEConfig(**common, k=K)),
        "saelens-topk-rescaled": TopKSAE(TopKSAEConfig(**common, k=K, rescale_acts_by_decoder_norm=True)),
        "saelens-jumprelu": JumpReLUSAE(JumpReLUSAEConfig(**common)),
    }.items():
        randomise(sae).save_model(fresh(name))
        read = SAE.load_from_disk(HERE / name)
        keep(name, "sae-lens", read.encode, read.decode)
    for name, made, config in (
        ("saelens-batchtopk", BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(**common, k=K)),
        (
            "saelens-matryoshka",
            MatryoshkaBatchTopKTrainingSAE,
            MatryoshkaBatchTopKTrainingSAEConfig(**common, k=K, matryoshka_widths=[4, 12]),
        ),
    ):
        sae = randomise(made(config))
        sae.topk_threshold.fill_(0.7)
        sae.save_inference_model(fresh(name))
        read = SAE.load_from_disk(HERE / name)
        keep(name, "sae-lens", read.encode, read.decode)

    # The settings as they stood before version 6, in one level; SAELens still reads them.
    for name, source, old in (
        ("saelens-5-standard", "saelens-standard", {"architecture": "standard", "activation_fn_str": "relu"}),
        ("saelens-5-topk", "saelens-topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}),
    ):
        shutil.copy(HERE / source / "sae_weights.safetensors", fresh(name))
        old |= {
            "d_in": D_IN, "d_sae": D_SAE, "dtype": "torch.float32", "device": "cpu", "model_name": "gpt2",
            "hook_point": METADATA["hook_name"], "dataset_path": "some/texts", "normalize_activations": "none",
            "apply_b_dec_to_input": True, "finetuning_scaling_factor": False, "sae_lens_training_version": "5.10.7",
        }  # fmt: skip
        (HERE / name / "cfg.json").write_text(json.dumps(old))
        read = SAE.load_from_disk(HERE / name)
        keep(name, "sae-lens", read.encode, read.decode)

    # Gemma Scope's weights as it publishes them; SAELens reads them from the hub alone, so its jumprelu computes.
    tensors = load_file(HERE / "saelens-jumprelu" / "sae_weights.safetensors")
    folder = fresh("gemma-scope") / "layer_12"
    folder.mkdir()
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=False))
    sae.load_state_dict(tensors)
    keep("gemma-scope/layer_12", "sae-lens", sae.encode, sae.decode)


def dictionary_learning():
    from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK
    from dictionary_learning.utils import load_dictionary

    for name, sae in {
        "dictionary_learning-standard": AutoEncoder(D_IN, D_SAE),
        "dictionary_learning-new": AutoEncoderNew(D_IN, D_SAE),
        "dictionary_learning-topk": AutoEncoderTopK(D_IN, D_SAE, K),
        "dictionary_learning-batchtopk": BatchTopKSAE(D_IN, D_SAE, K),
        "dictionary_learning-matryoshka": MatryoshkaBatchTopKSAE(D_IN, D_SAE, K, [4, 8]),
        "dictionary_learning-jumprelu": JumpReluAutoEncoder(D_IN, D_SAE),
    }.items():
        randomise(sae)
        if "threshold" in dict(sae.named_buffers()) and name != "dictionary_learning-topk":
            sae.threshold.fill_(0.7)
        folder = fresh(name)
        torch.save(sae.state_dict(), folder / "ae.pt")
        trainer = {
            "dict_class": type(sae).__name__, "k": K, "activation_dim": D_IN, "dict_size": D_SAE, "layer": 4,
            "lm_name": "gpt2", "submodule_name": "resid_post_layer_4",
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
        read, _ = load_dictionary(str(folder), "cpu")
        keep(name, "dictionary-learning", read.encode, read.decode)


def sparsify():
    from sparsify import SparseCoder, SparseCoderConfig

    sae = randomise(SparseCoder(D_IN, SparseCoderConfig(num_latents=D_SAE, k=K)))
    folder = fresh("sparsify") / "layers.4"
    sae.save_to_disk(folder)
    read = SparseCoder.load_from_disk(folder)

    def encode(x):
        out = read.encode(x)
        return torch.zeros(len(x), D_SAE).scatter(1, out.top_indices, out.top_acts)

    keep("sparsify/layers.4", "eai-sparsify", encode, lambda code: code @ read.W_dec + read.b_dec)


if __name__ == "__main__":
    torch.manual_seed(0)
    saelens()
    dictionary_learning()
    sparsify()
