# SPDX-License-Identifier: GPL-3.0-or-later
"""Many photos from a script, in background Blender: docs/scripting.md.

Running the same call again goes on where it stopped; one photo that fails stops nobody.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from crowdgaussian_shared.client.ticket import JobRequest
from crowdgaussian_shared.errors import CrowdGaussianError, InputError
from crowdgaussian_shared.scene.folder import SceneFolder

from ..jobs.table import JobRow, settings_for

BLEND_FILE = "crowd.blend"  # in each scene folder
_POLL = 0.1  # seconds
_AT_ONCE = 4  # photos that the server holds at a time


@dataclass(frozen=True)
class BatchOptions:
    """How all photos are done."""

    preset: str = "open"
    quality: str = "NORMAL"  # DRAFT, NORMAL or HIGH
    most_people: int = 0  # 0: everybody
    refinement: str = "PRESET"  # PRESET, OFF, SMALL or TURBO
    save_blend: bool = True  # OUT/NAME/crowd.blend for each photo; loses the file that is open
    patience: float = 120.0  # seconds that the server may be out of reach


@dataclass(frozen=True)
class PhotoResult:
    """What became of one photo."""

    photo: Path
    folder: Path
    people: int = 0  # reconstructed
    blend_file: Path | None = None
    error: str = ""  # why it failed, and what to do; some people may be there all the same


def reconstruct_photos(
    photos: Iterable[str | Path],
    out: str | Path,
    options: BatchOptions = BatchOptions(),
    tell: Callable[[str], None] = print,
) -> list[PhotoResult]:
    """Reconstructs photos with the server of the preferences.

    Args:
        photos: any number; two may not have the same name without its ending.
        out: each photo gets the scene folder OUT/NAME.
        options: for all of them.
        tell: takes one sentence for each photo that is through.

    Returns:
        one result for each photo, in their order.

    Raises:
        CrowdGaussianError: no server is chosen, or two photos have the same name.
    """
    paths = [Path(photo).absolute() for photo in photos]
    folders = [Path(out).absolute() / path.stem for path in paths]
    if len(set(folders)) < len(folders):
        raise InputError("Two photos have the same name; rename one of them.")
    run = _Run(options, dict(zip(paths, folders)))
    results = {}
    for result in run.results():
        results[result.photo] = result
        tell(_sentence(result, len(results), len(paths)))
    return [results[path] for path in paths]


class _Run:
    """One call: a few photos on their way, the others wait."""

    def __init__(self, options: BatchOptions, folders: dict[Path, Path]) -> None:
        from ..ops import state

        self._options = options
        self._folders = folders
        self._session = state.session()
        self._target = state.find_target()
        self._waiting = list(folders)
        self._rows: dict[Path, JobRow] = {}
        self._reached = time.monotonic()

    def results(self) -> Iterable[PhotoResult]:
        """Each photo as it ends."""
        while self._waiting or self._rows:
            while self._waiting and len(self._rows) < _AT_ONCE:
                early = self._begin(self._waiting.pop(0))
                if early is not None:
                    yield early
            self._session.poll()
            for photo, row in list(self._rows.items()):
                result = self._look(photo, row)
                if result is not None:
                    del self._rows[photo]
                    self._session.remove(row)
                    yield result
            time.sleep(_POLL)

    def _begin(self, photo: Path) -> PhotoResult | None:
        """Submits a photo -> its result when it is ready already or cannot be done."""
        folder, options = self._folders[photo], self._options
        settings = settings_for(options.quality, options.most_people, options.refinement)
        request = JobRequest(photo, folder, options.preset, settings)
        try:
            self._rows[photo] = self._session.submit(self._target, request)
        except CrowdGaussianError as error:
            return PhotoResult(photo, folder, error=str(error))
        return None

    def _look(self, photo: Path, row: JobRow) -> PhotoResult | None:
        """A job -> its result when it has ended or cannot go on."""
        server = self._session.server
        if server.state != "lost":
            self._reached = time.monotonic()
        gone = time.monotonic() > self._reached + self._options.patience
        if row.active and row.state != "paused" and not gone:
            return None
        folder = self._folders[photo]
        error = row.error or row.trouble or (server.sentence if row.active else "")
        if row.state == "cancelled":
            error = "The job was cancelled; run the same script again to go on."
        if not row.people_done or not self._options.save_blend:
            return PhotoResult(photo, folder, row.people_done, None, error)
        try:
            blend_file = _save_blend(folder)
        except CrowdGaussianError as problem:
            return PhotoResult(photo, folder, row.people_done, None, str(problem))
        return PhotoResult(photo, folder, row.people_done, blend_file, error)


def _save_blend(folder: Path) -> Path:
    """The scene folder as a .blend file, unless there is a newer one already."""
    from ..scene.importer import import_scene
    from .previews import save_blend, start_new_file

    path = folder / BLEND_FILE
    scene = SceneFolder.open(folder)
    if path.is_file() and path.stat().st_mtime >= (folder / "scene.json").stat().st_mtime:
        return path
    start_new_file()
    import_scene(scene)
    save_blend(path)
    return path


def _sentence(result: PhotoResult, number: int, total: int) -> str:
    words = f"{result.people} people" if result.people != 1 else "1 person"
    outcome = f"{words}; {result.error}" if result.error else words
    return f"[{number}/{total}] {result.photo.name}: {outcome}"
