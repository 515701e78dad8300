"""The wheels that this machine's user has downloaded, for tests that have a cache of their own."""

from pathlib import Path

from launcher import paths


def share(cache: Path) -> None:
    """Let the cache of kaglaunch at `cache`, which need not exist yet, hold the user's wheels."""
    ours = paths.cache_dir() / "wheels"
    ours.mkdir(parents=True, exist_ok=True)  # on a fresh machine nothing was downloaded yet
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "wheels").symlink_to(ours)
