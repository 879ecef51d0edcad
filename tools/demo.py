"""Paint predictions over an image, a folder of images or a video: python tools/demo.py INPUT [CONFIG] CHECKPOINT --out DIR.

Without CONFIG, the one that the checkpoint was trained with is taken from it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import cv2
import numpy as np
import torch
from mmseg.apis import inference_model, init_model
from rich.progress import track

from mmseg_dafm.analysis.domain_explorer import IMAGE_SUFFIXES
from mmseg_dafm.analysis.qualitative import paint_labels
from mmseg_dafm.core.checkpoint import TrustCheckpoint, read_checkpoint
from mmseg_dafm.core.config_file import ConfigOptions, load_config, stored_config
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.core.fit import load_weights
from mmseg_dafm.core.image_files import visible
from mmseg_dafm.core.tool_output import one_sentence
from mmseg_dafm.doctor.config_check import check_config

# mmseg's inference_model takes the pipeline from this variable
READ = frozenset(('test_pipeline',))
VIDEO_SUFFIXES = {'.mp4', '.avi', '.mov', '.mkv', '.webm'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Paint predictions over images or a video.')
    parser.add_argument('input', help='image, folder of images, or video')
    parser.add_argument('config', nargs='?', help="config file (default: the checkpoint's own config)")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', default='demo', help='folder for the painted images or the video')
    parser.add_argument('--opacity', type=float, default=0.5, help='share of the class colour, 0 to 1')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--device', default='cuda:0' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='KEY=VALUE changes to the config')
    return parser.parse_args()


def output_names(paths: list[Path]) -> list[str]:
    """Name each picture's output after its stem, or after its whole name where stems are equal.

    Raises:
        ValueError: If two outputs would still have one name.
    """
    stems = [path.stem for path in paths]
    names = [path.name if stems.count(path.stem) > 1 else path.stem for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f'two images would both be painted to {twice[0]}.png: rename one of them')
    return names


def paint_images(paths: list[Path], out: Path, paint: Callable[[np.ndarray], np.ndarray]) -> None:
    for path, name in track(list(zip(paths, output_names(paths), strict=True)), 'images'):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f'{path} cannot be read as an image')
        with replacing(out / f'{name}.png') as temporary:
            cv2.imwrite(str(temporary), paint(image))


def frames_from(capture: cv2.VideoCapture, frame: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a frame that was read already, and all that follow."""
    good = True
    while good:
        yield frame
        good, frame = capture.read()


def paint_video(path: Path, out: Path, paint: Callable[[np.ndarray], np.ndarray]) -> None:
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    good, frame = capture.read()
    if not good:
        raise ValueError(f'{path} cannot be read as a video')
    temporary = out / f'{path.stem}.tmp.mp4'
    rate = capture.get(cv2.CAP_PROP_FPS) or 25
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*'mp4v'), rate, frame.shape[1::-1])
    # The frame count of a video's header can be wrong or missing (0 or less), so the end is where reading stops.
    for image in track(frames_from(capture, frame), 'frames', total=count if count > 0 else None):
        writer.write(paint(image))
    writer.release()
    capture.release()
    os.replace(temporary, out / f'{path.stem}.mp4')


def main() -> None:
    args = parse_args()
    source, out = Path(args.input), Path(args.out)
    for path in (source, Path(args.checkpoint)):
        if not path.exists():
            raise SystemExit(f'error: {path} does not exist')
    paths = visible(source.iterdir(), source) if source.is_dir() else [source]
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images and source.suffix.lower() not in VIDEO_SUFFIXES:
        raise SystemExit(f'error: {source} is neither an image, a video nor a folder of images')

    if args.config is not None:
        cfg = load_config(args.config, args.cfg_options, READ)
    else:
        meta = read_checkpoint(args.checkpoint).get('meta') or {}
        cfg = stored_config(meta, args.checkpoint, args.cfg_options, READ)
    check_config(cfg, ())
    out = writable_folder(out, '--out')
    model = init_model(cfg, device='cpu')
    meta = load_weights(model, args.checkpoint).get('meta') or {}
    model.dataset_meta = meta.get('dataset_meta') or model.dataset_meta
    model.to(args.device)
    # The palette is RGB, OpenCV's images are BGR.
    palette = np.asarray(model.dataset_meta['palette'])[:, ::-1]

    def paint(image: np.ndarray) -> np.ndarray:
        labels = inference_model(model, image).pred_sem_seg.data[0].cpu().numpy()
        return paint_labels(image, labels, palette, args.opacity)

    out.mkdir(parents=True, exist_ok=True)
    if images:
        paint_images(images, out, paint)
    else:
        paint_video(source, out, paint)
    print(f'wrote {len(images) or 1} {"images" if images else "video"} to {out}')


if __name__ == '__main__':
    with one_sentence():
        main()
