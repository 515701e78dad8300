"""Compiled CPU kernels on disk, so that a process does not compile what another one did.

numba's own cache does not know a function again that is made for a `Kind` inside another function. Here it is named for
that kind and the source of this package; numba adds its version, the types and the processor. The folder is what
ARZ_MODEL_CACHE_DIR names, for all copies of this source wherever they lie; else numba's own for this copy:
NUMBA_CACHE_DIR, `__pycache__` or the user's cache.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "ARZ_MODEL_CACHE_DIR"

DAMAGED = (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError)
"""What reading a file raises that is not what it was, as the `pickle` module says."""


def _digest() -> str:
    digest, package = hashlib.sha256(), Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


SOURCE_DIGEST = _digest()
"""SHA-256 of all modules of this package, as this process imports them: files may change while it runs."""


def named_for(function: Callable[..., Any], *made_for: object) -> Callable[..., Any]:
    """The function, under a name of its own for what it is made for and of this source; to be compiled under that name.

    Compiled code finds what it calls by name, and numba numbers the names of closures anew in each process: without
    this, code read from disk could call the code of another kind of kernel.
    """
    tag = hashlib.sha256(repr((function.__qualname__, made_for, SOURCE_DIGEST)).encode()).hexdigest()[:16]
    function.__qualname__ = f"{function.__name__}_{tag}"
    return function


class KernelCache(FunctionCache):
    """The compiled code of one function, by its name, types and processor; what cannot be read or written is compiled.

    Each file says what it holds: two processes that write at once may choose the same name for two things.
    """

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder:
            self._cache_path = str(Path(folder) / f"{SOURCE_DIGEST[:16]}-numba{numba.__version__}")
            self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, SOURCE_DIGEST)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return sig, codegen.magic_tuple(), self._py_func.__qualname__, SOURCE_DIGEST

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code, or None."""
        target_context.refresh()
        key = self._index_key(sig, target_context.codegen())
        try:
            saved = self._cache_file.load(key)
            if saved is not None and saved[0] == key:
                return self._impl.rebuild(target_context, saved[1])
        except OSError as error:
            log.warning("compiled code kept in %s cannot be read: %s", self.cache_path, error)
        except DAMAGED as error:
            log.warning("compiled code kept in %s is damaged and made again: %r", self.cache_path, error)
            self._forget()
        return None

    def _forget(self) -> None:
        try:
            self._cache_file.flush()
        except OSError as error:
            log.warning("compiled code in %s cannot be replaced; remove it: %s", self.cache_path, error)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code."""
        if not self._impl.check_cachable(data):
            return
        key = self._index_key(sig, data.codegen)
        try:
            Path(self._cache_path).mkdir(parents=True, exist_ok=True)
            self._cache_file.save(key, (key, self._impl.reduce(data)))
        except (OSError, *DAMAGED) as error:
            log.warning("compiled code cannot be kept in %s: %r", self.cache_path, error)


def keep_on_disk(dispatcher: Any) -> Any:
    """Have what `dispatcher` compiles kept for other processes.

    A closure, and every closure that it calls, must have been renamed by `named_for` before it was compiled.
    """
    try:
        dispatcher._cache = KernelCache(dispatcher.py_func)
    except (OSError, RuntimeError) as error:  # numba finds no folder, or the source is in no file
        log.warning("compiled code is not kept: %s", error)
    return dispatcher
