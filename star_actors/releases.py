"""What a run releases: the final aggregate, and what its aggregator submits by itself, through one pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import look_at_result, strict_error
from .config import OutputType, Paths, RunConfig
from .release.delivery import check_paths
from .release.encoding import check_output_type
from .release.pipeline import UNSET, Draft, Stage, build_pipeline, run_pipeline
from .report import Record
from .session.board import Board

if TYPE_CHECKING:
    from .placement import Placement

__all__ = ["Releases"]


class Releases:
    """The releases of one run, on the aggregator's thread. `announce` hears what the caller is told of them.

    Both ways raise what a stage raises; what was done by then stays on the record.
    """

    def __init__(
        self,
        config: RunConfig,
        record: Record,
        privacy: Placement | None,
        board: Board,
        announce: Callable[[str], None],
    ) -> None:
        self._config = config
        self._record = record
        self._privacy = privacy
        self._board = board
        self._announce = announce
        # User code may change the working directory; a relative path means the one that the run was begun in.
        self._folder = None if config.paths is None else Path.cwd()
        (self._aggregator,) = (node.id for node in config.nodes if node.role == "aggregator")

    def final(self, result: Any, number: int) -> None:
        """Release the aggregate of the last round, `number`."""
        config, find = self._config, self._record.find
        stage = None if self._privacy is None else self._privacy.final_stage
        if stage is not None:
            look_at_result(result, self._aggregator, number, several=config.multiple_results, find=find)
        error = strict_error(config.checks, self._record.findings)
        if error is not None:
            raise error
        draft = Draft(result, number)
        self._pass(draft, config.output_type, config.multiple_results, config.paths, stage, self._folder)

    def early(
        self,
        result: Any,
        output_type: OutputType = "str",
        multiple_results: bool = False,
        filename: Paths | None = None,
        local_dp: dict[str, float] | None = None,
    ) -> dict[str, str] | list[dict[str, str]]:
        """Release what the aggregator submits by itself; answers as FLAME's SDK does."""
        check_output_type(output_type, multiple_results)
        if filename is not None:
            check_paths(filename, multiple_results=multiple_results, name="filename")
        stage: Stage | None = None
        if self._privacy is not None:
            stage = self._privacy.early_stage(local_dp)
        elif local_dp is not None:
            from .placement import unplanned_stage

            stage, self._record.account = unplanned_stage(local_dp, self._aggregator, lambda: self._board.stopped)
        draft = Draft(result, self._record.finished_rounds)
        self._pass(draft, output_type, multiple_results, filename, stage)
        answers = [{"status": "success"} for _ in draft.outputs]
        return answers if draft.several else answers[0]

    def _pass(
        self,
        draft: Draft,
        output_type: OutputType,
        multiple_results: bool,
        paths: Paths | None,
        stage: Stage | None,
        folder: Path | None = None,
    ) -> None:
        record = self._record
        stages = build_pipeline(
            output_type=output_type,
            multiple_results=multiple_results,
            paths=paths,
            announce=self._announce,
            warn=record.warn,
            privacy_stage=stage,
            folder=folder,
        )
        # A run that was stopped meanwhile delivers nothing.
        stages.insert(-1, lambda draft: self._board.check())
        try:
            run_pipeline(stages, draft)
        finally:
            if draft.result is not UNSET:
                record.result = draft.result
            record.outputs.extend(draft.outputs)
