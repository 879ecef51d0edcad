"""Fixtures of the data sets' tests."""

import runpy
import sys
from typing import NamedTuple

import pytest


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """Keep mmengine from collecting garbage for every data set built: over the objects of a whole test run it takes a second."""
    monkeypatch.setattr('gc.collect', lambda *_: 0)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(root, monkeypatch, capsys):
    """Run a converter in this process, which has imported what takes its time."""

    def tool(name, *arguments):
        path = root / f'tools/dataset_converters/{name}.py'
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        code, error = 0, ''
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as stop:
            code, error = 1, str(stop)
        return Done(code, capsys.readouterr().out, error)

    return tool
