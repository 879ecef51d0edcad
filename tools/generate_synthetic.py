"""Make synthetic street scenes from label maps: python tools/generate_synthetic.py --labels data/cityscapes/gtFine/train.

One image per layout and domain, by Stable Diffusion with a ControlNet for segmentation, lies then in
OUT/DOMAIN/<city>/<city>_<seq>_<frame>.png, where RealSyntheticMix finds it. An interrupted run goes on; torchrun shares the
work among GPUs. --import FOLDER --domains night takes over what another generator, such as ALDM, made for the same labels.
"""

import argparse
import os
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from mmseg_dafm.core.files import data_root, writable_folder
from mmseg_dafm.core.image_files import is_whole_png
from mmseg_dafm.core.tool_output import track
from mmseg_dafm.experiments.synthesis.generate import DTYPES, Settings, check_device, check_models, generate, load_pipeline
from mmseg_dafm.experiments.synthesis.imported_images import check_images, import_images, match_images
from mmseg_dafm.experiments.synthesis.layouts import CITYSCAPES_PATTERN, PALETTES, Layout, check_labels, find_layouts
from mmseg_dafm.experiments.synthesis.manifest import claim, draw_sheet
from mmseg_dafm.experiments.synthesis.plan import SCENES, chosen_scenes, plan

SHEET = 'contact_sheet.png'


def parse_args() -> argparse.Namespace:
    environment = os.environ
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--labels', type=Path, help='label maps of train ids (default: gtFine/train of Cityscapes)')
    parser.add_argument('--pattern', default=CITYSCAPES_PATTERN, help=f'files below --labels (default: {CITYSCAPES_PATTERN})')
    out = Path(environment.get('SYNTHETIC_ROOT') or 'data/cityscapes_synthetic').expanduser()
    parser.add_argument('--out', type=Path, default=out, help='SYNTHETIC_ROOT of the configs (default: %(default)s)')
    parser.add_argument('--limit', type=int, help='take the first layouts only, for a look')
    words = parser.add_argument_group('domains')
    words.add_argument('--domains', '--domain', nargs='+', help=f'which (default: {" ".join(SCENES)}, and those of --prompts)')
    words.add_argument('--prompts', nargs='+', default=[], metavar="NAME='words'", help='own domains, or other words for one')
    words.add_argument('--domains-per-layout', type=int, help='domains per layout, in turn (default: all)')
    words.add_argument('--template', default=Settings.template, help='sentence (default: "%(default)s")')
    words.add_argument('--negative-prompt', default=Settings.negative_prompt)
    models = parser.add_argument_group('models')
    models.add_argument('--pretrained', default=Settings.pretrained, help='hub id or folder (default: %(default)s)')
    models.add_argument('--controlnet', default=Settings.controlnet, help='hub id or folder (default: %(default)s)')
    models.add_argument('--palette', choices=PALETTES, default=Settings.palette, help='colours that the ControlNet knows')
    size = [Settings.height, Settings.width]
    models.add_argument('--size', type=int, nargs=2, default=size, metavar=('H', 'W'), help='default: 512 1024')
    models.add_argument('--steps', type=int, default=Settings.steps, help='DDIM steps (default: %(default)s)')
    models.add_argument('--guidance', type=float, default=Settings.guidance, help='default: %(default)s')
    models.add_argument('--control-scale', type=float, default=Settings.control_scale, help='default: %(default)s')
    models.add_argument('--seed', type=int, default=Settings.seed)
    models.add_argument('--dtype', choices=DTYPES, help='default: float16 on a GPU, else float32')
    models.add_argument('--device', help='default: the GPU that torchrun gives, or the first, or cpu')
    models.add_argument('--batch-size', type=int, default=1, help='images at a time; changes their last bits at the most')
    models.add_argument('--rank', type=int, default=int(environment.get('RANK', 0)), help="default: torchrun's, or 0")
    models.add_argument('--world-size', type=int, default=int(environment.get('WORLD_SIZE', 1)), help="default: torchrun's, or 1")
    other = parser.add_argument_group('images of another generator')
    other.add_argument(
        '--import', type=Path, dest='source', metavar='FOLDER', help="images whose names begin with a layout's stem"
    )
    other.add_argument('--link', action='store_true', help='link PNG files instead of copying them')
    return parser.parse_args()


def make(args: argparse.Namespace, layouts: list[Layout]) -> None:
    """Make what is missing of this process's share."""
    device = args.device or (f'cuda:{os.environ.get("LOCAL_RANK", 0)}' if torch.cuda.is_available() else 'cpu')
    settings = Settings(
        args.pretrained, args.controlnet, args.palette, *args.size, args.steps, args.guidance, args.control_scale,
        args.template, args.negative_prompt, args.seed, args.dtype or ('float32' if device == 'cpu' else 'float16'),
    )  # fmt: skip
    if args.batch_size < 1:
        raise ValueError(f'--batch-size must be 1 or more, got {args.batch_size}.')
    check_device(device)
    scenes = chosen_scenes(args.domains, args.prompts)
    jobs = plan(layouts, list(scenes), args.out, args.rank, args.world_size, args.domains_per_layout)
    for domain in sorted({job.domain for job in jobs}):
        claim(args.out / domain, settings.manifest(domain, scenes[domain]))
    missing = [job for job in jobs if not is_whole_png(job.target)]
    name = f'rank {args.rank} of {args.world_size}: ' if args.world_size > 1 else ''
    print(f'{name}{len(missing)} of {len(jobs)} images are missing', flush=True)
    if missing:
        # the same sentences for all processes, before the long reading of labels
        check_models(args.pretrained, args.controlnet)
        check_labels(sorted({job.layout.path for job in missing}), args.size, print)
        pipeline = load_pipeline(args.pretrained, args.controlnet, settings.dtype, device)
        for _ in track(generate(missing, scenes, settings, pipeline, args.batch_size), len(missing), f'{name}images', print):
            pass


def take_over(args: argparse.Namespace, layouts: list[Layout]) -> None:
    """Take over the images of another generator."""
    if len(args.domains or ()) != 1 or args.prompts:
        raise ValueError(
            f'--import needs the one domain of its images, such as --domain night, and no --prompts; got {args.domains}.'
        )
    (domain,) = chosen_scenes(args.domains, [f'{args.domains[0]}=imported'])
    found, others = match_images(args.source, layouts)
    check_images(found, print)
    claim(args.out / domain, {'domain': domain, 'imported_from': str(args.source)})
    for _ in track(import_images(found, args.out, domain, args.link), len(found), 'images', print):
        pass
    print(f'{domain}: {len(found)} of {len(layouts)} layouts have an image; {len(others)} images belong to no layout')


def main() -> None:
    args = parse_args()
    try:
        labels = args.labels or Path(data_root('cityscapes')) / 'gtFine/train'
        if args.limit is not None and args.limit < 1:
            raise ValueError(f'--limit must be 1 or more, got {args.limit}.')
        writable_folder(args.out, '--out')
        layouts = find_layouts(labels, args.pattern)[: args.limit]
        (make if args.source is None else take_over)(args, layouts)
        # by each process, so that the last one draws what all have made
        if draw_sheet(layouts, args.out, args.out / SHEET, args.palette):
            print(f'look at {args.out / SHEET}')
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
    main()
