"""The attempts of this executor, each from its claim to its report.

One asyncio task an attempt. An attempt that was claimed under a name that this executor has lost is not run: others may
have declared it lost already. Whatever a runner does, an attempt ends in a report or, if even that fails, in the log of
this process; the comparison with the projection then finds that nobody knows it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from rota_server.apps.executor.attempts import Attempt, Cancelled, Failed, Lost, Outcome, Runner
from rota_server.apps.executor.claiming import Claimed
from rota_server.apps.executor.masking import Masker, MaskingSink, SecretsInUse
from rota_server.apps.executor.metrics import AttemptMetrics
from rota_server.apps.executor.output import OutputKeeper, Progress
from rota_server.apps.executor.patience import until_available
from rota_server.apps.executor.predecessors import Predecessors
from rota_server.apps.executor.reporting import Reporter, text
from rota_server.apps.executor.secret_sources import NoSecret, SecretSources
from rota_server.apps.executor.slots import Slots
from rota_server.apps.service import Backoff
from rota_server.domain.errors import Rejected, RotaError
from rota_server.domain.jobs import commands as c
from rota_server.domain.jobs.job import Job
from rota_server.domain.jobs.secret_references import check_secrets, names_secrets, revealed, secrets_in
from rota_server.domain.jobs.spec import After, JobSpec
from rota_server.domain.leader_state import BEGIN_LIMIT
from rota_server.observability import tracing

log = logging.getLogger("rota.executor")

PROGRESS_MESSAGE_CHARS = 1_000


@dataclass(slots=True)
class Running:
    """An attempt from its claim to its report. `job` is as the log last had it, as far as is known here.

    `prepared`: it has what it needs of its predecessors, and the secrets that it names; `stopped`: its end was asked
    for before that. `masker` knows those secrets.
    """

    job: Job
    executor: str
    attempt: Attempt
    runner: Runner
    span: tracing.SpanHandle
    abandoned: Lost | None = None
    ended: bool = False
    prepared: bool = True
    stopped: bool = False
    masker: Masker | None = None


class AttemptRuns:
    """Runs attempts with the runner that has their task: a built-in one, or `python`."""

    def __init__(
        self,
        *,
        slots: Slots,
        reporter: Reporter,
        output: OutputKeeper,
        builtin: Mapping[str, Runner],
        python: Runner | None,
        predecessors: Predecessors,
        secrets: SecretSources,
        metrics: AttemptMetrics,
    ) -> None:
        self.running: dict[tuple[UUID, int], Running] = {}
        self._slots = slots
        self._reporter = reporter
        self._output = output
        self._builtin = builtin
        self._python = python or _NoTasks()
        self._predecessors = predecessors
        self._secrets = secrets
        self.secrets_in_use = SecretsInUse()
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, claimed: Claimed, executor: str, *, claimed_at: float, abandoned: Lost | None = None) -> None:
        """Run a claimed attempt in a slot that is taken for it; `abandoned` says why it must not be run any more."""
        job = claimed.job
        spec = job.spec
        attempt = Attempt(
            job_id=job.id,
            number=job.attempt,
            task=spec.task,
            args=spec.args,
            queue=spec.queue,
            timeout_seconds=spec.timeout_seconds,
            tags=spec.tags,
            traceparent=claimed.span.traceparent,
            correlation_id=job.submitted_meta.correlation_id,
            depth=job.submitted_meta.depth,
            claimed_at=claimed_at,
            begins=self._metrics.began,
        )
        runner = self._builtin.get(spec.task, self._python)
        prepared = spec.after is None and not names_secrets(spec.args)
        running = Running(job, executor, attempt, runner, claimed.span, abandoned, prepared=prepared)
        self.running[job.id, job.attempt] = running
        task = asyncio.get_running_loop().create_task(self._live(running))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, job_id: UUID, number: int, *, abandoned: Lost | None = None) -> None:
        """End an attempt if it runs here; `abandoned` says why its outcome will not count."""
        running = self.running.get((job_id, number))
        if running is None or running.ended:
            return
        running.abandoned = running.abandoned or abandoned
        if not running.prepared:
            running.stopped = True
            return
        running.runner.cancel(running.attempt)

    def abandon_all(self, why: Lost) -> None:
        """End everything that runs: others may take this executor for dead already."""
        for job_id, number in list(self.running):
            self.cancel(job_id, number, abandoned=why)

    async def wait_all(self, seconds: float) -> int:
        """Wait until everything is reported, at most so long; the number of attempts that are not."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=max(0.0, seconds))
        return len(self._tasks)

    async def report_progress(self, latest: Sequence[Progress]) -> None:
        """Append what tasks said about their progress; what loses a conflict is left out."""
        by_executor: dict[str, list[tuple[Running, c.Command]]] = {}
        for attempt, fraction, message in latest:
            running = self.running.get((attempt.job_id, attempt.number))
            if running is None or running.ended:
                continue
            said = None if message is None else text(message[:PROGRESS_MESSAGE_CHARS])
            command = c.ReportProgress(attempt=attempt.number, fraction=_fraction(fraction), message=said)
            by_executor.setdefault(running.executor, []).append((running, command))
        for executor, commands in by_executor.items():
            wanted = [(running.job, command, running.span.traceparent) for running, command in commands]
            afters = await self._reporter.commands(wanted, executor)
            for (running, _), after in zip(commands, afters, strict=True):
                if after is None and not running.ended:
                    after = await self._reporter.reload(running.job)  # noqa: PLW2901 - somebody else wrote: know it
                if after is not None and after.version > running.job.version:
                    running.job = after

    # -- one attempt -------------------------------------------------------------------------------------------------

    async def _live(self, running: Running) -> None:
        attempt = running.attempt
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            outcome = await self._run(running)
        finally:
            running.ended = True
            self._slots.ended()
        ended = loop.time()
        if isinstance(outcome, Failed) and outcome.traceback and outcome.type != "ProcessCrashed":
            # So the job's log says of every attempt how it ended; what a crashed process said last stands there.
            self._output.output(attempt, "stderr", outcome.traceback)
        try:
            await self._keep_output(attempt)
            said = await self._record(running, outcome)
            self._metrics.ended(attempt.task, said, run_seconds=ended - began, report_seconds=loop.time() - ended)
            if said != "AttemptSucceeded":
                running.span.failed(said or "it was over already")
        except RotaError:
            log.exception("how attempt %d of job %s ended could not be recorded", attempt.number, attempt.job_id)
            self._metrics.ended(attempt.task, "Unrecorded", run_seconds=ended - began, report_seconds=None)
        finally:
            if running.masker is not None:
                self.secrets_in_use.end(running.masker)
            running.span.end()
            self._output.forget(attempt)
            self.running.pop((attempt.job_id, attempt.number), None)
            self._slots.reported()

    async def _keep_output(self, attempt: Attempt) -> None:
        try:
            if self._output.holds(attempt):
                await until_available("keeping output", lambda: self._output.finish(attempt))
        except Exception:
            # What was printed must not cost the result.
            log.exception("output of attempt %d of job %s could not be kept", attempt.number, attempt.job_id)

    async def _record(self, running: Running, outcome: Outcome) -> str:
        """The type of the event that records the outcome. An error that nobody expected is no reason to lose it."""
        backoff = Backoff()
        while True:
            try:
                return await self._reporter.report(running.job, outcome, running.executor, running.span.traceparent)
            except RotaError:
                raise
            except Exception:
                log.exception("the report of attempt %d of job %s is kept", running.attempt.number, running.job.id)
            await backoff.pause()

    async def _run(self, running: Running) -> Outcome:
        if running.abandoned is not None:
            return replace(running.abandoned, begun=False)
        try:
            if not running.prepared and (over := await self._prepare(running)) is not None:
                return over
            if running.attempt.waited_seconds > BEGIN_LIMIT.total_seconds():
                # The leader counts its timeout from the claim, and would declare it lost while it runs.
                return Lost(f"it could not begin within {BEGIN_LIMIT.total_seconds():g} s of its claim", begun=False)
            outcome = await self._run_prepared(running)
        except Exception as error:
            # The outermost place of an attempt: a runner's defect costs this attempt, never its neighbours.
            log.exception("the runner of %s failed", running.attempt.task)
            return self.secrets_in_use.outcome(
                Failed("ExecutorError", f"the executor could not run the task: {error!r}")
            )
        if running.abandoned is not None and isinstance(outcome, Cancelled | Lost):
            return replace(running.abandoned, begun=not isinstance(outcome, Lost) or outcome.begun)
        return outcome

    async def _run_prepared(self, running: Running) -> Outcome:
        if running.runner is not self._python:
            running.attempt.begin()  # of the others their task process says when they do
        if running.masker is None:
            outcome = await running.runner.run(running.attempt, self._output)
            return self.secrets_in_use.outcome(outcome) if isinstance(outcome, Failed) else outcome
        sink = MaskingSink(self._output, running.masker, running.attempt)
        try:
            return self.secrets_in_use.outcome(await running.runner.run(running.attempt, sink))
        finally:
            sink.finish()

    async def _prepare(self, running: Running) -> Outcome | None:
        """Get what its predecessors have returned, and its secrets; an outcome if it has one before it began."""
        spec = running.job.spec
        attempt = running.attempt
        try:
            named = secrets_in(spec.args)  # those of its submission, and none that comes with a result
            check_secrets(spec.task, named)
            if spec.after is not None:
                attempt = await self._with_results(attempt, spec, spec.after)
            if named:
                names = [reference.name for reference in named]
                values = await self._secrets.values(names, task=spec.task, queue=spec.queue)
                running.masker = Masker(values.values())
                self.secrets_in_use.begin(running.masker)
                attempt = replace(attempt, args=revealed(attempt.args, named, values))
        except Rejected as error:
            return Failed("UnresolvedReference", error.message, retryable=False)
        except NoSecret as error:
            return Failed(error.kind, str(error), retryable=error.retryable)
        running.prepared = True
        if running.stopped:
            return Cancelled() if running.abandoned is None else replace(running.abandoned, begun=False)
        running.attempt = attempt
        return None

    async def _with_results(self, attempt: Attempt, spec: JobSpec, after: After) -> Attempt:
        wants_all = spec.task not in self._builtin
        given = await self._predecessors.give(spec, after, wants_all=wants_all)
        results = given.results if wants_all else None
        return replace(attempt, args=given.args, results=results, omitted=given.omitted)


def _fraction(given: float | None) -> float | None:
    """Between 0 and 1; what is no number is nothing."""
    if given is None or given != given:  # noqa: PLR0124 - NaN
        return None
    return min(1.0, max(0.0, float(given)))


class _NoTasks:
    """The Runner of tasks that this executor does not have."""

    async def run(self, attempt: Attempt, sink: object) -> Outcome:  # noqa: ARG002
        return Lost(f"this executor has no task {attempt.task}", handed_back=True, begun=False)

    def cancel(self, attempt: Attempt) -> None:
        """There is nothing to end."""
