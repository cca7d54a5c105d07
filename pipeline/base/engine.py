"""Parallel work on the machines of a cluster: `PIPE_ENGINE` names joblib's backend, and empty is this machine.

Which machines there are is no matter of a project, so an environment variable says it and no param.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base.child_process import ChildGroup, child_group
from pipeline.base.errors import DataError, one_line
from pipeline.base.parallel import each
from pipeline.base.progress import track

ENGINE = "PIPE_ENGINE"

_IDLE_SECONDS = 30.0  # a worker keeps the children of its last item so long for the next one

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Engine:
    """What joblib has to be told of a backend. The defaults are those of its own."""

    register: str = ""  # module:function that makes the backend known, where another package brings it
    loss: str = "concurrent.futures:BrokenExecutor"  # what it raises when it gives up work, of machines that are lost
    address: tuple[str, str] | None = None  # the backend's option for the cluster, and the variable that has it
    options: Mapping[str, Any] = field(default_factory=dict)


_ENGINES = {
    "ray": _Engine(  # it reads RAY_ADDRESS itself
        register="ray.util.joblib:register_ray",
        loss="ray.exceptions:RayError",
        # Work of a machine that is lost. Until Ray knows that it is, each try to reach it counts as one.
        options={"ray_remote_args": {"max_restarts": -1, "max_task_retries": 10}},
    ),
    "dask": _Engine(loss="distributed:KilledWorker", address=("scheduler_host", "DASK_SCHEDULER_ADDRESS")),
}


def _named(text: str) -> Any:
    """What a text such as `module:name` names."""
    module, _, name = text.partition(":")
    return getattr(importlib.import_module(module), name)


def each_anywhere(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> Iterator[Result]:
    """Apply a function to every item, on the machines of `PIPE_ENGINE`; where it is empty as `parallel.each` does.

    Args:
        function: a module's function, or a partial of one. It, the items and the results travel between machines,
            and the files that it reads and writes lie in a folder that all machines have under the same path.
        items: the work.
        description: the words beside the progress bar.

    Yields:
        The results, in the order of the items.

    Raises:
        DataError: there is no such engine, or no machine of it can be reached.
    """
    name = os.environ.get(ENGINE, "")
    if not name:
        yield from each(function, items, description)
    elif items:
        yield from _each_on(name, partial(_run_there, function, Path.cwd()), items, description)


def _each_on(
    name: str, function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[Result]:
    import joblib

    with contextlib.ExitStack() as stack:
        try:
            parallel = stack.enter_context(_parallel(name))
        except (ValueError, ImportError, OSError) as error:
            reason = one_line(error)
            raise DataError(f"{ENGINE}: {name} does not start ({reason}); see docs/scale.md") from error
        results: Any = None
        try:
            results = parallel(joblib.delayed(function)(item) for item in items)
            yield from track(results, description, len(items))
        except _named(_ENGINES.get(name, _Engine()).loss) as error:
            reason = one_line(error, 300)
            raise DataError(f"{ENGINE}: {name} lost the work ({reason}); run it again, see docs/scale.md") from error
        finally:
            if parallel.return_generator and results is not None:
                with warnings.catch_warnings(action="ignore"):  # joblib warns of cancelled work, which is intended
                    results.close()


def _parallel(name: str) -> Any:
    import joblib

    engine = _ENGINES.get(name, _Engine())
    if engine.register:
        _named(engine.register)()
    address = {}
    if engine.address is not None:
        option, variable = engine.address
        address = {option: os.environ[variable]} if os.environ.get(variable) else {}
    with joblib.parallel_config(name, n_jobs=-1, **engine.options, **address):
        try:
            return joblib.Parallel(return_as="generator")
        except ValueError as error:
            if "return_as" not in str(error):
                raise
            return joblib.Parallel()  # of a backend that gives all results at the end


# On a worker.


class _KeptChildren:
    """The children of a worker's process. They serve one item after the other, and end when none comes any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._group: ChildGroup | None = None
        self._n_at_work = 0
        self._ending: threading.Timer | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[ChildGroup]:
        """The children for one item. A worker may run several items at once, in threads."""
        with self._lock:
            self._n_at_work += 1
            if self._ending is not None:
                self._ending.cancel()
            self._group = group = self._group or ChildGroup()
        try:
            yield group
        finally:
            with self._lock:
                self._n_at_work -= 1
                self._ending = threading.Timer(_IDLE_SECONDS, self._end)
                self._ending.daemon = True
                self._ending.start()

    def _end(self) -> None:
        with self._lock:
            if self._n_at_work:
                return
            group, self._group = self._group, None
        if group is not None:
            group.stop()


_kept_children = _KeptChildren()


def _run_there(function: Callable[[Item], Result], folder: Path, item: Item) -> Result:
    """Run one item on a worker, in the folder of the command.

    Raises:
        DataError: this machine does not have the folder.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise DataError(f"{folder}: not on every machine of {ENGINE} ({error.strerror}); see docs/scale.md") from error
    with _kept_children.use() as group:
        token = child_group.set(group)
        try:
            return function(item)
        finally:
            child_group.reset(token)
