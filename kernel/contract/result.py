"""`result.json`: how a session ended, true whatever happened.

Standard library only.
"""

from __future__ import annotations

import json
from pathlib import Path

from kernel.contract.events import Result
from kernel.contract.files import write_aside
from kernel.contract.names import RESULT


def write_result(result: Result, folder: Path) -> None:
    """Put it into `folder`, whole or not at all."""
    write_aside(folder / RESULT, (json.dumps(result.fields, sort_keys=True, indent=1) + "\n").encode())
