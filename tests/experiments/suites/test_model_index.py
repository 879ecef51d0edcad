"""model-index.yml lists the suites' configs, and no number that was not measured."""

import re
from pathlib import Path

import yaml

from mmseg_dafm.experiments.suites.suite_load import load_suite

ROOT = Path(__file__).resolve().parents[3]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())


def listed_suites():
    return [load_suite(path) for path in sorted((ROOT / 'configs/suites').glob('*.py')) if path.stem != 'toydrive']


def test_every_config_of_the_suites_is_listed_once_and_exists():
    configs = [model['Config'] for model in INDEX['Models']]
    assert len(set(configs)) == len(configs)
    assert [path for path in configs if not (ROOT / path).is_file()] == []
    rows = {run.config for suite in listed_suites() for run in suite.runs if run.kind == 'config' and run.row is not None}
    assert set(configs) == rows


def test_every_model_has_a_collection_tasks_and_data_sets():
    collections = {entry['Name'] for entry in INDEX['Collections']}
    assert len({model['Name'] for model in INDEX['Models']}) == len(INDEX['Models'])
    for model in INDEX['Models']:
        assert model['In Collection'] in collections
        assert Path(model['Config']).stem == model['Name']
        assert model['Results']
        for result in model['Results']:
            assert result['Task'] == 'Semantic Segmentation'
            assert result['Dataset']


def test_metrics_are_those_of_the_results_and_only_of_the_street_experiments():
    text = (ROOT / 'docs/results.md').read_text()
    measured = {}
    for suite in listed_suites():
        if Path(suite.file).stem.startswith('street'):
            for run in suite.runs:
                if run.kind == 'config' and run.row is not None:
                    # a row of the results begins with its title and has spreads
                    line = next(
                        line for line in text.splitlines() if line.startswith(f'| {run.title or run.name} |') and '±' in line
                    )
                    measured.setdefault(run.config, []).append(re.findall(r'(\d+\.\d+) ±', line))
    found = {model['Config']: [r['Metrics']['mIoU'] for r in model['Results'] if 'Metrics' in r] for model in INDEX['Models']}
    assert {config for config, numbers in found.items() if numbers} == set(measured)
    for config, rows in measured.items():
        numbers = found[config]
        assert any([float(text) for text in row[: len(numbers)]] == numbers for row in rows), config
