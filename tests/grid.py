"""Every activation function and every baseline of the module at a small size: tests run over the whole grid.

A new class is among them as soon as it is in its file.
"""

import functools

import saelite.activation_functions
import saelite.baselines
from saelite import arguments


def of_the_module(kind):
    return [one for one in arguments.known(kind).values() if one.__module__ == kind.__module__]


ACTIVATIONS = {
    one.__name__: functools.partial(one, 5) for one in of_the_module(saelite.activation_functions.ActivationFunction)
}
BASELINES = {one.name: one for one in of_the_module(saelite.baselines.Baseline)}
