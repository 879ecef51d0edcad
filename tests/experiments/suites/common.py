"""Suites of the tests: files, results as `DomainIoUMetric` writes them, and tools that take no time."""

import json
from pathlib import Path

CONFIG = """
model = dict(type='EncoderDecoder', backbone=dict(depth=18, init_cfg=dict(checkpoint='old/place/weights.pth')))
data = dict(data_root='here')
hooks = [dict(type='X')]
train_dataloader = dict(batch_size=4)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=20)
"""


def write_suite(folder: Path, text: str) -> Path:
    """A suite file beside a config.py that it may name as {config}."""
    (folder / 'config.py').write_text(CONFIG)
    path = folder / 'suite.py'
    path.write_text(text.replace('CONFIG', repr(str(folder / 'config.py'))))
    return path


def scores(classes=('a', 'b'), mean=None, percent=None, protocol=None, **domains) -> dict:
    """The content of a result file: domain -> mIoU, or the list of IoUs; None is what nan becomes."""

    def one(value):
        ious = value if isinstance(value, list) else [value] * len(classes)
        known = [iou for iou in ious if iou is not None]
        return {'mIoU': sum(known) / len(known) if known else None, 'IoU': ious}

    stamp = dict(data=['X'], scales=['(64, 64)'], mode='whole', crop='none', stride='none', tta=False,
                 checkpoint='iter_20.pth', mmseg_dafm='1', torch='2')  # fmt: skip
    summary = {'domains': {name: one(value) for name, value in domains.items()}, 'pooled': one(50.0)}
    summary.update(target=one(40.0), mean=mean, percent=percent)
    return {'classes': list(classes), 'summary': summary, 'protocol': {**stamp, **(protocol or {})}}


def write_scores(folder: Path, name: str = 'domain_iou_iter_20.json', **given) -> Path:
    """A folder of a run that was trained and tested."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(scores(**given)))
    return folder


def tool(folder: Path, text: str, name: str = 'tool.py') -> str:
    """A script; its path is absolute, so it is found in place of one of tools/."""
    path = folder / name
    path.write_text('import json, os, sys, time\nfrom pathlib import Path\nout = Path(sys.argv[1])\n' + text)
    return str(path)
