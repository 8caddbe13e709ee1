"""Run background jobs until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandParser
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import ConnectorException
from psycopg_pool import PoolTimeout

from mestore.lib import actor
from monitoring import abandoned, context, sequencer

DEFAULT_CONCURRENCY = 4
STOP_SECONDS = 20.0
AGAIN_SECONDS = 1.0

log = structlog.get_logger("mestore.jobs")


class Command(BaseCommand):
    help = (
        "Run background jobs (every app's tasks.py) and the audit log's sequencer until SIGTERM or SIGINT; "
        "running jobs may finish first. "
        "Any number of workers may run, on any number of machines. Example: manage.py worker --concurrency 4"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--concurrency", type=int, default=DEFAULT_CONCURRENCY, help="jobs at once (default 4)"
        )
        parser.add_argument(
            "--queue", action="append", dest="queues", help="only this queue; may be repeated"
        )
        parser.add_argument("--once", action="store_true", help="do what is waiting, then end")

    def handle(self, *_args: Any, **options: Any) -> None:
        connector = app.connector
        if not isinstance(connector, DjangoConnector):
            raise TypeError("the job queue's app was not set up by Django")
        if options["once"]:
            sequencer.drain()
            abandoned.recover()
        # The worker listens for new jobs, for which it needs connections of its own.
        with (
            _beside("sequencer", sequencer.run),
            _beside("keeper", abandoned.run),
            app.replace_connector(connector.get_worker_connector()) as working,
        ):
            asyncio.run(
                _run(
                    working,
                    concurrency=max(1, options["concurrency"]),
                    queues=options["queues"],
                    wait=not options["once"],
                )
            )


def in_its_own_name(call_next: Callable[[], Any], job: Any, _worker: Any) -> Any:
    """Let what a job changes name the job as its actor."""
    with context.acting(actor.system(job.job.task_name)):
        return call_next()


@contextlib.contextmanager
def _beside(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do this meanwhile, in a thread: what seals the trail, or frees jobs, must not wait for jobs."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def _run(working: Any, *, wait: bool, **options: Any) -> None:
    try:
        if wait:
            await ready(working)
        else:
            await working.open_async()
        await working.run_worker_async(
            install_signal_handlers=True,
            shutdown_graceful_timeout=STOP_SECONDS,
            stalled_worker_timeout=abandoned.SILENT_SECONDS,
            # What a job was about is in the audit trail; a finished job has nothing more to say.
            delete_jobs="successful",
            task_middleware=[in_its_own_name],
            wait=wait,
            **options,
        )
    finally:
        await working.close_async()


async def ready(working: Any) -> None:
    """Open the connections and take silent workers off the list, however long the database does not let us.

    A database that begins, is busy, or whose rows another worker holds (it takes up the jobs of the same
    dead one) is no reason to end: what seals the trail is already at work in this process.
    """
    while True:
        try:
            await working.open_async()
            await working.job_manager.prune_stalled_workers(abandoned.SILENT_SECONDS)
        except (ConnectorException, PoolTimeout) as error:
            log.warning("worker_waits_for_the_database", error=type(error.__cause__ or error).__name__)
            await working.close_async()
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return
