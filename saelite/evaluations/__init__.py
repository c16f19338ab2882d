"""Evaluations of SAEs: what they share, and how a whole grid of SAEs goes through one.

An evaluation is an object that is made once, with all that does not depend on the SAE: texts, a model's activations,
prompts, floors. It is then called with one SAE after another. The four of the book for language models are
:class:`saelite.evaluations.reconstruction.Reconstruction`, :class:`saelite.evaluations.probing.Probing`,
:class:`saelite.evaluations.editing.Editing` and :class:`saelite.evaluations.autointerp.AutoInterp`; for vision models
there is :class:`saelite.evaluations.label_purity.LabelPurity`. Each has

``evaluation(sae)``
    A tidy table of one SAE's scores, one row an item: columns metric, item, score, and where they apply weight and
    cluster (see :mod:`saelite.statistics`).
``evaluation.references()``
    What these scores are to be read against, measured on the same items: the same columns, and before them reference
    (its name) and kind: "floor" (no skill), "ceiling" (the best known method) or "yardstick" (a plain method; what lies
    above it is no surprise, and what lies below it is no proof).
``evaluation.settings``
    All that its tables follow from, as plain JSON values.
``evaluation.paired``
    Whether the items of two SAEs are the same, as texts are and latents are not.

An SAE may be any ``torch.nn.Module`` with ``encode`` and ``decode`` from activations ``(batch, d_in)`` in the model's
own units to codes ``(batch, d_sae)`` and back, so another library's will do.
"""
