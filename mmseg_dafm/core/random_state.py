"""Random numbers: generators that are left as they were found, and seeds that follow from a key."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators (CPU and all CUDA devices) by a key of integers, each 0 or more.

    Different keys give independent streams, equal keys the same one.
    """
    state = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the states of Python's, NumPy's and torch's generators (CPU and all CUDA devices) at exit.

    Work done inside draws what it likes, and two runs that differ only in that work stay paired by their seed.
    Creating the iterator of a DataLoader already draws a number, so that belongs inside, too.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
