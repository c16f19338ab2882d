"""A random language model, prompts about made-up entities, and what it answers."""

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from saelite.data.language_models import LanguageModel
from saelite.evaluations.facts import Facts

WORDS = ["[UNK]", *":.,", *(f"w{i}" for i in range(56))]
PROMPTS = {"colour": "w1: w2. {city}, w3:", "shape": "w4. {city} w5 w6:", "size": "w7 {city}."}
ENTITIES = [f"w{i}" for i in range(10, 30)] + ["w30 w31", "w32 w33 w34"]


def tiny(seed=0):
    """A random Llama whose answers vary, with a tokenizer of made-up words."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    return LanguageModel(model, tokenizer, "tiny", torch.device("cpu"), torch.float32, 3, 16)


def slow_answers(lm, prompt, entities):
    """One whole prompt at a time."""
    texts = [prompt.replace("{city}", name) for name in entities]
    ids = [torch.tensor([lm.tokenizer(text)["input_ids"]]) for text in texts]
    return np.array([int(lm.model(one).logits[0, -1].argmax()) for one in ids])


def answered(lm):
    """Facts whose values are what the model says."""
    values = {a: [WORDS[i] for i in slow_answers(lm, prompt, ENTITIES)] for a, prompt in PROMPTS.items()}
    return Facts(pd.DataFrame(values, index=ENTITIES, dtype=object), PROMPTS)
