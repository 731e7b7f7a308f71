"""Uploads beside the work: one thread, one at a time, errors told to the next who asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Uploads:
    """Runs uploads one after another in the background; use as a context manager.

    At most one waits while another runs, so that disk and memory stay bounded: `submit` waits
    for the one before the last.
    """

    def __init__(self) -> None:
        """Start without a thread; the first upload starts it."""
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # A job that is stopped still commits what it has finished; one that failed does not.
        self._pool.shutdown(wait=True, cancel_futures=isinstance(error, Exception))

    @property
    def is_free(self) -> bool:
        """Whether nothing is waiting or running."""
        return all(upload.done() for upload in self._pending)

    def submit(self, upload: Callable[[], None]) -> None:
        """Queue an upload.

        Raises:
            ForgeError: an earlier upload failed with it.
        """
        self._wait(until=1)
        self._pending.append(self._pool.submit(upload))

    def finish(self) -> None:
        """Wait for all uploads.

        Raises:
            ForgeError: one of them failed with it.
        """
        self._wait(until=0)

    def _wait(self, until: int) -> None:
        while self._pending and (len(self._pending) > until or self._pending[0].done()):
            self._pending.pop(0).result()
