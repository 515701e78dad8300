"""The folders of the user."""

import pytest

from arz_model.kernel_cache import FOLDER_VARIABLE
from launcher import paths


def test_the_folder_of_compiled_kernels_is_named_by_the_variable_that_the_solver_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert paths.compiled_kernels() == {FOLDER_VARIABLE: str(paths.cache_dir() / "compiled")}
    monkeypatch.setenv(FOLDER_VARIABLE, "/elsewhere")
    assert paths.compiled_kernels() == {FOLDER_VARIABLE: "/elsewhere"}
