"""The toy suite's runs on the tiny ViT."""

import json

import pytest

from tests.experiments.suites.toy_runs import check_runs


@pytest.mark.slow
def test_every_run_trains_from_where_the_suite_says_and_gives_the_columns(root, tmp_path):
    # LoRA is peft's
    pytest.importorskip('peft')
    check_runs(root, tmp_path, 'vit')
    chosen = [json.loads((tmp_path / f'vit_{name}_seed0/fisher_selection.json').read_text()) for name in ('rank', 'F', 'dF')]
    assert (tmp_path / 'vit_rank_seed0/dr_fim.safetensors').is_file()
    assert not (tmp_path / 'vit_F_seed0/dr_fim.safetensors').is_file(), 'the scores of rank are shared'
    assert chosen[1] != chosen[2]
