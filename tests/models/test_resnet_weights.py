"""Published ResNet-50 formats become mmseg's backbone: the same function, complete, and nothing is passed over in silence."""

import runpy
import sys

import pytest
import torch
import torchvision
from mmengine.runner.checkpoint import load_checkpoint
from mmseg.models import ResNet, TIMMBackbone
from torch import nn

from mmseg_dafm.models.backbones.resnet_weights import CLIP_MODEL, FORMATS, convert_resnet50, detect_format
from tests.parity.clip_resnet_reference import ClipResNet50

TOOL = 'tools/model_converters/resnet.py'


def trained_looking(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics and parameters of its own, so that none can be swapped or lost unnoticed."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


@pytest.fixture(scope='module')
def plain():
    """torchvision's ResNet-50."""
    torch.manual_seed(1)
    return trained_looking(torchvision.models.resnet50(weights=None))


@pytest.fixture(scope='module')
def tower():
    """CLIP's visual tower, independent of timm, with weights that half precision holds exactly."""
    torch.manual_seed(2)
    model = trained_looking(ClipResNet50())
    return model.half().float()


def moco(state: dict) -> dict:
    trunk = {key: value for key, value in state.items() if not key.startswith('fc.')}
    published = {f'module.encoder_q.{key}': value for key, value in trunk.items()}
    # the momentum encoder has the same names and other values
    published.update({f'module.encoder_k.{key}': value + 1 for key, value in trunk.items()})
    for side in 'qk':
        published.update({f'module.encoder_{side}.fc.{i}.{part}': torch.zeros(2) for i in (0, 2) for part in ('weight', 'bias')})
    return {**published, 'module.queue': torch.zeros(128, 9), 'module.queue_ptr': torch.zeros(1)}


def swav(state: dict) -> dict:
    published = {f'module.{key}': value for key, value in state.items() if not key.startswith('fc.')}
    heads = ('projection_head.0.weight', 'projection_head.1.running_mean', 'projection_head.3.bias', 'prototypes.weight')
    return {**published, **{f'module.{key}': torch.zeros(3) for key in heads}}


def clip(state: dict) -> dict:
    published = {f'visual.{key}': value.half() if value.is_floating_point() else value for key, value in state.items()}
    others = ('visual.attnpool.positional_embedding', 'visual.attnpool.q_proj.weight', 'transformer.resblocks.0.ln_1.weight')
    return {**published, **{key: torch.zeros(2) for key in (*others, 'logit_scale', 'token_embedding.weight')}}


def without_counts(state: dict) -> dict:
    return {key: value for key, value in state.items() if not key.endswith('num_batches_tracked')}


def under_ddp(state: dict) -> dict:
    return {f'module.{key}': value for key, value in state.items()}


PUBLISH = {'mocov2': moco, 'swav': swav, 'torchvision': dict}


def torchvision_maps(model, images):
    x, maps = model.maxpool(model.relu(model.bn1(model.conv1(images)))), []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = stage(x)
        maps.append(x)
    return maps


@torch.no_grad()
def assert_same_maps(found, expected):
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize('name', PUBLISH)
@torch.no_grad()
def test_mmsegs_resnet_computes_what_the_published_one_does(plain, name, tmp_path):
    published = PUBLISH[name](plain.state_dict())
    converted = convert_resnet50(published)
    assert converted.format == name
    assert set(converted.taken.values()).isdisjoint(converted.dropped)
    assert len(converted.taken) + len(converted.dropped) == len(published)
    torch.save({'state_dict': converted.state}, tmp_path / 'r50.pth')
    model = ResNet(depth=50, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'r50.pth')))
    model.init_weights()
    images = torch.randn(1, 3, 64, 64)
    model.eval()
    assert_same_maps(model(images), torchvision_maps(plain, images))


@torch.no_grad()
def test_the_dilated_backbone_of_the_configs_equals_torchvisions(plain):
    """Output stride 16: torchvision's replace_stride_with_dilation in the last stage is mmseg's contract_dilation."""
    reference = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, False, True]).eval()
    reference.load_state_dict(plain.state_dict())
    model = ResNet(depth=50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=True)
    model.eval()
    model.load_state_dict(convert_resnet50(plain.state_dict()).state)
    images = torch.randn(1, 3, 64, 64)
    assert_same_maps(model(images), torchvision_maps(reference, images))


@torch.no_grad()
def test_timms_clip_computes_what_the_published_tower_does(tower, tmp_path):
    converted = convert_resnet50(clip(tower.state_dict()))
    assert converted.format == 'clip'
    assert {value.dtype for key, value in converted.state.items() if 'tracked' not in key} == {torch.float32}
    model = TIMMBackbone(CLIP_MODEL, features_only=True, pretrained=False, out_indices=(1, 2, 3, 4)).eval()
    torch.save({'state_dict': converted.state}, tmp_path / 'clip.pth')
    load_checkpoint(model, str(tmp_path / 'clip.pth'), strict=True)
    images = torch.randn(1, 3, 64, 64)
    assert_same_maps(model(images), tower(images))


@pytest.mark.parametrize(
    ('published', 'name'),
    [
        (lambda plain, tower: under_ddp(plain), 'torchvision'),
        (lambda plain, tower: {key.removeprefix('module.'): value for key, value in moco(plain).items()}, 'mocov2'),
        (lambda plain, tower: {key.removeprefix('module.'): value for key, value in swav(plain).items()}, 'swav'),
        (lambda plain, tower: {**tower, 'attnpool.positional_embedding': torch.zeros(2)}, 'clip'),
    ],
    ids=['torchvision-under-module', 'moco-without-module', 'swav-without-module', 'visual-tower-alone'],
)
def test_the_same_weights_under_other_prefixes(plain, tower, published, name):
    expected = convert_resnet50(clip(tower.state_dict()) if name == 'clip' else plain.state_dict()).state
    state = published(plain.state_dict(), tower.state_dict())
    converted = convert_resnet50(state)
    assert converted.format == name
    assert all(torch.equal(value, expected[key]) for key, value in converted.state.items())
    assert set(converted.taken.values()) | set(converted.dropped) == set(state)


@pytest.mark.parametrize('name', PUBLISH)
def test_weights_that_are_not_finite_are_refused(plain, name):
    published = PUBLISH[name](plain.state_dict())
    key = next(key for key in published if key.endswith('layer2.0.conv1.weight') and 'encoder_k' not in key)
    published[key] = torch.full_like(published[key], float('nan'))
    with pytest.raises(ValueError, match=rf'1 of \d+ tensors are not finite \({key}'):
        convert_resnet50(published)


def test_counts_of_batches_may_be_absent(plain):
    converted = convert_resnet50(without_counts(plain.state_dict()))
    assert len(converted.state) == 265
    assert not any('num_batches' in key for key in converted.state)


@pytest.mark.parametrize('name', PUBLISH)
@pytest.mark.parametrize('key', ['layer3.5.conv2.weight', 'layer4.2.bn3.running_var', 'bn1.bias'])
def test_one_missing_tensor_is_an_error(plain, name, key):
    published = PUBLISH[name](plain.state_dict())
    del published[('' if name == 'torchvision' else 'module.') + FORMATS[name].prefix + key]
    with pytest.raises(ValueError, match=rf'covers 264 of the 265 tensors of the {name} ResNet-50: {key} is missing'):
        convert_resnet50(published)


def test_one_missing_tensor_of_clip_is_an_error(tower):
    published = clip(tower.state_dict())
    del published['visual.layer2.0.downsample.1.running_mean']
    with pytest.raises(
        ValueError, match=r'covers 274 of the 275 .* timm_model.stages_1.0.shortcut.conv.bn.running_mean is missing'
    ):
        convert_resnet50(published)


def test_other_shapes_and_deeper_networks_are_errors(plain):
    state = plain.state_dict()
    with pytest.raises(ValueError, match=r'conv1.weight has shape \(64, 3, 3, 3\).* needs \(64, 3, 7, 7\)'):
        convert_resnet50({**state, 'conv1.weight': torch.zeros(64, 3, 3, 3)})
    with pytest.raises(ValueError, match=r'1 keys .* not understood as torchvision \(layer3.6.conv1.weight'):
        convert_resnet50({**state, 'layer3.6.conv1.weight': torch.zeros(256, 1024, 1, 1)})


def test_the_wrong_format_and_foreign_checkpoints_are_errors(plain):
    with pytest.raises(ValueError, match=r"covers 0 of the 265 .* conv1.weight is missing, sought under the prefix 'encoder_q.'"):
        convert_resnet50(plain.state_dict(), 'mocov2')
    with pytest.raises(ValueError, match="format='moco' is unknown: use auto or one of clip, mocov2, swav, torchvision"):
        convert_resnet50(plain.state_dict(), 'moco')
    vit = {'visual.conv1.weight': torch.zeros(768, 3, 16, 16), 'visual.class_embedding': torch.zeros(768)}
    with pytest.raises(ValueError, match='none of clip, mocov2, swav, torchvision: among its 2 keys'):
        detect_format(vit)


@pytest.fixture
def tool(root, monkeypatch, capsys):
    """Run the tool in this process; returns what it prints."""

    def run(*args) -> str:
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, args)])
        runpy.run_path(str(root / TOOL), run_name='__main__')
        return capsys.readouterr().out

    return run


def test_tool_reads_a_training_checkpoint_and_reports_its_keys(plain, tool, tmp_path):
    source, target = tmp_path / 'moco.pth.tar', tmp_path / 'new/out.pth'
    torch.save({'epoch': 800, 'arch': 'resnet50', 'state_dict': moco(plain.state_dict())}, source)
    printed = tool(source, target, '--list')
    assert 'format mocov2: 318 tensors taken' in printed
    assert 'dropped module.encoder_k (322)' in printed
    assert 'module.encoder_q.conv1.weight -> conv1.weight' in printed
    written = torch.load(target, weights_only=True)
    assert written['meta'] == {'source': 'moco.pth.tar', 'format': 'mocov2'}
    assert torch.equal(written['state_dict']['layer4.2.bn3.running_var'], plain.layer4[2].bn3.running_var)


def test_tool_reads_clips_jit_archive(tower, tool, tmp_path):
    class Clip(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual, self.logit_scale = tower, nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return self.visual(x)[-1]

    with torch.no_grad():
        torch.jit.trace(Clip().eval(), torch.zeros(1, 3, 32, 32), check_trace=False).save(tmp_path / 'RN50.pt')
    assert 'format clip: 330 tensors taken, 1 dropped' in tool(tmp_path / 'RN50.pt', tmp_path / 'out.pth')
    state = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert torch.equal(state['timm_model.stem_conv3.conv.weight'], tower.conv3.weight)


def test_tool_fails_with_one_sentence_and_writes_nothing(plain, tool, tmp_path):
    torch.save({key: value for key, value in plain.state_dict().items() if not key.startswith('layer4')}, tmp_path / 'in.pth')
    for name, text in (('in.pth', 'error: the checkpoint covers 21'), ('no.pth', 'no.pth does not exist')):
        with pytest.raises(SystemExit, match=text):
            tool(tmp_path / name, tmp_path / 'out.pth')
        assert not (tmp_path / 'out.pth').exists()
