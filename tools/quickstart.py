"""Train, test and look, on drawn street scenes: python tools/quickstart.py. Two minutes on two CPU cores, no download."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CONFIG = ROOT / 'configs/quickstart/domino_sub_toydrive.py'


def train(work_dir: Path) -> Path:
    """Train and validate by tools/train.py, showing its progress only, and return the last checkpoint.

    Raises:
        SystemExit: With the last lines of the training's output, if it fails.
    """
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(CONFIG), '--work-dir', str(work_dir)]
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / 'quickstart.log'
    print(f'training; all that it says goes to {path}', flush=True)
    with (
        path.open('w', encoding='utf-8') as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'},
            encoding='utf-8',
            errors='replace',
        ) as process,
    ):
        for line in process.stdout:
            log.write(line)
            log.flush()
            if 'Iter(' in line:
                print(line[line.index('Iter(') :].rstrip(), flush=True)
    if process.returncode:
        last = '\n'.join(path.read_text(encoding='utf-8').splitlines()[-20:])
        raise SystemExit(f'{last}\nerror: the training stopped; the lines above are the last of {path}')
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def draw(checkpoint: Path, picture: Path) -> None:
    """Draw one test scene in all five conditions with its label and prediction."""
    import torch
    from mmengine.dataset import pseudo_collate
    from mmseg.apis import init_model
    from mmseg.registry import DATASETS

    from mmseg_dafm.analysis.qualitative import Row, draw_grid

    model = init_model(str(CONFIG), str(checkpoint), device='cpu')
    dataset = DATASETS.build(model.cfg.val_dataloader.dataset)
    conditions = model.cfg.val_dataloader.dataset.conditions
    rows = []
    for index, condition in enumerate(conditions):
        sample = dataset[len(conditions) + index]
        with torch.no_grad():
            result = model.test_step(pseudo_collate([sample]))[0]
        image = sample['inputs'].numpy()[::-1].transpose(1, 2, 0)
        label, prediction = (item.data[0].numpy() for item in (result.gt_sem_seg, result.pred_sem_seg))
        rows.append(Row(condition, image, label, {'prediction': prediction}))
    draw_grid(rows, dataset.metainfo['classes'], dataset.metainfo['palette'], picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'))
    args = parser.parse_args()
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    from mmseg_dafm.core.files import writable_folder

    try:
        writable_folder(args.work_dir, '--work-dir')
    except ValueError as error:
        raise SystemExit(f'error: {error}') from None
    start = time.time()
    checkpoint = train(args.work_dir)
    picture = args.work_dir / 'picture.png'
    draw(checkpoint, picture)
    print('\n' + (args.work_dir / 'domain_iou.md').read_text())
    print(f'table: {args.work_dir}/domain_iou.md\npicture: {picture}\n{time.time() - start:.0f} s in all')


if __name__ == '__main__':
    main()
