"""The README is short, its snippets run as printed, and the links, commands and configs of all pages exist."""

import json
import re

import pytest
import torch
import torchvision
from mmengine.config import Config
from torch import nn

import mmseg_dafm
from tests.configs.test_registry import registered
from tests.docs.snippets import block_with, blocks, save
from tests.tools.tiny import run_main

LINK = re.compile(r'\]\(([^)\s]+)\)')
PAGES = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')
SHORT = {
    'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2,
    'val_dataloader.dataset.length': 5,
}  # fmt: skip


def pages(root) -> list:
    return [*(root / name for name in PAGES), *sorted((root / 'docs').glob('*.md'))]


def anchors(page) -> set[str]:
    """The anchors that GitHub gives the titles of a page."""
    titles = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).strip().replace(' ', '-') for title in titles}


def test_it_fits_three_minutes(root):
    lines = (root / 'README.md').read_text(encoding='utf-8').splitlines()
    assert len(lines) <= 170
    assert max(map(len, lines)) <= 150


def test_links_lead_somewhere(root):
    broken = []
    for page in pages(root):
        for link in LINK.findall(page.read_text(encoding='utf-8')):
            if link.startswith('http'):
                continue
            name, _, anchor = link.partition('#')
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f'{page.name}: {link}')
    assert broken == []


def test_printed_commands_and_configs_exist(root):
    missing = []
    for page in pages(root):
        text = page.read_text(encoding='utf-8')
        for path in re.findall(r'(?<![\w/.])((?:configs|tools|requirements)/[a-z0-9_/-]+\.(?:py|sh|txt))', text):
            if not (root / path).is_file():
                missing.append(f'{page.name}: {path}')
    assert missing == []


def test_ci_runs_the_commands_of_the_readme(root):
    ci = (root / '.ci/run').read_text(encoding='utf-8')
    install, quickstart = block_with(root / 'README.md', 'pip install', 'bash').strip().split(' && ')
    assert install.replace('pip install', '    pip install -q') in ci.splitlines()
    assert f"QUICKSTART='{quickstart} " in ci
    assert re.search(r"part 'tests' pytest\b", ci)


def test_one_version(root):
    assert f'version: {mmseg_dafm.__version__}' in (root / 'CITATION.cff').read_text(encoding='utf-8').splitlines()
    assert f'## {mmseg_dafm.__version__} ' in (root / 'CHANGELOG.md').read_text(encoding='utf-8')


def test_results_are_those_of_the_results_page(root):
    """Each number of the README's table stands in docs/results.md."""
    results = (root / 'docs/results.md').read_text(encoding='utf-8')
    rows = [line for line in (root / 'README.md').read_text(encoding='utf-8').splitlines() if re.search(r'\d\d\.\d', line)]
    numbers = re.findall(r'\d+\.\d+ ± \d+\.\d+|\d\d\.\d\d', '\n'.join(row for row in rows if row.startswith('|')))
    assert len(numbers) == 14
    assert [number for number in numbers if number not in results] == []


def test_quoted_messages_are_those_of_the_package(root):
    """The messages of the troubleshooting page, but for those of other packages, stand in our code."""
    code = '\n'.join(path.read_text(encoding='utf-8') for path in (root / 'mmseg_dafm').rglob('*.py'))
    # literals that are continued on the next line are one text
    code = re.sub(r"""['"]\s*\n\s*f?['"]""", '', code)
    rows = re.findall(r'^\| `([^`]+)` \|', (root / 'docs/troubleshooting.md').read_text(encoding='utf-8'), re.MULTILINE)
    upstream = ('mmseg::model registry', 'torchvision::nms', 'MMCV==')
    own = [row for row in rows if not any(part in row for part in upstream)]
    parts = {part.strip() for row in own for part in re.split(r'\.\.\.|loss=nan|pretrained=', row)} - {'', ':'}
    assert len(own) >= 8
    assert sorted(part for part in parts if part not in code) == []


@pytest.mark.slow
def test_the_domino_snippet_trains(root, tmp_path, monkeypatch):
    config = save(tmp_path, root, 'my_domino.py', block_with(root / 'README.md', '# my_domino.py'))
    monkeypatch.chdir(tmp_path)
    run_main(root / 'tools/train.py', monkeypatch, config, '--cfg-options', *(f'{key}={value}' for key, value in SHORT.items()))
    state = torch.load(tmp_path / 'work_dirs/my_domino/iter_2.pth', weights_only=False)['state_dict']
    assert any(key.startswith('domain_embedding.image_encoder.') for key in state)
    assert any(key.startswith('decode_head.convs.0.bn.') for key in state)


@pytest.mark.slow
def test_the_fishertune_snippet_trains(root, tmp_path, monkeypatch):
    config = save(tmp_path, root, 'my_fishertune.py', block_with(root / 'README.md', '# my_fishertune.py'))
    hook = {'warmup_iters': 1, 'interval': 1, 'estimation.images': 4, 'estimation.bank_images': 4}
    changes = {**SHORT, **{f'custom_hooks.0.{key}': value for key, value in hook.items()}}
    monkeypatch.chdir(tmp_path)
    run_main(root / 'tools/train.py', monkeypatch, config, '--cfg-options', *(f'{key}={value}' for key, value in changes.items()))
    assert json.loads((tmp_path / 'work_dirs/my_fishertune/fisher_selection.json').read_text())


def test_the_daft_snippet_converts(root, monkeypatch, capsys):
    """The printed lines, with a network of random weights whose batch norms have seen data in place of the download."""

    def resnet(weights):
        assert weights == 'DEFAULT'
        model = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
        return model

    monkeypatch.setattr(torchvision.models, 'resnet50', resnet)
    found = {}
    exec(block_with(root / 'README.md', 'convert_bn'), found)  # noqa: S102 (what the page prints)
    assert 'layer1.0.bn1' in capsys.readouterr().out
    assert not torch.equal(found['model'].bn1.running_mean, resnet('DEFAULT').bn1.running_mean)


def types(node):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key in ('type', 'constructor') and isinstance(value, str):
            yield value
        if isinstance(value, dict | list | tuple):
            yield from types(value)


@pytest.mark.parametrize('page', ['domino', 'daft', 'fishertune'])
def test_printed_configs_name_registered_components(root, page):
    for block in blocks(root / f'docs/{page}.md', 'python'):
        cfg = Config.fromstring(block, '.py')
        assert cfg.custom_imports.imports == ['mmseg_dafm']
        ours = {kind for kind in types(cfg.to_dict()) if kind.startswith(('Domain', 'Domino', 'BN', 'DAFT', 'Fisher'))}
        assert ours
        assert ours <= set(registered())
