"""A random language model whose tokens are words, and texts for it: small enough for any test."""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from saelite.data.language_models import LanguageModel

WORDS = [f"w{i}" for i in range(60)]


def tiny_model(bos: bool = False) -> LanguageModel:
    """A random Llama whose tokens are words."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<s>", *WORDS])}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=61,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )  # fmt: skip
    ).eval()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
    return LanguageModel(model, fast, "tiny", torch.device("cpu"), torch.float32, n_layers=3, d_model=16)


def tiny_texts(count: int = 120) -> list[str]:
    """Documents of 1 to 40 words; each starts with words that tell it from the others."""
    rng = np.random.default_rng(0)
    return [
        " ".join([WORDS[i // 60], WORDS[i % 60], *rng.choice(WORDS, rng.integers(0, 39))][: rng.integers(1, 41)])
        for i in range(count)
    ]
