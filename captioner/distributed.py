"""Several processes that train one model, each with its part of every batch; ``torchrun`` starts them.

Each process computes its part of the loss, such that the gradients of all parts add up to the gradient of the loss of
the whole batch. Where there is one process, all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

# While the first process encodes the photographs of a large data set, the others wait.
_PATIENCE = timedelta(days=1)


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Work together with the other processes that ``torchrun`` started, if it did, each on a GPU of its own."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    # After an error nothing is waited for: the others may be waiting for this process.
    yield
    dist.barrier()
    dist.destroy_process_group()


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. Process 0 judges, prints and writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def first_before_others() -> Iterator[None]:
    """What is inside is done by process 0, then by the others, which find what it left on disk."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and world() > 1:
        dist.barrier()


def part(count: int) -> slice:
    """Which of ``count`` things are for this process: as many as for the others, or one more or less."""
    return slice(count * rank() // world(), count * (rank() + 1) // world())


def total(*values: float) -> list[float]:
    """Sums over the processes."""
    if world() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(sums)
    return sums.tolist()


def part_of_mean(mean: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """The mean of ``count`` things here, as this process's part of the mean of the things of all processes."""
    if world() == 1:
        return mean
    (everywhere,) = total(count)
    return mean * (count / max(1, everywhere))


def gathered(own: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, (N, ...) each and N of their own, in one tensor. Gradients reach own rows alone."""
    if world() == 1:
        return own
    lengths = [int(length) for length in total(*(len(own) if other == rank() else 0 for other in range(world())))]
    start = sum(lengths[: rank()])
    stop = start + len(own)
    rows = own.new_zeros(sum(lengths), *own.shape[1:])
    rows[start:stop] = own.detach()
    dist.all_reduce(rows)
    return torch.cat([rows[:start], own, rows[stop:]])


def copy_first(tensors: Iterable[torch.Tensor]) -> None:
    """Give tensors, in place, the values they have in process 0."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.data, 0)


def add_up(tensors: list[torch.Tensor]) -> None:
    """Replace tensors, in place, by their sums over the processes."""
    if world() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, sums in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(sums.view_as(tensor))
