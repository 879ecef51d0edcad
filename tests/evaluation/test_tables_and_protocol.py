"""Summaries, tables and the protocol stamp."""

import csv
import io
import json
import math

import numpy as np
import pytest

from mmseg_dafm import __version__
from mmseg_dafm.core.runner import parse_config
from mmseg_dafm.evaluation.domain_scores import flat_metrics, summarise
from mmseg_dafm.evaluation.protocol import describe_test
from mmseg_dafm.evaluation.tables import to_csv, to_json, to_markdown, write_text

# IoU (1, 1), (1/2, 1/2) and (0, 1/2, gap) by hand.
CLEAR = np.array([[5, 0], [0, 5]])
FOG = np.array([[2, 1], [1, 2]])
NIGHT = np.array([[0, 4], [0, 4]])


def test_percent_is_the_pooled_target_over_the_source():
    """Fog and night pooled: [[2, 5], [1, 6]], IoU 2/8 and 6/12, mean 37.5; the source has 100."""
    summary = summarise(dict(clear=CLEAR, fog=FOG, night=NIGHT), source='clear')
    metrics = flat_metrics(summary)
    assert metrics['mIoU.clear'] == 100
    assert metrics['mIoU.fog'] == 50
    assert metrics['mIoU.night'] == 25
    assert metrics['mIoU.target'] == 37.5
    assert metrics['mIoU%'] == 37.5
    assert metrics['mIoU.mean'] == 37.5
    # Everything pooled: [[7, 5], [1, 11]], IoU 7/13 and 11/17.
    assert metrics['mIoU'] == pytest.approx(100 * (7 / 13 + 11 / 17) / 2, abs=0.005)


def test_chosen_targets_leave_the_others_out():
    summary = summarise(dict(clear=CLEAR, fog=FOG, night=NIGHT), source='clear', target=('fog',))
    assert flat_metrics(summary)['mIoU%'] == 50
    assert flat_metrics(summary)['mIoU.mean'] == 50


def test_without_source_there_is_no_share():
    metrics = flat_metrics(summarise(dict(fog=FOG, night=NIGHT)))
    assert 'mIoU%' not in metrics
    assert metrics['mIoU.mean'] == 37.5


@pytest.mark.parametrize('kwargs', [dict(source='day'), dict(source='clear', target=('fog', 'hail'))])
def test_an_unseen_domain_gives_nan_and_is_listed(kwargs):
    summary = summarise(dict(clear=CLEAR, fog=FOG), **kwargs)
    assert summary['missing'] == [next(iter({'day', 'hail'} & {kwargs['source'], *kwargs.get('target', ())}))]
    metrics = flat_metrics(summary)
    assert all(math.isnan(metrics[key]) for key in ('mIoU%', 'mIoU.target', 'mIoU.mean'))


def test_a_source_that_scores_zero_gives_nan():
    summary = summarise(dict(clear=np.array([[0, 3], [3, 0]]), fog=FOG), source='clear')
    assert math.isnan(summary['percent'])


def three_classes(confusion):
    return np.pad(confusion, (0, 1))


@pytest.fixture
def summary():
    confusions = {name: three_classes(c) for name, c in dict(clear=CLEAR, fog=FOG, night=NIGHT).items()}
    return summarise(confusions, source='clear')


def test_csv_reads_back(summary):
    rows = list(csv.DictReader(io.StringIO(to_csv(summary, ('road', 'car, parked', 'gap')))))
    assert [row['domain'] for row in rows] == ['clear', 'fog', 'night', 'target', 'all']
    assert float(rows[1]['mIoU']) == 50
    assert float(rows[1]['IoU.car, parked']) == 50
    assert rows[1]['IoU.gap'] == ''


def test_json_is_strict_and_complete(summary):
    content = json.loads(to_json(summary, ('a', 'b', 'c'), dict(mode='whole')), parse_constant=pytest.fail)
    assert content['summary']['percent'] == 37.5
    assert content['summary']['domains']['fog']['IoU'] == [50, 50, None]
    assert content['protocol'] == dict(mode='whole')


def test_markdown_tables_are_rectangular(summary):
    text = to_markdown(summary, ('a', 'b', 'c'), dict(data=['x|y', 'z'], mode='whole'))
    for block in text.replace('\\|', '').split('\n\n'):
        widths = {line.count('|') for line in block.splitlines() if line.startswith('|')}
        assert len(widths) <= 1
    assert '| fog | - | 50.00 | 50.00 |' not in text
    assert '| c | - | - | - | - | - |' in text
    assert 'mIoU% (target / clear): 37.50.' in text
    assert '| data | x\\|y, z |' in text


def test_writing_replaces_and_leaves_no_temporary(tmp_path):
    path = tmp_path / 'table.md'
    for text in ('one', 'two'):
        write_text(str(path), text)
    assert path.read_text() == 'two'
    assert [p.name for p in tmp_path.iterdir()] == ['table.md']


PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale_factor=0.5), dict(type='PackDomainInputs')]
CFG = dict(
    model=dict(type='EncoderDecoder', test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341))),
    test_dataloader=dict(
        dataset=dict(
            type='ConcatDataset',
            datasets=[
                dict(type='TaggedCityscapesDataset', data_prefix=dict(img_path='leftImg8bit/val'), pipeline=PIPELINE),
                dict(type='ACDCDataset', conditions=('fog', 'night'), pipeline=PIPELINE),
            ],
        )
    ),
    val_dataloader=dict(dataset=dict(type='ToyDriveDataset', pipeline=[])),
)


def test_protocol_of_a_slide_test():
    stamp = describe_test(CFG, 'test', 'domino_sub_20261101_101010', 'work_dirs/x/iter_8.pth')
    assert stamp['config'] == 'domino_sub'
    assert stamp['checkpoint'] == 'iter_8.pth'
    assert stamp['data'] == ['TaggedCityscapesDataset(leftImg8bit/val)', 'ACDCDataset(fog+night)']
    assert stamp['scales'] == ['0.5']
    assert (stamp['mode'], stamp['crop'], stamp['stride']) == ('slide', (512, 512), (341, 341))
    assert stamp['tta'] is False
    assert stamp['mmseg_dafm'] == __version__


def test_protocol_reads_the_pipeline_of_joined_sets_and_not_the_one_it_replaces():
    parts = [dict(type='ACDCDataset', conditions=('fog',)), dict(type='ToyDriveDataset', pipeline=PIPELINE)]
    pipeline = [dict(type='Resize', scale_factor=0.25)]
    dataset = dict(type='DomainConcatDataset', pipeline=pipeline, datasets=parts)
    stamp = describe_test(dict(test_dataloader=dict(dataset=dataset)), 'test')
    assert stamp['data'] == ['ACDCDataset(fog)', 'ToyDriveDataset']
    assert stamp['scales'] == ['0.25']


def test_protocol_of_test_time_augmentation():
    scales = [dict(type='Resize', scale_factor=f) for f in (0.5, 1.0)]
    pipeline = [dict(type='TestTimeAug', transforms=[scales, [dict(type='PackDomainInputs')]])]
    cfg = dict(
        model=dict(type='SegTTAModel', module=CFG['model']),
        test_dataloader=dict(dataset=dict(type='ToyDriveDataset', pipeline=pipeline)),
    )
    stamp = describe_test(cfg, 'test')
    assert stamp['tta'] is True
    assert stamp['scales'] == ['0.5', '1.0']
    assert stamp['mode'] == 'slide'
    assert stamp['config'] == stamp['checkpoint'] == 'unknown'


def test_validation_names_its_own_data_and_no_checkpoint():
    stamp = describe_test(CFG, 'val')
    assert stamp['data'] == ['ToyDriveDataset']
    assert stamp['checkpoint'] == 'unknown'
    assert stamp['scales'] == 'as stored'


@pytest.mark.parametrize('text', [None, '', 'not a config ('])
def test_protocol_survives_a_missing_or_broken_config(text):
    cfg = parse_config(text)
    assert cfg == {}
    stamp = describe_test(cfg, 'test')
    assert {stamp[key] for key in ('config', 'checkpoint', 'data', 'scales', 'mode', 'crop', 'stride', 'tta')} == {'unknown'}
