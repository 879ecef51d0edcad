"""Every config trains and validates on a tiny copy of its data sets, its model made small; and needs custom_imports alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm.models.backbones.latents import KINDS
from tests.models_common import CLIP, DOMAINS, UNET, VAE

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
CONFIGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob('*.py') if '_base_' not in path.parts)
ON_TINY_DATA = [
    name for name in CONFIGS if not name.startswith(('domino/camvid', 'daft/street', 'daft/robustness', 'quickstart'))
]
STEM = 'aachen_000000_00000{}'
SIZE = (128, 256)

# resolves every `type` of every config in a fresh interpreter that imports nothing of the project itself
RESOLVE = """
import json, sys
from mmengine.config import Config
from mmengine.registry import init_default_scope
import mmseg.registry as registry
names = [n for n in vars(registry) if n.isupper()]
def types(node):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == 'type' and isinstance(value, str):
            yield value
        if isinstance(value, (dict, list, tuple)):
            yield from types(value)
unknown = {}
for path in sys.argv[1:]:
    assert path == sys.argv[1] or 'mmseg_dafm' in sys.modules
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    for kind in set(types(cfg.to_dict())):
        if all(getattr(registry, n).get(kind) is None for n in names):
            unknown.setdefault(path, []).append(kind)
print('RESULT' + json.dumps(unknown))
"""


def test_every_type_in_every_config_is_found_through_custom_imports_alone(root):
    environment = {**os.environ, 'PYTHONPATH': str(root)}
    command = [sys.executable, '-W', 'ignore', '-c', RESOLVE, *(str(FOLDER / name) for name in CONFIGS)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    line = next(line for line in run.stdout.splitlines() if line.startswith('RESULT'))
    unknown = {name for names in json.loads(line.removeprefix('RESULT')).values() for name in names}
    assert unknown <= set(KINDS), 'the VAE kinds are an option of VPDBackbone and not registered'


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Cityscapes, ACDC, synthetic Cityscapes, ADE20K and VOC with one to three images each."""
    folder, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    image = lambda: rng.integers(0, 256, (*SIZE, 3), np.uint8)  # noqa: E731
    label = lambda classes: rng.integers(0, classes, (SIZE[0] // 16, SIZE[1] // 16), np.uint8).repeat(16, 0).repeat(16, 1)  # noqa: E731
    for split in ('train', 'val'):
        for index in range(3):
            stem = STEM.format(index)
            write(folder / f'cityscapes/leftImg8bit/{split}/aachen/{stem}_leftImg8bit.png', image())
            write(folder / f'cityscapes/gtFine/{split}/aachen/{stem}_gtFine_labelTrainIds.png', label(19))
    for condition in ('fog', 'night', 'rain', 'snow'):
        write(folder / f'acdc/rgb_anon/{condition}/val/GP1/x_{condition}_rgb_anon.png', image())
        write(folder / f'acdc/gt/{condition}/val/GP1/x_{condition}_gt_labelTrainIds.png', label(19))
        write(folder / f'synthetic/{condition}/{STEM.format(0)}.png', image())
    for split in ('training', 'validation'):
        write(folder / f'ade/images/{split}/a.jpg', image())
        write(folder / f'ade/annotations/{split}/a.png', label(151))
    for split, names in (('train', 'ab'), ('aug', 'cd'), ('val', 'e')):
        for name in names:
            write(folder / f'voc/JPEGImages/{name}.jpg', image())
            write(folder / f'voc/SegmentationClass{"Aug" if split == "aug" else ""}/{name}.png', label(21))
        names_file = folder / f'voc/ImageSets/Segmentation/{split}.txt'
        names_file.parent.mkdir(parents=True, exist_ok=True)
        names_file.write_text('\n'.join(names))
    return folder


def shrink(node) -> None:
    """Make a model's config small and independent of any file, whatever it combines."""
    if isinstance(node, list | tuple):
        for child in node:
            shrink(child)
    if not isinstance(node, dict):
        return
    kind = node.get('type')
    if kind == 'VPDBackbone':
        classes = node.class_embeddings.classes
        node.update(architecture=dict(unet=UNET, vae=VAE), pretrained=None, save_frozen=True)
        node.class_embeddings = dict(provider='hash', classes=classes, dim=16)
    elif kind == 'ResNet':
        node.update(base_channels=8, init_cfg=None)
    elif kind == 'DomainEmbedding':
        node.descriptions = dict(provider='hash', classes=DOMAINS, dim=16, projected_dim=12)
        node.image_encoder.update(model='tiny', config=CLIP, pretrained=None, image_size=32, save_frozen=True)
    elif kind == 'FPN':
        node.out_channels = 16
        if 'in_channels' in node:
            node.in_channels = [32, 64, 128, 256]
    elif kind in ('FPNHead', 'DominoFPNHead'):
        node.update(in_channels=[16] * 4, channels=16)
    elif kind == 'FCNHead':
        node.update(in_channels=256, channels=16)
    elif kind == 'DepthwiseSeparableASPPHead':
        node.update(in_channels=256, channels=16, c1_in_channels=32, c1_channels=8)
    for key, value in node.items():
        if value == 'SyncBN':
            node[key] = 'BN'
        if key not in ('architecture', 'descriptions', 'class_embeddings'):
            shrink(value)


def prepare_deeplab(cfg: Config) -> None:
    """Small crops and batches, and no checkpoint of linear probing."""
    cfg.model.init_cfg = None
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.train_dataloader.batch_size = 2
    dataset = cfg.train_dataloader.dataset
    for pipeline in [part.pipeline for part in dataset.get('datasets', [dataset])]:
        next(step for step in pipeline if step.type == 'RandomCrop').crop_size = (64, 64)


def give_trained_backbone(cfg: Config, path: Path) -> dict:
    """Fill the backbone from a file whose batch norms have seen other data; returns its weights."""
    backbone = MODELS.build(cfg.model.backbone)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
    torch.save(backbone.state_dict(), path)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    return backbone.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize('name', ON_TINY_DATA)
def test_it_trains_and_validates(name, data, tmp_path, monkeypatch):
    parts = dict(CITYSCAPES='cityscapes', ACDC='acdc', SYNTHETIC='synthetic', ADE20K='ade', VOC='voc')
    for variable, part in parts.items():
        monkeypatch.setenv(f'{variable}_ROOT', str(data / part))
    cfg = Config.fromfile(str(FOLDER / name))
    shrink(cfg.model)
    deeplab = 'deeplabv3plus' in name
    if deeplab:
        prepare_deeplab(cfg)
    source = give_trained_backbone(cfg, tmp_path / 'source.pth') if name.startswith('daft/') else {}
    cfg.work_dir, cfg.experiment_name = str(tmp_path), name.replace('/', '_').removesuffix('.py')
    cfg.visualizer.name = cfg.experiment_name
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    cfg.default_hooks.checkpoint.interval = 1
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert (tmp_path / 'iter_1.pth').is_file()
    if not name.endswith(('ade20k.py', 'voc.py')):
        summary = json.loads((tmp_path / 'domain_iou.json').read_text())['summary']
        assert set(summary['domains']) == ({'cityscapes'} if deeplab else {'cityscapes', 'fog', 'night', 'rain', 'snow'})
    assert (tmp_path / 'daft_converted.pth').is_file() == ('daft_' in name or 'conversion' in name)
    if deeplab:
        method, tuned = Path(name).stem.removeprefix('deeplabv3plus_r50_').rpartition('_')[0], runner.model.backbone.state_dict()
        assert torch.equal(tuned['conv1.weight'], source['conv1.weight']) == (method == 'lp')
        assert torch.equal(tuned['bn1.running_mean'], source['bn1.running_mean']) == (method in ('lp', 'lp_ft'))
