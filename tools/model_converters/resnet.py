"""Convert a published ResNet-50 to mmseg's names: python tools/model_converters/resnet.py IN OUT.pth.

IN is an official checkpoint: MoCo-v2 (moco_v2_800ep_pretrain.pth.tar), SwAV (swav_800ep_pretrain.pth.tar), torchvision
(resnet50-*.pth) or CLIP (RN50.pt, a jit archive, or its state dict). OUT.pth is for the backbone's init_cfg:
dict(type='Pretrained', checkpoint='OUT.pth') in type='ResNet', depth=50; for CLIP in type='TIMMBackbone',
model_name='resnet50_clip.openai', features_only=True, pretrained=False. An incomplete checkpoint is refused.
"""

import argparse
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from mmseg_dafm.files import replacing, writable_folder
from mmseg_dafm.models.backbones.resnet_weights import FORMATS, convert_resnet50
from mmseg_dafm.models.backbones.sd_weights import read_state_dict


def read(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a checkpoint or of a jit archive, by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    if not _is_jit_archive(path):
        state = read_state_dict(str(path))
        return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    try:
        return torch.jit.load(path, map_location='cpu').state_dict()
    except RuntimeError as error:
        raise ValueError(f'{path} looks like a jit archive but cannot be loaded: {str(error).splitlines()[0]}') from error


def _is_jit_archive(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='official checkpoint')
    parser.add_argument('target', type=Path, help='file to write (.pth)')
    parser.add_argument('--format', choices=['auto', *FORMATS], default='auto')
    parser.add_argument('--list', action='store_true', help='print every key that is taken or dropped')
    args = parser.parse_args()
    try:
        writable_folder(args.target.parent, 'the folder of OUT.pth,')
        converted = convert_resnet50(read(args.source), args.format)
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
