"""Random state: seed all generators from a key, or restore their states."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators (CPU and all CUDA devices) with a key of non-negative integers.

    Different keys give independent streams; equal keys give the same stream.
    """
    state = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the states of Python's, NumPy's and torch's generators (CPU and all CUDA devices) at exit.

    Runs with and without the work inside then draw the same numbers afterwards. Create DataLoader iterators inside, too:
    each one draws a number.
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
