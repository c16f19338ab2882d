"""Every activation function and every baseline at a small size, so that tests can run over the whole grid."""

from saelite.activation_functions import BatchTopK, JumpReLU, Matryoshka, RelativeBatchTopK, ReLU, TopK
from saelite.baselines import FrozenDecoder, FrozenEncoder, FullyTrained, SoftFrozenDecoder

ACTIVATIONS = {
    "ReLU": lambda: ReLU(target_l0=5),
    "TopK": lambda: TopK(5),
    "BatchTopK": lambda: BatchTopK(5),
    "RelativeBatchTopK": lambda: RelativeBatchTopK(5),
    "Matryoshka": lambda: Matryoshka(5),
    "JumpReLU": lambda: JumpReLU(target_l0=5),
}
BASELINES = {
    "fully trained": FullyTrained,
    "frozen decoder": FrozenDecoder,
    "soft-frozen decoder": SoftFrozenDecoder,
    "frozen encoder": FrozenEncoder,
}
