"""The folders of the user."""

from arz_model.kernel_cache import FOLDER_VARIABLE
from launcher import paths


def test_the_folder_of_compiled_kernels_is_named_by_the_variable_that_the_solver_reads():
    assert list(paths.compiled_kernels()) == [FOLDER_VARIABLE]
