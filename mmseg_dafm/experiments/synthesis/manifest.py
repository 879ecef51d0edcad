"""What a folder of synthetic images was made with."""

import json
from collections.abc import Mapping
from pathlib import Path

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import visible

NAME = 'manifest.json'
# Entries that may be folders; one folder has many names.
SOURCES = ('pretrained', 'controlnet', 'imported_from')


def read_manifest(folder: Path) -> dict | None:
    """The manifest of a domain's folder, or None where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is no JSON ({error}); restore it, or choose another --out.') from None
    if not isinstance(manifest, dict):
        raise ValueError(f'{path} must hold a JSON object, got a {type(manifest).__name__}; restore it, or choose another --out.')
    return manifest


def with_full_paths(manifest: dict) -> dict:
    """A manifest whose local folders are absolute, without links; hub ids stay."""
    folders = {key: manifest[key] for key in SOURCES if isinstance(manifest.get(key), str) and Path(manifest[key]).is_dir()}
    return manifest | {key: str(Path(folder).resolve()) for key, folder in folders.items()}


def claim(folder: Path, manifest: Mapping) -> None:
    """Record what the images of a domain are made with, and refuse a folder whose images were made otherwise.

    Each process calls it before its first image. A manifest without any image yet is replaced.

    Args:
        folder: the domain's folder, made if missing.
        manifest: names and plain values.

    Raises:
        ValueError: the folder holds images with another manifest or with none, or cannot be written.
    """
    manifest = with_full_paths(json.loads(json.dumps(manifest)))
    if visible(folder.glob('**/*.png'), folder):
        begun = read_manifest(folder)
        if begun is None:
            raise ValueError(
                f'{folder} holds images but no {NAME}, so nobody knows how they were made: choose another --out, or take them '
                f'over from elsewhere with --import.'
            )
        begun = with_full_paths(begun)
        keys = [key for key in sorted({*begun, *manifest}) if begun.get(key) != manifest.get(key)]
        if keys:
            then = ', '.join(f'{key} = {begun.get(key)!r} (now {manifest.get(key)!r})' for key in keys)
            raise ValueError(f'{folder} was begun with {then}: go on with what it was begun with, or choose another --out.')
        return
    try:
        with replacing(folder / NAME) as path:
            path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + '\n', encoding='utf-8')
    except OSError as error:
        raise ValueError(f'--out: {folder} cannot be written ({error}); choose a folder that can be.') from None
