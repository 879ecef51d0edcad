"""Files that commit 28c8433 wrote are still read: one checkpoint of each kind.

They were made there with the networks below: FisherTune in its warm-up and after the selection, its scores and a delta, LoRA,
batch norm conversion, class embeddings. Of Domino's model the names, the shapes and the logits of weights drawn by name are kept.
"""

import json
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_dafm.core.checkpoint import read_checkpoint, read_weights
from mmseg_dafm.core.fit import load_weights, require_fit
from mmseg_dafm.fishertune.delta import load_delta, merge
from mmseg_dafm.fishertune.score_file import fingerprint, load_fisher
from mmseg_dafm.models.domain.embedding_file import load_embeddings
from tests.hooks.fisher_run import HEAD, PREPROCESSOR, VIT, build, config, train
from tests.models_common import segmentor

FILES = Path(__file__).parent / 'version_0_1'
ROOT = Path(__file__).resolve().parents[2]
SMALL = dict(VIT, embed_dim=8, depth=2, num_heads=2, out_indices=(0, 1), img_size=32, patch_size=16)


def small(folder, hook=None, **changes):
    """The config that the files were made with."""
    cfg = config(folder, hook, iterations=6, **changes)
    cfg.model.backbone = SMALL
    cfg.model.decode_head = dict(HEAD, in_channels=8, in_index=1, channels=4)
    cfg.model.data_preprocessor = dict(PREPROCESSOR, size=(32, 32))
    cfg.train_dataloader.dataset.size = (32, 32)
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('name', ['fishertune_warm_up', 'fishertune_selected'])
def test_fishertune_goes_on(tmp_path, name):
    path = FILES / f'{name}.pth'
    runner = train(small(tmp_path, resume=True, load_from=str(path)))
    assert runner.iter == 6
    assert runner.optim_wrapper.count == int(0.05 * runner.optim_wrapper.backbone_parameters)
    if name == 'fishertune_selected':
        old = read_checkpoint(path)['optimizer']
        assert any(isinstance(value, dict) and 'ranking' in value for value in (old, *old.values()))
        assert not (tmp_path / 'dr_fim.safetensors').exists()


@pytest.mark.slow
def test_scores_serve_the_weights_that_they_were_made_of(tmp_path):
    scores = FILES / 'dr_fim.safetensors'
    assert 'conditions' not in load_fisher(scores).meta
    cfg = small(tmp_path, dict(scores=str(scores), warmup_iters=0), load_from=str(FILES / 'base.pth'))
    assert train(cfg).optim_wrapper.count


def test_a_delta_gives_the_tuned_weights_to_the_bit():
    merged = merge(load_delta(FILES / 'delta.safetensors'), read_weights(FILES / 'base.pth'))
    assert fingerprint(dict(sorted(merged.items()))) == (FILES / 'merged.txt').read_text()


def test_an_adapter_fits(tmp_path):
    cfg = small(tmp_path)
    cfg.custom_hooks = []
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2))
    cfg.model.backbone = dict(SMALL, adapter=dict(type='LoRA', rank=2))
    load_weights(build(cfg).model, FILES / 'lora.pth')


def test_a_converted_network_fits():
    init_default_scope('mmseg')
    backbone = dict(
        type='ResNet', depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
    )  # fmt: skip
    head = dict(HEAD, in_channels=8, in_index=1, channels=4)
    model = MODELS.build(dict(type='EncoderDecoder', backbone=backbone, decode_head=head, data_preprocessor=PREPROCESSOR))
    content = load_weights(model, FILES / 'daft_converted.pth')
    assert 'daft_bn' in content['meta']


@pytest.mark.slow
def test_domino_has_the_same_names_and_gives_the_same_logits():
    init_default_scope('mmseg')
    old, model = json.loads((FILES / 'domino.json').read_text()), MODELS.build(segmentor()).eval()
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == old['shapes']
    state = model.state_dict()
    for key, value in state.items():
        if not value.is_floating_point():
            continue
        draw = torch.randn(value.shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode()))) * 0.2
        state[key] = draw.abs() + 0.5 if key.endswith(('running_var', 'norm.weight')) else draw
    state = {
        key: value if model.state_dict()[key].is_floating_point() else model.state_dict()[key] for key, value in state.items()
    }
    model.load_state_dict(require_fit(model, state, 'weights drawn by name').state)
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32), mode='tensor')
    torch.testing.assert_close(logits.flatten()[::16], torch.tensor(old['logits']), rtol=1e-3, atol=1e-2)


def test_class_embeddings_are_read():
    bank = load_embeddings(FILES / 'embeddings.safetensors')
    assert (bank.names, bank.pooled.shape, bank.projected.shape) == (('road', 'sky'), (2, 6), (2, 4))


def test_every_config_of_then_is_there():
    if not shutil.which('git') or not (ROOT / '.git').exists():
        pytest.skip('no git history')
    listed = subprocess.run(
        ['git', 'ls-tree', '-r', '--name-only', '28c8433', 'configs'], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip('the history does not reach back to 28c8433')
    names = [name for name in listed.stdout.split() if '/_base_/' not in name]
    assert len(names) > 100
    assert [name for name in names if not (ROOT / name).is_file()] == []
