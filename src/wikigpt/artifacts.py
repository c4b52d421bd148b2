"""Folders and files that are either complete or absent, and never shared by two writers.

Everything WikiGPT leaves on disk goes through here: written into a temporary sibling, flushed to the
disk, then renamed (rename is atomic on one file system), so that a crash leaves the old version.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wikigpt.errors import UserError


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """Short hex digest of JSON-serialisable values; equal values give equal fingerprints."""
    data = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def cache_folder(part: str = "") -> Path:
    """A folder of the user's for what can be made again, made if need be; `RuntimeError` where there is no home."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wikigpt" / part
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomic(path: Path, data: str | bytes, *, survives_power_cuts: bool = True) -> None:
    """Replace `path` by `data` (text as UTF-8) in one step.

    Without `survives_power_cuts`, which takes some milliseconds, the disk may hold part of it after one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix_beside(path), suffix=".tmp")
    _with_usual_permissions(Path(name), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if survives_power_cuts:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say for what
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable UTF-8 JSON, atomically."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or damaged one is a `UserError` naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; the step that writes it has not been run.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete its folder and build it again.") from None


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to fill; on success it takes `path`'s place, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix_beside(path), suffix=".tmp"))
    _with_usual_permissions(temporary, 0o777)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
                _with_usual_permissions(file, 0o666)  # safetensors writes for the owner alone
        if path.exists():
            old = path.with_name(f".{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def _with_usual_permissions(temporary: Path, mode: int) -> None:
    """Undo that tempfile makes what it makes private: an artefact is to be read by whom the umask lets."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(mode & ~umask)


def _prefix_beside(path: Path) -> str:
    """How the temporary sibling's name begins: it holds the process id, so that those of killed processes can go."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        import psutil

        process = left.name.removeprefix(f".{path.name}.").partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return f".{path.name}.{os.getpid()}-"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file; a second process that wants it gets a `UserError` at once.

    So does who cannot write there.
    """
    from filelock import FileLock, Timeout  # 20 ms, with asyncio

    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another wikigpt process is writing to {folder}; wait for it or choose another folder."
        ) from None
    except OSError as error:
        raise _not_writable(folder, error) from None
    try:
        yield
    finally:
        lock.release()


def check_output_folder(path: Path, marker: str) -> None:
    """Refuse to write into a folder that holds something else, or where nothing can be written.

    A folder is ours when it is absent, empty, or holds `marker` (the artefact's manifest).
    """
    if path.is_file():
        raise UserError(f"{path} is a file, but a folder is needed there; give another name.")
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise _not_writable(nearest, error) from None
    if path.is_dir() and not (path / marker).exists():
        strangers = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
        if strangers:
            names = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
            raise UserError(
                f"{path} already holds something else ({names}) and is not an output of this command; "
                "give an empty or a new folder."
            )


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"nothing can be written to {folder} ({error.strerror}); choose another folder.")
