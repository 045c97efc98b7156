"""Processes that read batches of job files side by side."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from stemphony.errors import StemphonyError
from stemphony.results.averages import Batch
from stemphony.results.batches import BatchRequest, Reading, read_batch

AHEAD_BYTES = 1e9
"""Most memory for sums that are being computed or wait for the merge [bytes]. A batch takes three arrays per sum."""

ReadBatches = Callable[[BatchRequest, Sequence[Batch]], Iterator[Reading]]
"""Reads batches and yields a `Reading` for each, in the order of the batches."""


@contextmanager
def batch_reader(processes: int) -> Iterator[ReadBatches]:
    """Start processes that read batches. If `processes` is 1, this process reads them.

    Raises
    ------
    StemphonyError
        A process was killed.
    """
    if processes <= 1:
        yield _read_here
        return
    # A forked process would share the state of HDF5 with this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:

        def read(request: BatchRequest, batches: Sequence[Batch]) -> Iterator[Reading]:
            ahead: deque[Future[Reading]] = deque()
            sums = sum(block.bytes for block in request.blocks)
            most = min(2 * processes, int(AHEAD_BYTES / (3 * sums))) if sums else 2 * processes
            if min(most, len(batches)) < 2:
                yield from _read_here(request, batches)
                return
            for batch in batches:
                ahead.append(pool.submit(read_batch, request.of(batch), batch))
                if len(ahead) >= most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

        try:
            yield read
        except BrokenProcessPool:
            # Only the out-of-memory killer or a user kills a process of the pool.
            raise StemphonyError(
                f"cannot merge: one of the {processes} processes of the merge was killed, probably for lack of memory. "
                "Nothing is lost: all job files are as they were. Run again with more memory, or with one process "
                "(`--set-threads merge_results=1`)."
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _read_here(request: BatchRequest, batches: Sequence[Batch]) -> Iterator[Reading]:
    return (read_batch(request, batch) for batch in batches)


def _end_with_parent() -> None:
    """End this process when the merge is killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
