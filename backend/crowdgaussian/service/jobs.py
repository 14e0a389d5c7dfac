# SPDX-License-Identifier: Apache-2.0
"""The life of a job: submitted, queued, run, ended, forgotten.

Every step is stored as an event before anybody is told.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol.messages import Artifact, Job, JobState, Progress
from crowdgaussian_shared.scene.folder import SCENE_FILE
from crowdgaussian_shared.scene.schema import hash_file

from .results import Folders
from .settings import ServiceSettings
from .store import ACTIVE, JobRow, Store
from .submit import keys_of
from .workers import Task

log = logging.getLogger(__name__)
EVENT_ARTIFACTS = 100  # in one event; more follow in the next
MAX_ATTEMPTS = 3  # starts of one job that the service did not survive
SETTLED = 30.0  # seconds after which an upload that is whole has been checked, or never will be
UPLOAD_HOURS = 1.0  # without a byte, then the job is given up
FIRST_GUESS = 60.0  # seconds a job takes, before one has been measured
CRASHED = {
    "died": "The worker stopped unexpectedly; submit the photo again to go on with the people "
    "that are left.",
    "frozen": "The worker gave no sign of life and was stopped; submit the photo again to go on "
    "with the people that are left.",
    "silent": "The job made no progress and was stopped; submit the photo again to go on with "
    "the people that are left.",
}


@dataclass
class Jobs:
    """All jobs of a service, and the only writer of their states."""

    settings: ServiceSettings
    folders: Folders
    store: Store
    on_event: Callable[[str], None] = lambda job: None  # told the job's id
    seconds_per_job: float = FIRST_GUESS

    def describe(self, row: JobRow) -> Job:
        """The job as the protocol says it."""
        received = row.photo_bytes
        if row.state == "uploading":
            received = min(self.folders.received(row.job), row.photo_bytes)
        return Job(
            job=row.job,
            state=row.state,
            photo_name=row.photo_name,
            preset=row.preset,
            created=row.created,
            position=self.store.position(row),
            received=received,
            progress=row.progress,
            error=row.error,
            last_seq=row.last_seq,
        )

    def busy(self, owner: str) -> str:
        """Why another job of this owner has to wait; empty when there is room."""
        limits = self.settings.limits
        if self.store.count_active(owner) >= limits.jobs_per_client:
            return f"You have {limits.jobs_per_client} jobs under way already."
        waiting = self.store.count_active()
        if waiting >= limits.jobs_total:
            return f"{waiting} jobs are waiting already."
        return ""

    def retry_after(self) -> float:
        """Seconds until a place in the queue may be free."""
        return min(max(self.seconds_per_job / max(1, self.settings.workers), 1.0), 600.0)

    def accept(self, row: JobRow) -> JobRow:
        """Takes up a new job, or one that failed or was cancelled once more."""
        row = replace(row, state="uploading", error="", progress=Progress(), attempts=0)
        self.store.put(row)
        if self.at_hand(row) and self._finish_from_cache(row):
            return self.store.get(row.job) or row
        if row.last_seq and self._photo_is_here(row):
            self.photo_arrived(row.job)
        return self.store.get(row.job) or row

    def _photo_is_here(self, row: JobRow) -> bool:
        """Whether the whole photo that was announced lies here; its size alone says nothing."""
        whole = self.folders.received(row.job) == row.photo_bytes
        return whole and hash_file(self.folders.upload(row.job)) == row.photo_blake2b

    def cached(self, key: str) -> bool:
        """Whether a finished result lies here."""
        return self.store.complete_result(key) is not None

    def at_hand(self, row: JobRow) -> bool:
        """Whether its finished result lies here and its owner may have it without the photo.

        A hash is no photo: with keys, who has only heard of it learns nothing, and who has sent the
        photo once gets what others had made of it. Without keys all are on this computer.
        """
        known = not row.keyed or self.store.has_sent(row.owner, row.photo_blake2b)
        return known and self.cached(row.key)

    def photo_arrived(self, job: str) -> None:
        """The whole photo is here and is what was announced."""
        row = self.store.get(job)
        if row is not None and row.state == "uploading":
            row = replace(row, state="queued", queued=time.time())
            self.store.put(row)
            if not self._finish_from_cache(row):
                self._event(row)

    def photo_refused(self, job: str, sentence: str) -> None:
        """The photo cannot be used."""
        self.folders.results.discard(self.folders.upload(job))
        row = self.store.get(job)
        if row is not None and row.state == "uploading":
            self._event(replace(row, state="failed", error=sentence))

    def next_task(self) -> Task | None:
        """The next job to run; those whose result has come about meanwhile are finished here."""
        running = {row.key for row in self.store.in_state("running")}
        for row in filter(None, map(self.store.get, self.store.turns())):
            if row.key in running:
                continue
            if self._finish_from_cache(row):
                continue
            try:
                less = keys_of(row, self.settings)[1:]
            except CrowdGaussianError as error:  # its settings or a model file are gone
                self.end(row, "failed", str(error)[:500])
                continue
            if running & {*less}:
                continue
            results = self.folders.results
            results.open_folders(row.key)
            row = replace(row, state="running", attempts=row.attempts + 1)
            self.store.put(row)
            self._event(row)
            self.store.begin(row.owner)
            return Task(
                job=row.job,
                photo=str(self.folders.upload(row.job)),
                photo_name=row.photo_name,
                photo_blake2b=row.photo_blake2b,
                scene=str(results.scene(row.key)),
                objects=str(results.objects(row.key)),
                preset=row.preset,
                settings=row.settings,
                known={a.name: a.blake2b for a in self.store.newest(row.job)},
                edit=row.edit,
                base=self._base(less),
            )
        return None

    def _base(self, keys: tuple[str, ...]) -> str:
        """The scene folder of the first of these results that is here; empty without one."""
        finished = self.store.finished_keys() if keys else set()
        scenes = (self.folders.results.scene(key) for key in keys if key in finished)
        return next((str(scene) for scene in scenes if (scene / SCENE_FILE).is_file()), "")

    def progress(self, job: str, body: dict[str, Any]) -> None:
        """A worker reports a step, and the files that are new."""
        row = self.store.get(job)
        if row is not None and row.state == "running":
            artifacts = tuple(Artifact(**a) for a in body["artifacts"])
            self._event(replace(row, progress=Progress(**body["progress"])), artifacts)

    def ended(self, job: str, body: dict[str, Any]) -> None:
        """A worker reports the end of a job."""
        row = self.store.get(job)
        if row is None or row.state != "running":
            return
        artifacts = tuple(Artifact(**a) for a in body.get("artifacts", ()))
        results, complete = self.folders.results, body.get("complete", False)
        self.store.put_result(row.key, results.size(row.key), complete, artifacts)
        self.end(row, body["state"], body["error"][:500])
        if body["state"] == "done":
            self._measure(time.time() - row.queued)
            results.discard(self.folders.upload(job))
            results.keep_objects(row.key, self.store.needed(row.key))

    def lost(self, job: str, why: str) -> None:
        """The worker of a running job is dead."""
        row = self.store.get(job)
        if row is None or row.state != "running":
            return
        self.store.put_result(row.key, self.folders.results.size(row.key), False, ())
        if why == "cancel":
            self.end(row, "cancelled", "")
        else:
            self.end(row, "failed", CRASHED[why])

    def end(self, row: JobRow, state: JobState, error: str) -> None:
        """Ends a job; what is finished stays."""
        log.info("job %s: %s", row.job, state)
        self._event(replace(row, state=state, error=error))

    def delete(self, row: JobRow) -> None:
        """Forgets a job, its photo, and its result unless another job shares it."""
        self.store.delete(row.job)
        self.folders.results.discard(self.folders.upload(row.job))
        if not self.store.with_key(row.key):
            self.store.delete_result(row.key)
            self.folders.results.discard_result(row.key)

    def recover(self) -> None:
        """After a start: what was running is queued again and goes on where it was.

        After an update of the program, all that is not over starts anew under its new key.
        """
        for row in self.store.in_state(*ACTIVE):
            try:
                self.store.put(replace(row, key=keys_of(row, self.settings)[0]))
            except CrowdGaussianError as error:
                self.end(row, "failed", str(error)[:500])
        for row in self.store.in_state("running"):
            if row.attempts >= MAX_ATTEMPTS:
                self.end(
                    row,
                    "failed",
                    "The service stopped each time this job ran; submit the "
                    "photo again, or a smaller one.",
                )
            else:
                self._event(replace(row, state="queued"))
        for key in {row.key for row in self.store.in_state("done")}:  # killed just then, perhaps
            self.folders.results.keep_objects(key, self.store.needed(key))

    def reconcile(self, at_work: set[str]) -> None:
        """Jobs that nobody would ever end, as a step of theirs could not be stored.

        Args:
            at_work: the jobs that workers have.
        """
        for row in self.store.in_state("running"):
            if row.job not in at_work:
                log.warning("job %s: runs nowhere, queued again", row.job)
                self._event(replace(row, state="queued"))
        for row in self.store.in_state("uploading"):
            if time.time() - row.changed > SETTLED and self._photo_is_here(row):
                self.photo_arrived(row.job)

    def suspend(self) -> None:
        """Before a stop: what is running will go on after the next start."""
        for row in self.store.in_state("running"):
            self.store.put(replace(row, attempts=row.attempts - 1))

    def expire(self) -> None:
        """Forgets what is too old or too much, dead uploads, and results that no job has."""
        now = time.time()
        for row in self.store.in_state("uploading"):
            upload = self.folders.upload(row.job)
            touched = upload.stat().st_mtime if upload.exists() else row.changed
            if now - touched > UPLOAD_HOURS * 3600:
                self.folders.results.discard(upload)
                self.end(row, "cancelled", "The photo never arrived; submit it again.")
        for row in self.store.ended_before(now - self.settings.keep_hours * 3600):
            self.delete(row)
        ended = self.store.ended_before(now)
        self._drop_photos(ended)
        for row in ended:
            if self.store.result_bytes() <= self.settings.keep_bytes:
                break
            self.delete(row)
        self._drop_orphans()

    def _drop_photos(self, ended: list[JobRow]) -> None:
        """The photos of jobs that failed or were cancelled make room first, the oldest before."""
        photos = {row.job: self.folders.received(row.job) for row in ended}
        over = self.store.result_bytes() + sum(photos.values()) - self.settings.keep_bytes
        for job, size in photos.items():
            if over <= 0:
                break
            if size:
                self.folders.results.discard(self.folders.upload(job))
                over -= size

    def _drop_orphans(self) -> None:
        """Results whose last job went on under another key, as after an update of the program.

        And photos of jobs that are over, as the service was killed before they went.
        """
        known, results = self.store.keys(), self.folders.results
        for key in self.store.result_keys() - known:
            self.store.delete_result(key)
        for path in results.root.iterdir():
            if path.name not in known:
                results.discard_result(path.name)
        for path in self.folders.uploads.iterdir():
            row = self.store.get(path.name)
            if row is None or row.state == "done":
                results.discard(path)

    def _finish_from_cache(self, row: JobRow) -> bool:
        """Ends a job at once when its result lies here already."""
        artifacts = self.store.complete_result(row.key)
        if artifacts is None:
            return False
        results = self.folders.results
        try:
            artifacts = results.renamed(row.key, artifacts, row.photo_name)
            artifacts = tuple(sorted(artifacts, key=lambda a: a.name == SCENE_FILE))  # last
        except CrowdGaussianError:
            self.store.delete_result(row.key)  # damaged: computed anew
            return False
        self._event(
            replace(row, state="done", progress=Progress("avatars", 1.0), error=""), artifacts
        )
        results.discard(self.folders.upload(row.job))
        log.info("job %s: done, the result was known", row.job)
        return True

    def _event(self, row: JobRow, artifacts: tuple[Artifact, ...] = ()) -> JobRow:
        """The next event, or several when there are many artefacts; the state comes last."""
        while len(artifacts) > EVENT_ARTIFACTS:
            before = self.store.append(replace(row, state="running"), artifacts[:EVENT_ARTIFACTS])
            row = replace(row, last_seq=before.last_seq)
            artifacts = artifacts[EVENT_ARTIFACTS:]
        row = self.store.append(row, artifacts)
        self.on_event(row.job)
        return row

    def _measure(self, seconds: float) -> None:
        self.seconds_per_job = 0.7 * self.seconds_per_job + 0.3 * max(1.0, seconds)
