"""Convert an official VPD segmentation checkpoint: python tools/model_converters/vpd_official.py IN.pth OUT.pth.

The result runs under configs/domino/vpd_legacy_ade20k.py. A checkpoint that does not fill that model completely is refused.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmseg_dafm  # noqa: F401 (registers the components)
from mmseg_dafm.core.checkpoint import TrustCheckpoint, read_weights
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.core.fit import require_fit
from mmseg_dafm.models.backbones.sd_weights import convert_vpd_checkpoint, resolve_architecture

CONFIG = Path(__file__).resolve().parents[2] / 'configs/domino/vpd_legacy_ade20k.py'


def check_complete(state: dict, architecture: dict, source: str) -> None:
    """Compare converted weights with the model that they are for, which holds no memory here.

    Raises:
        ValueError: If a tensor is missing, has another shape, or has no place in the model.
    """
    embeddings = state.get('backbone.class_embeddings')
    if embeddings is None:
        raise ValueError(f'{source} holds no class_embeddings: it is incomplete.')
    classes, width = embeddings.shape
    init_default_scope('mmseg')
    model = Config.fromfile(CONFIG).model
    model.backbone.update(architecture=architecture, pretrained=None)
    model.backbone.class_embeddings = dict(provider='hash', classes=[str(index) for index in range(classes)], dim=width)
    model.decode_head.num_classes = classes
    try:
        with torch.device('meta'):
            model = MODELS.build(model)
    except ValueError as error:
        raise ValueError(f'{source} is not of this --architecture: {error}') from None
    fit = require_fit(model, state, source)
    if fit.left:
        raise ValueError(
            f'{source} holds {len(fit.left)} tensors without a place in VPD ({fit.left[0]}): it is of another model.'
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='official checkpoint (.pth)')
    parser.add_argument('target', type=Path, help='file to write (.pth)')
    parser.add_argument('--architecture', default='sd1.5')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    args = parser.parse_args()
    try:
        writable_folder(args.target.parent, 'the folder of OUT.pth,')
        parts = resolve_architecture(args.architecture)
        state, dropped = convert_vpd_checkpoint(read_weights(args.source), parts['unet'], parts['vae'])
        check_complete(state, parts, args.source)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    with replacing(args.target) as temporary:
        torch.save({'state_dict': state, 'meta': {}}, temporary)
    print(f'{len(state)} tensors written to {args.target}, {len(dropped)} left out (schedule, decoder, output layers)')


if __name__ == '__main__':
    main()
