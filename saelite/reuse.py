"""Train or load, score or read: the one place that asks the cache."""

import contextlib
import hashlib
import warnings
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from saelite import checkpoints
from saelite.kernels import parallel
from saelite.sae import SAE
from saelite.storage import atomic, cache, disk
from saelite.training import describe, train


def train_or_load(sae, batches, *, progress=True, **settings):
    """Train an SAE, or load it if the cache holds one that was made the same way.

    The key is made of the SAE's settings and start, ``batches.settings``, the training settings and the code that
    trains: change any of them and the SAE is trained anew. A killed run goes on from its last checkpoint.

    The number of processes is no part of the key, as the device is not: the SAE is the same to rounding.

    Parameters
    ----------
    sae : SAE
        Trained or filled in place.
    batches : sequence of tensors of shape (batch, d_in), with an attribute ``settings``
        Such as :meth:`saelite.synthetic.FeatureWorld.batches` and the activation store give.
    settings
        As in :func:`train`.

    Returns
    -------
    pandas.DataFrame
        The history of the training, as :func:`train` gives it.
    """
    made_of = {
        "sae": checkpoints.settings(sae),
        "start": {name: _digest(tensor) for name, tensor in sae.state_dict().items()},
        "frozen": [name for name, parameter in sae.named_parameters() if not parameter.requires_grad],
        "data": batches.settings | {"batches": len(batches)},
        "training": {name: getattr(value, "settings", lambda value=value: value)() for name, value in settings.items()},
        "code": _code_fingerprint(),
        "torch": torch.__version__,
    }
    key = cache.key(**made_of)
    if not parallel.agree(int(key[:15], 16)):
        raise ValueError("The processes were asked for different SAEs; give all of them the same settings and data.")
    folder = cache.folder() / "saes" / key
    unfinished = folder.with_suffix(".run")
    # of the processes that train one SAE together, the first speaks for all; the others wait for its word
    with cache.only_maker(folder) if parallel.leads() else contextlib.nullcontext(False) as missing:
        if not parallel.first(missing):
            loaded, record = checkpoints.load(folder)
            sae.load_state_dict(loaded.state_dict())
            sae.eval()
            if parallel.leads():
                with contextlib.suppress(OSError):  # such as a cache that can only be read
                    cache.remove(unfinished)  # a run that was killed between its last two steps left it
            return pd.DataFrame(record["history"])
        if parallel.leads():
            wanted = 5 * sum(tensor.nbytes for tensor in sae.state_dict().values())  # the SAE, and a checkpoint twice
            disk.need_room(folder.parent, wanted, f"training {describe(sae)}")
        try:
            history = train(sae, batches, checkpoint=unfinished, progress=progress, **settings)
        except checkpoints.Unusable as error:
            warnings.warn(f"Training {describe(sae)} starts over, since a file is damaged. {error}", stacklevel=2)
            if parallel.leads():
                cache.remove(unfinished)
            parallel.wait()
            history = train(sae, batches, checkpoint=unfinished, progress=progress, **settings)
        if parallel.leads():
            with contextlib.suppress(FileExistsError):  # on a disk with no locks another run may have been first
                checkpoints.save(sae, folder, made_of=made_of, history=history.to_dict("records"))
            cache.remove(unfinished)
        parallel.wait()
        return history


def _digest(tensor):
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _code_fingerprint():
    """A hash of the source files that decide what training makes."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    names = "activation_functions pre_activations sparse sae baselines initialisation parallel batches"
    names += " training checkpoints metrics store stream token_rows harvest synthetic"
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.stem in names.split())).hexdigest()[:16]


def over(saes, evaluation, *, progress=True):
    """Score every SAE of a grid; what was scored before is read from the cache.

    Parameters
    ----------
    saes : dict of (architecture, baseline) to SAE
        As :func:`saelite.comparison.fit` gives it.
    evaluation : one of the evaluations of this module's list

    Returns
    -------
    pandas.DataFrame
        What the evaluation gives, all SAEs below each other, with columns architecture and baseline in front.
    """
    quiet = {} if progress else {"disable": True}
    bar = tqdm(saes.items(), desc=type(evaluation).__name__, ascii=True, mininterval=2, **quiet)
    tables = {names: _remembered(evaluation, sae) for names, sae in bar}
    return pd.concat(tables, names=["architecture", "baseline"]).reset_index(["architecture", "baseline"])


def references(evaluation):
    """The evaluation's floors and ceilings, read from the cache if they were measured before."""
    return _remembered(evaluation)


def fingerprint(sae):
    """A hash of what an SAE computes: its class, its activation function's and every tensor of its state.

    Of a module that is not of this library, also how it is printed and every number and string that it or a module in
    it holds as an attribute, such as a k that is in no tensor.
    """
    activation = getattr(sae, "activation", None)
    settings = getattr(activation, "settings", dict)()
    digest = hashlib.sha256(f"{type(sae).__name__} {type(activation).__name__} {settings}".encode())
    if type(sae) is not SAE:
        digest.update(repr(sae).encode())
        for name, module in sae.named_modules():
            plain = {key: value for key, value in vars(module).items() if isinstance(value, int | float | str)}
            digest.update(f"{name} {sorted(plain.items())}".encode())
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _lent(sae, device):
    """Have an SAE on a device for the time of its scoring: a grid of them is kept in the machine's memory."""
    home = next((tensor.device for tensor in sae.state_dict().values()), torch.device("cpu"))
    sae.to(device)
    try:
        yield
    finally:
        sae.to(home)


def _remembered(evaluation, sae=None):
    code = sorted(Path(__file__).parent.rglob("*.py"))
    made_of = {
        "evaluation": type(evaluation).__name__,
        "settings": evaluation.settings,
        "sae": None if sae is None else fingerprint(sae),
        "code": hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest(),
    }
    file = cache.folder() / "tables" / f"{type(evaluation).__name__.lower()}-{cache.key(**made_of)}.parquet"
    with cache.only_maker(file) as missing:
        if missing:
            if sae is None:
                table = evaluation.references()
            else:
                with _lent(sae, "cuda" if torch.cuda.is_available() else "cpu"):
                    table = evaluation(sae)
            with atomic.atomic_file(file, checksums=True) as made:
                table.to_parquet(made, index=False)
        return pd.read_parquet(file)
