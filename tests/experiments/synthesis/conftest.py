"""Five layouts of Cityscapes in miniature, two tiny models, and the tool."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.experiments.synthesis.tiny_models import write_models
from tests.tools.tiny import run_main

STEMS = ('aachen_000000_000019', 'aachen_000001_000019', 'aachen_000002_000019', 'zurich_000000_000019', 'zurich_000001_000019')


def write_layouts(root, height=64, width=128):
    """Labels in blocks of 16 pixels with an ignored strip below, and real images of the same stems."""
    rng = np.random.default_rng(3)
    for stem in STEMS:
        city = stem.split('_')[0]
        ids = rng.integers(0, 19, (height // 16, width // 16)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        ids[-8:] = 255
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        for kind, name, array in (('gtFine', 'gtFine_labelTrainIds', ids), ('leftImg8bit', 'leftImg8bit', image)):
            path = root / kind / 'train' / city / f'{stem}_{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


@pytest.fixture
def data(tmp_path):
    """Root of the miniature Cityscapes."""
    write_layouts(tmp_path / 'cityscapes')
    return tmp_path / 'cityscapes'


@pytest.fixture(scope='session')
def models(tmp_path_factory):
    """Folders of Stable Diffusion and of the ControlNet."""
    base, control = write_models(tmp_path_factory.mktemp('models'))
    return SimpleNamespace(base=base, control=control, options=['--pretrained', base, '--controlnet', control])


@pytest.fixture
def tool(data, models, root, monkeypatch):
    """Call the tool in this process: tool(out, *arguments) with the tiny models, two steps and images of 32 x 64."""
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('CITYSCAPES_ROOT', str(data))

    def call(out, *arguments, options=None):
        fixed = ['--out', out, '--size', 32, 64, '--steps', 2, '--device', 'cpu']
        options = models.options if options is None else options
        run_main(root / 'tools/generate_synthetic.py', monkeypatch, *fixed, *options, *arguments)

    return call


def pictures(out):
    """Relative path -> bytes of the images of the domains."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.glob('*/**/*.png'))}
