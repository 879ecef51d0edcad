"""Options of the form NAME=FOLDER, which may be given several times."""

from collections.abc import Iterable


def named_folders(texts: Iterable[str], option: str = '--run') -> dict[str, list[str]]:
    """Name -> its folders, in the order of the command line.

    Args:
        texts: Such as ``vpd=work_dirs/mine_seed0``.
        option: Whose values they are.

    Raises:
        ValueError: For a text of another form.
    """
    folders: dict[str, list[str]] = {}
    for text in texts:
        name, _, folder = text.partition('=')
        if not name or not folder:
            raise ValueError(f'{option} {text!r} must have the form NAME=FOLDER')
        folders.setdefault(name, []).append(folder)
    return folders
