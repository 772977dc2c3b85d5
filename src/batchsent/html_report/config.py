"""What the user asks of ``batchsent report``, as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Self

from batchsent.config import ScoreConfig
from batchsent.errors import UsageError
from batchsent.labels import parse_map
from batchsent.objects.uris import is_object
from batchsent.stages.planner import local_path, place
from batchsent.storage import may_be_replaced


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which directory to look at, by what, and where to write the page."""

    directory: str
    """Any DIR of ``score``."""
    output: str | None = None
    """The file; None: ``NAME-report.html`` in the working directory, NAME being DIR's own."""
    baseline: str | None = None
    """As ``--baseline`` of ``score``: a manifest to compare with."""
    maps: tuple[str, ...] = ()
    """As ``--map`` of ``evaluate``: which values of the label column mean which label."""
    include_text: bool = False
    """Show what rejected rows hold."""

    @classmethod
    def of_run(cls, config: ScoreConfig) -> Self | None:
        """What ``score --report`` asks for, if it does. Raises UsageError as :meth:`require_place`."""
        if config.report is None:
            return None
        page = cls(directory=config.output, output=config.report, baseline=config.baseline)
        page.require_place()
        return page

    def __post_init__(self) -> None:
        if self.output == "":
            raise UsageError("--output has no name of a file", "--output FILE", "name one, or leave it out")
        parse_map(self.maps)

    @property
    def path(self) -> Path:
        """Where the page goes. Raises UsageError if that is no path."""
        if self.output is not None:
            return Path(local_path(self.output, "the report")).absolute()
        named = place(self.directory, "DIR")
        name = PurePath(named if is_object(named) else Path(named).absolute().resolve()).name
        return Path(f"{name or 'root'}-report.html").absolute()

    def require_place(self) -> None:
        """Raise UsageError if no file can be put there, or if it would be among the results."""
        path, named = self.path, place(self.directory, "DIR")
        directory = named if is_object(named) else Path(named).resolve()
        if path.is_dir():
            raise UsageError(f"the report {path} is a directory", "a file", "name a file in it")
        if not path.parent.is_dir():
            raise UsageError(f"{path.parent}, for the report, is not a directory", "one that exists", "make it first")
        if not may_be_replaced(path, by=b"<"):
            raise UsageError(f"the report {path} is there and is no HTML page", "a new file", "choose another")
        if isinstance(directory, Path) and path.parent.resolve().is_relative_to(directory):
            raise UsageError(
                f"the report {path} is in {directory}, among the results",
                "a place outside, as whoever reads the results reads the whole directory",
                "choose another name for it",
            )
