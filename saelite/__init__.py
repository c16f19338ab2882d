"""saelite: sparse autoencoders (SAEs), their random baselines, and what tells the two apart.

::

    import saelite as sl

    result = sl.compare(x, "BatchTopK", l0=14, expansion=4, epochs=5, seeds=2)   # x: activations (n, d_in)
    print(result.table)
    sl.check(sl.load("my_sae"), activations=x).save("report")

Names are loaded when they are first used, so importing this costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from saelite.activation_functions import (
        ActivationFunction,
        BatchTopK,
        JumpReLU,
        Matryoshka,
        RelativeBatchTopK,
        ReLU,
        TopK,
    )
    from saelite.baselines import Baseline, FrozenDecoder, FrozenEncoder, SoftFrozenDecoder
    from saelite.checking.on_activations import check
    from saelite.comparison import compare
    from saelite.data.corpora import load_texts
    from saelite.data.harvest import harvest
    from saelite.data.language_models import language_model
    from saelite.data.store import ActivationStore
    from saelite.evaluations.autointerp import AutoInterp
    from saelite.evaluations.editing import Editing
    from saelite.evaluations.probing import Probing
    from saelite.evaluations.reconstruction import Reconstruction
    from saelite.evaluations.scorecard import scorecard
    from saelite.formats import load
    from saelite.initialisation import cov, iso
    from saelite.metrics import evaluate, explained_variance, recovery
    from saelite.null_models import nulls
    from saelite.sae import SAE
    from saelite.synthetic import FeatureWorld
    from saelite.training import train

_NAMES = {
    "activation_functions": "ActivationFunction ReLU TopK BatchTopK RelativeBatchTopK JumpReLU Matryoshka",
    "baselines": "Baseline FrozenDecoder SoftFrozenDecoder FrozenEncoder",
    "initialisation": "iso cov",
    "sae": "SAE",
    "synthetic": "FeatureWorld",
    "training": "train",
    "comparison": "compare",
    "checking.on_activations": "check",
    "formats": "load",
    "metrics": "evaluate explained_variance recovery",
    "null_models": "nulls",
    "data.language_models": "language_model",
    "data.corpora": "load_texts",
    "data.harvest": "harvest",
    "data.store": "ActivationStore",
    "evaluations.reconstruction": "Reconstruction",
    "evaluations.probing": "Probing",
    "evaluations.editing": "Editing",
    "evaluations.autointerp": "AutoInterp",
    "evaluations.scorecard": "scorecard",
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'saelite' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f"saelite.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
