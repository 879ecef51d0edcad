"""Each registered class of the package is in a config, in a test and in docs/components.md."""

import re
from pathlib import Path

import mmseg.registry
import pytest
from mmengine.registry import Registry

ROOT = Path(__file__).resolve().parents[2]


def registered() -> list[str]:
    registries = [value for value in vars(mmseg.registry).values() if isinstance(value, Registry)]
    return sorted(
        name
        for registry in registries
        for name, item in registry.module_dict.items()
        if item.__module__.split('.')[0] == 'mmseg_dafm'
    )


def words(paths) -> set[str]:
    return set(re.findall(r'\w+', '\n'.join(path.read_text() for path in paths)))


def test_components_are_registered():
    assert len(registered()) >= 12


@pytest.fixture(scope='module')
def places():
    return {
        'a config': words((ROOT / 'configs').rglob('*.py')),
        'a test': words(path for path in (ROOT / 'tests').rglob('*.py') if path != Path(__file__)),
        'docs/components.md': words([ROOT / 'docs/components.md']),
    }


@pytest.mark.parametrize('name', registered())
def test_component_is_configured_tested_and_described(places, name):
    assert [place for place, found in places.items() if name not in found] == []
