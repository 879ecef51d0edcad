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

from mmseg_dafm.models.adapters.adapter import is_adapter_key
from mmseg_dafm.models.backbones.latents import KINDS
from tests.models_common import CLIP, DOMAINS, UNET, VAE

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
# suites are lists of runs
CONFIGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob('*.py') if not {'_base_', 'suites'} & {*path.parts})
ELSEWHERE = ('baselines/adapters', 'toy/', 'domino/camvid', 'daft/street', 'daft/robustness', 'fishertune/street', 'quickstart')
# One config per foundation model and per method; the others differ from these in one line, and are built in tests/configs.
OF_FISHERTUNE = {
    'fishertune/fisher_vpd_domino_sub_cityscapes.py',
    *(f'fishertune/gtav/{name}_fishertune_gtav.py' for name in ('dinov2_l', 'clip_l', 'sam_h', 'dinov3_l')),
    *(f'fishertune/cityscapes/{name}_cityscapes.py' for name in ('eva02_l_fishertune', 'mae_l_full', 'dinov2_l_freeze')),
    'fishertune/ablations/eva02_l_random_q_cityscapes.py',
}
KINDS_OF_BASELINE = ('lora', 'vpt', 'adaptformer', 'vqt', 'rein', 'linear', 'childtune_d', 'childtune_f')
BASELINES = [f'baselines/adapters/dinov2_l_{kind}_gtav.py' for kind in KINDS_OF_BASELINE]
ON_TINY_DATA = BASELINES + [
    name for name in CONFIGS if not name.startswith(ELSEWHERE) and (not name.startswith('fishertune') or name in OF_FISHERTUNE)
]
TINY_VIT = dict(embed_dim=32, depth=4, num_heads=2, out_indices=(0, 1, 2, 3), img_size=64, pretrained=False, weights=None)
TINY_MASK2FORMER = dict(
    channels=32, num_heads=2, num_queries=8, encoder_layers=1, decoder_layers=2, encoder_ffn=32, decoder_ffn=32, num_points=64
)
TINY_ADAPTERS = dict(
    LoRA=dict(rank=2), VPT=dict(tokens=4), AdaptFormer=dict(bottleneck=4), VQT=dict(tokens=4),
    Rein=dict(tokens=TINY_MASK2FORMER['num_queries'], rank=2, query_channels=TINY_MASK2FORMER['channels']),
)  # fmt: skip
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


@pytest.mark.slow
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
    """Cityscapes, ACDC, synthetic Cityscapes, ADE20K, VOC, GTAV, BDD100K and Mapillary with one to three images each."""
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
    for index in range(3):
        write(folder / f'gtav/images/{index}.png', image())
        write(folder / f'gtav/labels/{index}_labelTrainIds.png', label(19))
    write(folder / 'bdd100k/images/10k/val/a.jpg', image())
    write(folder / 'bdd100k/labels/sem_seg/masks/val/a.png', label(19))
    write(folder / 'mapillary/half/validation/images/a.jpg', image())
    write(folder / 'mapillary/half/validation/train_ids/a.png', label(19))
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
    elif kind in ('VFMBackbone', 'MaskCLIPBackbone'):
        depth = TINY_VIT['depth']
        own = dict(out_indices=(depth - 1,)) if len(node.get('out_indices', TINY_VIT['out_indices'])) == 1 else {}
        node.update({**TINY_VIT, **own}, **(dict(global_attn_indexes=(1, 3)) if 'samvit' in node.model_name else {}))
        if node.get('adapter'):
            node.adapter.update(TINY_ADAPTERS[node.adapter.type])
    elif kind == 'HFMask2FormerHead':
        node.update(TINY_MASK2FORMER)
    elif kind == 'ResNet':
        node.update(base_channels=8, init_cfg=None)
    elif kind == 'TIMMPyramid':
        # timm's CLIP ResNets have one width
        small = dict(model_name='resnet50_clip') if node.get('value_features') else dict(model_name='resnet18', channels=(8,) * 4)
        node.update(small, pretrained=False)
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
        # a linear probe is as wide as the ViT
        node.update(
            dict(in_channels=256, channels=16) if node.get('num_convs', 2) else dict.fromkeys(('in_channels', 'channels'), 32)
        )
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


def prepare_fishertune(cfg: Config) -> None:
    """One iteration of warm-up, scores of two images, small crops and test images."""
    for hook in cfg.get('custom_hooks', ()):
        hook.update(warmup_iters=min(hook.warmup_iters, 1), interval=1)
        # a small U-Net has one transformer at level 0
        own = dict(shift=dict(positions=['embedding']))
        if hook.estimation.get('estimator') == 'batch':
            own = dict(estimator='batch', batch_size=2)
        hook.estimation = dict(images=2, bank_images=2, **own)
    if cfg.model.backbone.type != 'VFMBackbone':
        # at the start of the rate's warm-up, steps are lost in rounding
        cfg.param_scheduler = [part for part in cfg.param_scheduler if part.type != 'LinearLR']
        cfg.param_scheduler[0].begin = 0
        return
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    cfg.train_dataloader.batch_size = 2
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    steps['RandomChoiceResize'].scales, steps['RandomCrop'].crop_size = [96], (64, 64)
    scales = next(step for step in cfg.test_dataloader.dataset.pipeline if step.type == 'DomainResize')
    assert scales.scale == (1024, 512)
    assert scales.domains.bdd100k == (1280, 720)
    for dataset in (cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        for step in dataset.pipeline:
            if step.type == 'DomainResize':
                step.update(scale=(128, 64), domains=dict(bdd100k=(160, 90)))


def share_changed(before: dict, after: dict) -> float:
    """Share of the entries of the backbone that have another value."""
    changed = sum(int((after[name] != value).sum()) for name, value in before.items())
    return changed / sum(value.numel() for value in before.values())


def check_what_moved(kind: str, model: nn.Module, start: dict) -> None:
    """Each baseline has trained what it is meant to train, whole, and nothing else."""
    now = dict(model.named_parameters())
    moved = {name for name, value in start.items() if not torch.equal(value, now[name])}
    backbone = {name: value for name, value in start.items() if name.startswith('backbone.')}
    adapter = {name for name in backbone if is_adapter_key(name.removeprefix('backbone.'))}
    assert any(name.startswith('decode_head.') for name in moved)
    if kind == 'childtune_d':
        assert 0.045 < share_changed(backbone, now) <= 0.05
    elif kind == 'childtune_f':
        # Adam's first step is the rate, 1e-5, wherever the gradient was kept; decay alone moves the others far less
        steps = torch.cat([(now[name] - value).abs().flatten() for name, value in backbone.items()])
        assert 0.28 < float((steps > 5e-6).float().mean()) < 0.31
    else:
        assert moved & backbone.keys() == adapter
        assert bool(adapter) == (kind != 'linear')


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
    if 'lora' in name:
        pytest.importorskip('peft')
    parts = dict(CITYSCAPES='cityscapes', ACDC='acdc', SYNTHETIC='synthetic', ADE20K='ade', VOC='voc')
    parts.update(GTAV='gtav', BDD100K='bdd100k', MAPILLARY='mapillary')
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
    kind = KINDS_OF_BASELINE[BASELINES.index(name)] if name in BASELINES else None
    iterations = 2 if kind not in (None, 'childtune_f') or (cfg.get('custom_hooks') and name.startswith('fishertune')) else 1
    if kind or name.startswith('fishertune'):
        prepare_fishertune(cfg)
    if kind == 'childtune_f':
        # behind LayerScale gradients are tiny; so whatever has one moves by the whole rate
        cfg.optim_wrapper.optimizer.eps = 1e-30
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint.interval = iterations
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    runner = Runner.from_cfg(cfg)
    tuned = runner.model.backbone.unet if 'vpd' in name else runner.model.backbone
    start = {key: value.detach().clone() for key, value in tuned.named_parameters()} if name.startswith('fishertune') else {}
    before = {key: value.detach().clone() for key, value in runner.model.named_parameters()} if kind else {}
    runner.train()
    assert (tmp_path / f'iter_{iterations}.pth').is_file()
    if not name.endswith(('ade20k.py', 'voc.py')):
        summary = json.loads((tmp_path / 'domain_iou.json').read_text())['summary']
        expected = {'cityscapes'} if deeplab else {'cityscapes', 'fog', 'night', 'rain', 'snow'}
        if kind or name.startswith('fishertune/gtav'):
            expected = {'cityscapes', 'bdd100k', 'mapillary'}
        elif name.startswith('fishertune/') and 'vpd' not in name:
            expected.add('bdd100k')
        assert set(summary['domains']) == expected
    assert (tmp_path / 'daft_converted.pth').is_file() == ('daft_' in name or 'conversion' in name)
    if deeplab:
        method, tuned = Path(name).stem.removeprefix('deeplabv3plus_r50_').rpartition('_')[0], runner.model.backbone.state_dict()
        assert torch.equal(tuned['conv1.weight'], source['conv1.weight']) == (method == 'lp')
        assert torch.equal(tuned['bn1.running_mean'], source['bn1.running_mean']) == (method in ('lp', 'lp_ft'))
    if kind:
        check_what_moved(kind, runner.model, before)
    if name.startswith('fishertune'):
        share = share_changed(start, dict(tuned.named_parameters()))
        scored = 'fishertune_' in name or 'vpd' in name
        assert (tmp_path / 'dr_fim.safetensors').is_file() == scored
        if 'freeze' in name:
            assert share == 0
        elif 'full' in name:
            assert share > 0.9
        else:
            assert 0.045 < share <= 0.05
        if 'vpd' in name:
            others = {key: value for key, value in runner.model.backbone.named_parameters() if not key.startswith('unet.')}
            assert [key for key, value in others.items() if not value.requires_grad and not key.startswith('latents.')] == []
