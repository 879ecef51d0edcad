"""Rooms import each other in one direction, and the rooms of the papers need torch alone."""

import ast
import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# a room may import those before it; the rooms of the papers do not know each other
ORDER = (
    'core', 'domino', 'daft', 'fishertune', 'datasets', 'models', 'evaluation', 'optim', 'hooks', 'doctor', 'analysis',
    'experiments',
)  # fmt: skip
PURE = ('domino', 'daft', 'fishertune')
FOREIGN = ('mmengine', 'mmcv', 'mmseg', 'matplotlib')


def modules(folder=ROOT / 'mmseg_dafm'):
    return {path: '.'.join(path.relative_to(ROOT).with_suffix('').parts) for path in sorted(folder.rglob('*.py'))}


def imported(path):
    """Names of this package's modules that a file imports, functions' own imports among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith('mmseg_dafm.'):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith('mmseg_dafm.'))


def test_arrows_point_one_way():
    wrong = []
    for path, name in modules().items():
        room = name.split('.')[1]
        if room in ('__init__', 'bn'):
            continue
        for other in imported(path):
            target = other.split('.')[1]
            allowed = ('core',) if room in PURE else ORDER[: ORDER.index(room)]
            if target != room and target not in allowed:
                wrong.append(f'{name} imports {other}')
    assert wrong == []


def test_every_folder_of_the_package_is_in_the_order():
    folders = {path.parent.name for path in (ROOT / 'mmseg_dafm').glob('*/__init__.py')}
    assert folders == {*ORDER, 'bn'}


@pytest.mark.slow
@pytest.mark.parametrize('room', PURE)
def test_the_papers_need_torch_alone(room):
    """In a process where OpenMMLab and matplotlib cannot be imported."""
    names = [name.removesuffix('.__init__') for path, name in modules(ROOT / 'mmseg_dafm' / room).items()]
    code = (
        'import importlib, sys\n'
        'class Blocked:\n'
        '    def find_spec(self, name, *rest):\n'
        f'        if name.split(".")[0] in {FOREIGN}: raise ModuleNotFoundError(name)\n'
        'sys.meta_path.insert(0, Blocked())\n'
        'import importlib.util as util\n'
        'real = util.find_spec\n'
        f'util.find_spec = lambda name, *rest: None if name in {FOREIGN} else real(name, *rest)\n'
        f'for name in {names}: importlib.import_module(name)\n'
    )
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('room', PURE)
def test_the_table_of_a_room_names_what_is_there(room):
    package = importlib.import_module(f'mmseg_dafm.{room}')
    rows = [line for line in package.__doc__.splitlines() if line.startswith('| ') and '.py' in line]
    assert len(rows) >= 5
    for row in rows:
        files = re.findall(r'(\w+)\.py', row)
        names = re.findall(r'`(\w+)`', row)
        assert names
        found = [importlib.import_module(f'mmseg_dafm.{room}.{file}') for file in files]
        for name in names:
            assert any(hasattr(module, name) for module in found), row


def test_the_old_name_of_batch_norm_conversion_still_works():
    sys.modules.pop('mmseg_dafm.bn', None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        old = importlib.import_module('mmseg_dafm.bn')
    assert old.convert_bn is importlib.import_module('mmseg_dafm.daft').convert_bn
    assert any(issubclass(each.category, DeprecationWarning) and 'mmseg_dafm.daft' in str(each.message) for each in caught)
