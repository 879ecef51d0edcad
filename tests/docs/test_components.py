"""docs/components.md lists what is registered."""

import runpy

import pytest


@pytest.fixture
def script(root):
    return runpy.run_path(str(root / 'docs/make_components.py'))


def test_the_page_is_in_step(root, script):
    assert (root / 'docs/components.md').read_text(encoding='utf-8') == script['page'](), 'run python docs/make_components.py'


def test_no_registry_is_left_out(script):
    import mmseg.registry
    from mmengine.registry import Registry

    registries = {name: value for name, value in vars(mmseg.registry).items() if isinstance(value, Registry)}
    ours = {name for name in registries if script['registered'](name)}
    assert ours == set(script['TABLES'].values())


def test_a_first_line_becomes_markdown(script):
    class Kept:
        """Norm like :class:`~mmseg_dafm.models.layers.DominoNorm` through ``norm_cfg``, a | b.

        More of it.
        """

    assert script['first_line'](Kept) == r'Norm like `DominoNorm` through `norm_cfg`, a \| b'
    Kept.__doc__ = None
    with pytest.raises(ValueError, match='has no docstring'):
        script['first_line'](Kept)
