"""What a suite file says: which runs, how they depend on each other, and the table they end in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Run:
    """One entry of ``runs``: a config to train and test, a tool to call, or folders that were trained by hand.

    Attributes:
        name: Name of its folder; letters, digits, ``_``, ``-`` and ``.``.
        config: Config file, relative to the current folder or the project.
        options: ``KEY=VALUE`` changes to the config, for training and test; placeholders as in
            :mod:`mmseg_dafm.experiments.suites.suite_load`.
        targets: Sets to test instead of the config's, as `tools/test.py --targets` names them.
        command: A script below tools/ and its arguments, instead of a config.
        output: The file that the command leaves, relative to its own folder; JSON if it fills a row of the table.
        folder: Folders of finished runs, one per seed, instead of a config.
        paper_only: Nothing to run: the row has the paper's figures alone.
        needs: Runs that must be finished first, besides those that its placeholders name.
        once: Run with the suite's first seed alone.
        row: Row of the table, None for no row; its own name if not given. Runs that share a row fill it together.
        part: Which columns of the row it fills: those of the same ``part``.
        title: Title of the row.
        group: Heading under which the row stands, such as the backbone.
        paper: Column -> the paper's own figure.
        errata: Column -> why that figure is in doubt; becomes a footnote.
        paper_classes: Domain -> the paper's own IoU of every class, and their mean.
    """

    name: str
    config: str | None = None
    options: Sequence[str] = ()
    targets: Sequence[str] = ()
    command: Sequence[str] = ()
    output: str | None = None
    folder: Sequence[str] = ()
    paper_only: bool = False
    needs: Sequence[str] = ()
    once: bool = False
    row: str | None = None
    part: str = ''
    title: str = ''
    group: str = ''
    paper: Mapping[str, float] = field(default_factory=dict)
    errata: Mapping[str, str] = field(default_factory=dict)
    paper_classes: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``'config'``, ``'command'`` or ``'folder'``; the last, without folders, if there is nothing to run."""
        return 'config' if self.config else 'command' if self.command else 'folder'


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Exactly one of ``value``, ``mean`` and ``of`` says where its numbers come from.

    Attributes:
        name: Key of ``paper``, and heading of the CSV file.
        title: Heading; the name if not given.
        value: Where a run's results hold the number: ``domain/metric`` (``fog/mIoU``; ``target/mIoU`` and ``all/mIoU`` for pooled
            domains), ``mean`` or ``percent``; for a command the path in its JSON file.
        part: Which runs of a row it reads.
        mean: Other columns, whose mean it is, taken within each seed.
        of: Another column, from which the row ``minus`` is subtracted within each seed.
        minus: See ``of``.
        best: Whether ``'max'`` or ``'min'`` is set in bold; None for neither.
        digits: After the point.
    """

    name: str
    title: str = ''
    value: str | None = None
    part: str = ''
    mean: Sequence[str] = ()
    of: str | None = None
    minus: str | None = None
    best: str | None = 'max'
    digits: int = 2


@dataclass(frozen=True)
class Suite:
    """A suite file's content.

    Attributes:
        title: Title of the table.
        runs: Its :class:`Run` entries, in the order of the rows; a dict ``{name: folder}`` stands for runs with ``folder``.
        columns: Its :class:`Column` entries.
        seeds: Seeds of every run.
        gpus: Processes of a training, for which the configs' batch size is meant; None for any number.
        per_class: Domains of which a table of all classes is written.
        class_names: Headings of those tables where nothing is run; the 19 of Cityscapes for tables of 19 if not given.
        best_of: Whether bold is the best of each ``'group'`` or of ``'all'`` rows.
        notes: Sentences under the table.
        file: Where it was read.
    """

    title: str
    runs: Sequence[Run]
    columns: Sequence[Column]
    seeds: Sequence[int] = (0,)
    gpus: int | None = None
    per_class: Sequence[str] = ()
    class_names: Sequence[str] = ()
    best_of: str = 'group'
    notes: Sequence[str] = ()
    file: str = ''

    def run(self, name: str) -> Run:
        """The run of a name."""
        return next(run for run in self.runs if run.name == name)

    def rows(self) -> dict[str, list[Run]]:
        """Rows in order, each with the runs that fill it."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            if run.row is not None:
                found.setdefault(run.row, []).append(run)
        return found
