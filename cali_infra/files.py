"""Writing files that others must not read, and never half a file.

It owns modes and atomic replacement; what is in a file is its caller's business.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def private_folder(path: Path) -> Path:
    """Make the folder with mode 0700, or tighten the one that is there; returns it."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != PRIVATE_FOLDER:
        path.chmod(PRIVATE_FOLDER)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Replace the file's content at once, with mode 0600; missing folders are made private.

    A reader sees the old content or the new one. What was there is kept when writing fails.
    """
    temporary = _write_beside(path, content, PRIVATE_FILE)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_private(path: Path, content: bytes) -> None:
    """Replace the content of a file that is there, as `write_private` does; its owner stays, and of its mode what
    is stricter than 0600. Raises PermissionError where it is another user's.
    """
    before = path.stat()
    temporary = _write_beside(path, content, stat.S_IMODE(before.st_mode) & PRIVATE_FILE)
    try:
        if temporary.stat().st_uid != before.st_uid:
            # With sudo it would be root's from here on, and lost to its owner.
            os.chown(temporary, before.st_uid, before.st_gid)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_new(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write a file that must not exist yet, whole or not at all.

    Raises FileExistsError, also when another process made the file in the meantime.
    """
    temporary = _write_beside(path, content, mode)
    try:
        # A hard link fails where the name is taken; a rename would replace it.
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_to_others(path: Path) -> bool:
    """Whether anyone but the owner may read, write or run the file."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _write_beside(path: Path, content: bytes, mode: int) -> Path:
    if not path.parent.is_dir():
        private_folder(path.parent)
    # mkstemp creates with 0600, so that there is no moment in which others can read it.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if mode != PRIVATE_FILE:
            temporary.chmod(mode)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
