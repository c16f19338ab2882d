"""What a chapter works with: a store of activations, and batches to train on."""

import datasets

from saelite.data.batches import Batches
from saelite.data.harvest import harvest, settings_of
from saelite.data.language_models import LanguageModel
from saelite.data.store import ActivationStore
from saelite.data.stream import StreamedActivations
from saelite.data.token_rows import kept_upto, tokenised


def training_data(
    lm: LanguageModel,
    texts: datasets.Dataset | datasets.IterableDataset,
    *,
    layer: int,
    tokens: int,
    train_tokens: int = 0,
    batch_size: int,
    site: str = "residual",
    context: int = 128,
    epochs: int = 1,
    seed: int = 0,
) -> tuple[ActivationStore, Batches | StreamedActivations]:
    """Harvest a store, and give batches to train on from it or from the texts that follow.

    Parameters
    ----------
    lm : LanguageModel
    texts : datasets.Dataset or datasets.IterableDataset
        From :func:`saelite.data.corpora.load_texts`; a stream if `train_tokens` are asked for.
    layer, site, tokens, context
        Of the store, as in :func:`saelite.data.harvest.harvest`.
    train_tokens : int
        0: the batches come from the store's `train` part. Otherwise so many activations are streamed, from the texts
        after those that the store was harvested from: none of the store's texts is trained on.
    batch_size, epochs, seed : int
        Of the batches; what is streamed is passed over once.

    Returns
    -------
    (ActivationStore, Batches or StreamedActivations)

    Raises
    ------
    ValueError
        If streamed activations are asked for more than once, or the texts are no stream.
    """
    if not train_tokens:
        store = harvest(lm, texts, layer=layer, site=site, tokens=tokens, context=context)
        return store, store.batches(batch_size, epochs=epochs, seed=seed)
    if epochs != 1:
        raise ValueError(f"epochs={epochs}: activations that are streamed are passed over once; ask for epochs=1.")
    if not isinstance(texts, datasets.IterableDataset):
        raise ValueError(f"train_tokens={train_tokens} need a stream of texts: load_texts(..., streaming=True).")
    at = {"layer": layer, "site": site, "context": context}
    settings = settings_of(lm, **at, tokens=tokens, batch=8, drop_positions=(0,))
    aside, rest = set_aside(lm, texts, settings)
    batches = StreamedActivations(lm, rest, **at, tokens=train_tokens, batch_size=batch_size, seed=seed)
    return harvest(lm, aside, tokens=tokens, **at), batches


def set_aside(
    lm: LanguageModel, texts: datasets.IterableDataset, settings: dict
) -> tuple[datasets.Dataset, datasets.IterableDataset]:
    """Take from the start of a stream as many texts as hold ``settings["tokens"]`` kept positions.

    Returns
    -------
    (datasets.Dataset, datasets.IterableDataset)
        Those texts, and the stream of all that follow.
    """
    gains, prefix = kept_upto(settings), len(settings["row_prefix"])
    aside, found, body = [], 0, settings["context"] - prefix
    for text, ids, _ in tokenised(lm, texts, None):
        aside.append(text)
        found += sum(gains[prefix + len(ids[i : i + body])] for i in range(0, len(ids), body))
        if found >= settings["tokens"]:
            break
    held = datasets.Dataset.from_dict({"text": aside})
    held.info.description, held.info.license = texts.info.description, texts.info.license
    return held, texts.skip(len(aside))
