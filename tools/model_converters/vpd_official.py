"""Convert an official VPD segmentation checkpoint: python tools/model_converters/vpd_official.py IN.pth OUT.pth.

The result runs under configs/domino/vpd_legacy_ade20k.py.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from mmseg_dafm.files import replacing, writable_folder
from mmseg_dafm.models.backbones.sd_architectures import resolve_architecture
from mmseg_dafm.models.backbones.sd_weights import read_state_dict
from mmseg_dafm.models.backbones.vpd_official import convert_vpd_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='official checkpoint (.pth)')
    parser.add_argument('target', type=Path, help='file to write (.pth)')
    parser.add_argument('--architecture', default='sd1.5')
    args = parser.parse_args()
    try:
        writable_folder(args.target.parent, 'the folder of OUT.pth,')
        if not Path(args.source).is_file():
            raise FileNotFoundError(f'{args.source} does not exist')
        parts = resolve_architecture(args.architecture)
        state, dropped = convert_vpd_checkpoint(read_state_dict(args.source), parts['unet'], parts['vae'])
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    with replacing(args.target) as temporary:
        torch.save({'state_dict': state, 'meta': {}}, temporary)
    print(f'{len(state)} tensors written to {args.target}, {len(dropped)} left out (schedule, decoder, output layers)')


if __name__ == '__main__':
    main()
