"""Settings and fixtures that every test shares."""

import os
from pathlib import Path

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest
import torch
from mmengine.registry import DefaultScope

import mmseg_dafm  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'

torch.set_flush_denormal(True)


@pytest.fixture(autouse=True)
def _mmseg_scope():
    """Build every component in mmseg's registries, as the tools do."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture
def shared() -> Path:
    """The folder of real images and weights; skips the test where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f'needs the real images and weights in {SHARED}')
    return SHARED
