"""Several processes that train one SAE together, each on its rows of every batch (data parallelism).

``torchrun`` starts a script several times, most often once for each GPU. Each process holds the whole SAE and computes
on rows of its own; they exchange what training needs of the whole batch: gradients, the values that BatchTopK chooses
among, a few sums. So all take the step that one process would take on the whole batch, to rounding.

In a process that is alone, or has joined no others, these functions hand back what they are given.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

Number = TypeVar("Number", torch.Tensor, int, float)


@contextmanager
def processes() -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` or ``accelerate launch`` started; do nothing in a script started by itself.

    Yields where this process computes: a GPU of its own, or the CPU if there is none. Raises ValueError if this machine
    has GPUs, but fewer than processes.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        number, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if number >= gpus:
            raise ValueError(f"This machine has {gpus} GPUs; start no more processes on it (--nproc-per-node {gpus}).")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    joins = "WORLD_SIZE" in os.environ and not dist.is_initialized()
    if joins:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield device
    if joins:  # not after an error: the launcher then ends the other processes
        dist.destroy_process_group()


def size() -> int:
    """The number of processes that train together; 1 if this one is alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def leads() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return size() == 1 or dist.get_rank() == 0


def shard(batches: Iterable[torch.Tensor]) -> Iterable[torch.Tensor]:
    """This process's rows of every batch. All processes have to ask for the same batches.

    `batches` have shape (batch, d_in), what is returned (batch / processes, d_in): a sequence with the same
    ``settings`` where `batches` is one, else an iterator. Raises ValueError when a batch is reached that cannot be
    divided evenly.
    """
    if size() == 1:
        return batches
    return _Shard(batches) if hasattr(batches, "__getitem__") else map(_own_rows, batches)


class _Shard(Sequence):
    def __init__(self, batches):
        self.of_all_processes = batches
        if hasattr(batches, "settings"):
            self.settings = batches.settings

    def __len__(self):
        return len(self.of_all_processes)

    def __getitem__(self, i):
        return _own_rows(self.of_all_processes[i])


def _own_rows(batch):
    n = size()
    if len(batch) % n:
        why = f"A batch of {len(batch)} activations cannot be divided evenly among {n} processes"
        raise ValueError(f"{why}; make it a multiple of {n}.")
    return batch.chunk(n)[dist.get_rank()]


def whole(rows: torch.Tensor) -> torch.Tensor:
    """The batch (batch, d_in) that the processes hold together, in their order, from the rows that this one holds.

    Raises ValueError if they hold different numbers of rows, or all the same ones.
    """
    if size() == 1:
        return rows
    if not agree(len(rows)):
        raise ValueError("The processes were given batches of different sizes; give each the same number of rows.")
    batch, _ = gather(rows)
    if (batch.view(size(), *rows.shape) == rows).all():
        raise ValueError(
            "All processes were given the same batch; pass parallel.shard(batches), or to each process rows of its own."
        )
    return batch


def gather(rows: torch.Tensor) -> tuple[torch.Tensor, slice]:
    """The rows (n, ...) of all processes end to end, in their order, and the slice that is this process's own; n may
    differ from process to process."""
    if size() == 1:
        return rows, slice(0, len(rows))
    counts = torch.zeros(size(), dtype=torch.long, device=rows.device)
    counts[dist.get_rank()] = len(rows)
    counts = total(counts).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    first = sum(counts[: dist.get_rank()])
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]), slice(first, first + len(rows))


def own(places: torch.Tensor, mine: slice) -> torch.Tensor:
    """Of ascending places among gathered rows those in the slice `mine`, counted from where it starts."""
    return places if size() == 1 else places[(places >= mine.start) & (places < mine.stop)] - mine.start


def total(value: Number) -> Number:
    """The sum over the processes of a tensor or of an int, which may not need gradients."""
    if size() == 1:
        return value
    summed = value.clone() if isinstance(value, torch.Tensor) else torch.tensor(value, device=_device())
    dist.all_reduce(summed)
    return summed if isinstance(value, torch.Tensor) else summed.item()


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """The mean over the processes."""
    return tensor if size() == 1 else total(tensor) / size()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients, each of a mean over this process's rows, by those of the mean over the whole batch."""
    if size() > 1:
        for parameter in parameters:
            if parameter.grad is not None:  # frozen, and so in all processes
                parameter.grad = mean(parameter.grad)


def smallest(tensor: torch.Tensor) -> torch.Tensor:
    """The smallest over the processes of each entry."""
    if size() == 1:
        return tensor
    least = tensor.clone()
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return least


def first(value: Number) -> Number:
    """What the first process has here: a tensor, which must be of one shape in all, or a number."""
    if size() == 1:
        return value
    is_tensor = isinstance(value, torch.Tensor)
    sent = value if is_tensor else torch.tensor(float(value), dtype=torch.double, device=_device())
    sent = sent.clone(memory_format=torch.contiguous_format)
    dist.broadcast(sent, 0)
    return sent if is_tensor else sent.item()


def agree(number: int) -> bool:
    """Whether all processes have the same int here."""
    return size() == 1 or bool((gather(torch.tensor([number], device=_device()))[0] == number).all())


def wait() -> None:
    """Go on only when all processes have come here."""
    if size() > 1:
        dist.barrier()


def _device():
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
