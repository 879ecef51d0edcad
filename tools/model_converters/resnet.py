"""Convert a published ResNet-50 to mmseg's names: python tools/model_converters/resnet.py IN OUT.pth.

IN is an official checkpoint: MoCo-v2 (moco_v2_800ep_pretrain.pth.tar), SwAV (swav_800ep_pretrain.pth.tar), torchvision
(resnet50-*.pth) or CLIP (RN50.pt, a jit archive, or its state dict). OUT.pth is for the backbone's init_cfg:
dict(type='Pretrained', checkpoint='OUT.pth') in type='ResNet', depth=50; for CLIP in type='TIMMBackbone',
model_name='resnet50_clip.openai', features_only=True, pretrained=False. An incomplete checkpoint is refused.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from mmseg_dafm.core.checkpoint import TrustCheckpoint, read_checkpoint, state_dict_of
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.models.backbones.resnet_weights import FORMATS, convert_resnet50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='official checkpoint')
    parser.add_argument('target', type=Path, help='file to write (.pth)')
    parser.add_argument('--format', choices=['auto', *FORMATS], default='auto')
    parser.add_argument('--list', action='store_true', help='print every key that is taken or dropped')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    args = parser.parse_args()
    try:
        writable_folder(args.target.parent, 'the folder of OUT.pth,')
        converted = convert_resnet50(state_dict_of(read_checkpoint(args.source)), args.format)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    print(converted)
    if args.list:
        print('\n'.join(f'{old} -> {new}' for new, old in converted.taken.items()))
        print('\n'.join(f'{old} dropped' for old in converted.dropped))
    with replacing(args.target) as path:
        torch.save({'state_dict': converted.state, 'meta': dict(source=args.source.name, format=converted.format)}, path)
    print(f'written to {args.target}')


if __name__ == '__main__':
    main()
