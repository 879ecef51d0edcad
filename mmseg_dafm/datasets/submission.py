"""The archive of predictions that a benchmark's server takes."""

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.tool_output import track
from mmseg_dafm.datasets.classes import CLASSES, label_id_table


class Server(NamedTuple):
    """What a server takes: one 8-bit PNG per image of the test split, of the image's size, named like it.

    Attributes:
        images: number of images of the test split.
        size: their width and height.
        folder: folder of the PNGs in the archive; empty for its top.
        label_ids: the ids are those of Cityscapes' ``labelIds`` files; otherwise they are train ids.
    """

    images: int
    size: tuple[int, int]
    folder: str
    label_ids: bool


# ACDC and Dark Zurich want train ids in a folder labelTrainIds, as the public code of DAFormer, HRDA and VBLC writes them for
# acdc.vision.ee.ethz.ch/submit and the CodaLab competition 3783; Cityscapes wants label ids, in any folder.
SERVERS = {
    'acdc': Server(2000, (1920, 1080), 'labelTrainIds', False),
    'cityscapes': Server(1525, (2048, 1024), '', True),
    'dark_zurich': Server(151, (1920, 1080), 'labelTrainIds', False),
}


def check_images(images: Sequence[str], server: Server) -> None:
    """Refuse an incomplete test split before it is predicted.

    Args:
        images: paths of its images.
        server: what the server takes.

    Raises:
        ValueError: the number of images is another, two have the same name, or the first is of another size.
    """
    if len(images) != server.images:
        folder = os.path.commonpath(images) if images else 'the test split'
        raise ValueError(f'the server takes {server.images} images, but {folder} holds {len(images)}: complete the test split')
    twice = [name for name, count in Counter(Path(path).stem for path in images).items() if count > 1]
    if twice:
        raise ValueError(f'{len(twice)} images share their name, the first is {twice[0]}: give the images of the release')
    with Image.open(images[0]) as image:
        if image.size != server.size:
            raise ValueError(
                f'{images[0]} is {image.size[0]} x {image.size[1]}, but the server takes {server.size[0]} x {server.size[1]}: '
                'give the images of the release'
            )


def pack(
    folder: str | os.PathLike,
    images: Sequence[str],
    server: Server,
    target: str | os.PathLike,
    say: Callable[[str], None] = print,
) -> None:
    """Write the archive; it is whole or not there.

    Args:
        folder: holds ``<image name>.png`` with the train ids of each image, (H, W) uint8.
        images: paths of the images of the test split.
        server: what the server takes.
        target: the archive, a ``.zip``.
        say: takes a line of progress.

    Raises:
        ValueError: a prediction is missing, of another size than its image, or holds an id that is no class.
    """
    predictions = [Path(folder) / f'{Path(path).stem}.png' for path in images]
    if missing := [path for path in predictions if not path.is_file()]:
        raise ValueError(
            f'{len(missing)} of {len(images)} predictions are missing, the first is {missing[0]}: test again, '
            'with all processes on one disk'
        )
    with replacing(target) as path, zipfile.ZipFile(path, 'w') as archive:
        for prediction in track(predictions, len(predictions), 'archive', say):
            name = f'{server.folder}/{prediction.name}' if server.folder else prediction.name
            archive.writestr(name, encoded(prediction, server))


def encoded(prediction: Path, server: Server) -> bytes:
    """The PNG of one prediction as the server takes it.

    Raises:
        ValueError: its size or its ids are wrong.
    """
    with Image.open(prediction) as image:
        ids = np.asarray(image)
    if ids.shape != server.size[::-1]:
        found = ' x '.join(map(str, ids.shape[::-1]))
        raise ValueError(
            f'{prediction} is {found}, but the server takes {server.size[0]} x {server.size[1]}: test the images of the release'
        )
    if ids.max() >= len(CLASSES):
        raise ValueError(f'{prediction} holds the id {ids.max()}, expected 0 to {len(CLASSES) - 1}: test a model of 19 classes')
    if server.label_ids:
        ids = label_id_table()[ids]
    buffer = BytesIO()
    Image.fromarray(ids).save(buffer, 'PNG')
    return buffer.getvalue()
