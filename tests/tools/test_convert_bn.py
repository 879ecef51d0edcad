"""tools/model_converters/convert_bn.py as a user runs it, and its refusals."""

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny import run_main, write_tiny_run

from tests.daft.networks import norms, randomise

TOOL = 'tools/model_converters/convert_bn.py'
HOOK = "custom_hooks = [dict(type='mmseg.BNConversionHook', modules=['backbone'], estimator='pooled', num_batches=2)]\n"


@pytest.fixture
def config(tmp_path, root):
    path = write_tiny_run(tmp_path, root)
    path.write_text(path.read_text().replace('SyncBN', 'BN') + HOOK)
    return path


@pytest.fixture
def model(config):
    return randomise(MODELS.build(Config.fromfile(config).model))


@pytest.fixture
def convert(config, root, monkeypatch):
    monkeypatch.chdir(config.parent)
    return lambda *arguments: run_main(root / TOOL, monkeypatch, config, 'out.pth', '--device', 'cpu', *arguments)


@pytest.mark.slow
@pytest.mark.parametrize('wrapped', [False, True])
def test_a_checkpoint_is_converted_with_the_options_of_the_configs_hook(config, model, convert, wrapped):
    prefix = 'module.' if wrapped else ''
    torch.save(dict(state_dict={prefix + key: value for key, value in model.state_dict().items()}), config.parent / 'in.pth')
    convert('--checkpoint', 'in.pth')
    found = torch.load(config.parent / 'out.pth', weights_only=False)
    record = found['meta']['daft_bn']
    assert (record['estimator'], record['num_batches'], record['source']) == ('pooled', 2, 'in.pth')
    assert len(record['layers']) == len(norms(model.backbone))
    images, converted = torch.rand(2, 3, 32, 48), MODELS.build(Config.fromfile(config).model)
    converted.load_state_dict(found['state_dict'])
    with torch.no_grad():
        before, after = (each.eval().backbone(images)[0] for each in (model, converted))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert not torch.equal(converted.backbone.bn1.running_mean, model.backbone.bn1.running_mean)


@pytest.mark.slow
def test_files_that_are_no_checkpoint_of_the_model_are_refused_in_one_sentence(config, model, convert):
    (config.parent / 'text.pth').write_text('the weights are elsewhere\n')
    torch.save([1, 2], config.parent / 'list.pth')
    state = model.state_dict()
    torch.save({key: value for key, value in state.items() if key != 'backbone.bn1.bias'}, config.parent / 'short.pth')
    torch.save({**state, 'backbone.conv1.weight': torch.zeros(8, 3, 7, 7)}, config.parent / 'wide.pth')
    for name, words in (
        ('text', 'text.pth cannot be read: it is cut off or no checkpoint'),
        ('list', 'list.pth holds no tensors by name'),
        ('short', r'short.pth does not fit .* are missing \(backbone.bn1.bias'),
        ('wide', r'have another shape \(backbone.conv1.weight: \(8, 3, 7, 7\), not \(64, 3, 7, 7\)'),
        ('none', 'none.pth does not exist'),
    ):
        with pytest.raises(SystemExit, match=words) as info:
            convert('--checkpoint', f'{name}.pth')
        assert str(info.value).startswith('error: ')
        assert len(str(info.value).splitlines()) == 1
    assert not (config.parent / 'out.pth').exists()
