"""What importing the package does where mmsegmentation is missing."""

import subprocess
import sys

import pytest

HIDE = 'import sys; sys.modules.update(dict.fromkeys({names}, None))\n'
CONVERT = """
import warnings
warnings.simplefilter('ignore')
import torch
from torch import nn
from mmseg_dafm.daft import convert_bn
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
model(torch.randn(8, 3, 5, 5))
print(convert_bn(model, [torch.randn(8, 3, 5, 5) for _ in range(3)]).summary['layers'])
"""


def run(root, names: list[str], code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', HIDE.format(names=names) + code], cwd=root, capture_output=True, text=True)


@pytest.mark.slow
def test_conversion_needs_torch_alone(root):
    found = run(root, ['mmengine', 'mmcv', 'mmseg', 'mmseg.registry'], CONVERT)
    assert found.stdout.strip() == '1', found.stderr


def test_the_rest_says_what_to_install(root):
    found = run(root, ['mmengine', 'mmcv', 'mmseg'], 'import mmseg_dafm')
    assert found.returncode == 0
    assert 'only mmseg_dafm.daft can be imported; install it with' in found.stderr


@pytest.mark.parametrize('name', ['mmcv', 'mmseg'])
def test_half_an_installation_is_an_error(root, name):
    found = run(root, [name], 'import mmseg_dafm')
    assert found.returncode == 1
    assert f'mmseg_dafm needs mmsegmentation, but {name} cannot be imported: install it with' in found.stderr


@pytest.mark.slow
def test_importing_the_package_loads_no_matplotlib_and_no_module_of_it_switches_the_backend(root):
    code = """
import importlib, pkgutil, sys
import mmseg_dafm
print('matplotlib' in sys.modules)
import matplotlib
before = matplotlib.rcParams._get_backend_or_none() if hasattr(matplotlib.rcParams, '_get_backend_or_none') else None
for module in pkgutil.walk_packages(mmseg_dafm.__path__, 'mmseg_dafm.'):
    importlib.import_module(module.name)
after = matplotlib.rcParams._get_backend_or_none() if hasattr(matplotlib.rcParams, '_get_backend_or_none') else None
print(before == after, 'matplotlib.pyplot' in sys.modules)
"""
    found = run(root, [], code)
    assert found.stdout.split() == ['False', 'True', 'False'], found.stdout + found.stderr[-500:]
    assert not [path for path in (root / 'mmseg_dafm').rglob('*.py') if 'matplotlib.use(' in path.read_text()]
