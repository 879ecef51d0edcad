"""The checkpoint loader that classic mmengine needs with PyTorch >= 2.6."""

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmseg_dafm import compat


def test_loads_a_checkpoint_with_a_message_hub(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'state_dict': {'w': torch.ones(2)}, 'message_hub': {'log': buffer}}, tmp_path / 'iter_1.pth')
    loaded = compat.load_local_checkpoint(str(tmp_path / 'iter_1.pth'), 'cpu')
    assert torch.equal(loaded['state_dict']['w'], torch.ones(2))
    assert loaded['message_hub']['log'].mean() == 1.5


def test_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.pth does not exist'):
        compat.load_local_checkpoint(str(tmp_path / 'none.pth'))


@pytest.mark.parametrize(
    ('version', 'source', 'needed'),
    [
        ('2.5.1', 'torch.load(filename)', False),
        ('2.6.0', 'torch.load(filename)', True),
        ('2.12.1', 'torch.load(filename, weights_only=False)', False),
    ],
)
def test_acts_only_where_needed(monkeypatch, version, source, needed):
    calls = []
    monkeypatch.setattr(compat.torch, '__version__', version)
    monkeypatch.setattr(compat.inspect, 'getsource', lambda module: source)
    monkeypatch.setattr(mmengine_checkpoint.CheckpointLoader, 'register_scheme', lambda **arguments: calls.append(arguments))
    compat.install()
    assert len(calls) == needed
    if needed:
        assert calls[0] == {'prefixes': '', 'loader': compat.load_local_checkpoint, 'force': True}
