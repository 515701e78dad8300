"""Why something failed, as half a sentence: what Python's exceptions say, without their insides."""

from __future__ import annotations

import errno
import os

_ERRNO = {
    errno.ENOENT: "there is no such file or folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EACCES: "this user may not",
    errno.EPERM: "this user may not",
    errno.EROFS: "its disk can only be read",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is full",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EEXIST: "something of that name is there already",
    errno.EMFILE: "this process has too many files open",
}


def reason(error: BaseException, *, named: bool = True) -> str:
    """`error` as half a sentence without an end; with `named` the file that it is about comes first, if it is known."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not text in UTF-8 (byte {error.start + 1:,} is none)"
    if not isinstance(error, OSError):
        return str(error).rstrip(".")
    said = _ERRNO.get(error.errno or 0) or (error.strerror or str(error)).rstrip(".").lower()
    if not named or not isinstance(error.filename, (str, bytes, os.PathLike)):
        return said
    return f"{os.fsdecode(error.filename)}: {said}"
