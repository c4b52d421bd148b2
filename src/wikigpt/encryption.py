"""Encryption at rest in the age format (https://age-encryption.org/v1), by pyrage."""

import hashlib
import importlib
import os
import stat
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from wikigpt.errors import UserError

_MAGIC = b"age-encryption.org/v1\n"


@dataclass(frozen=True, slots=True)
class Key:
    """One age identity (X25519); it can be pickled, and its `repr` does not show the secret."""

    recipient: str  # age1…, public: what `age -r` takes
    _identity: str = field(repr=False)  # AGE-SECRET-KEY-1…

    @property
    def secret(self) -> bytes:
        """32 bytes for keyed pseudonyms; they tell nothing about the identity they come from."""
        return hashlib.blake2b(self._identity.encode(), digest_size=32, person=b"wikigpt-pseudo").digest()

    def encrypt(self, data: bytes) -> bytes:
        """`data` as a binary age file that this key opens."""
        pyrage = _pyrage()
        return bytes(pyrage.encrypt(data, [pyrage.x25519.Recipient.from_str(self.recipient)]))

    def decrypt(self, data: bytes, source: str | Path = "the data") -> bytes:
        """The content of a binary age file; `source` names it in messages.

        Raises `UserError` if it is not one, was encrypted for another key, or differs from what was written.
        """
        pyrage = _pyrage()
        if not is_encrypted(data):
            raise UserError(f"{source} is not encrypted with age; read it without a key.")
        try:
            return bytes(pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(self._identity)]))
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                raise UserError(
                    f"{source} was encrypted for another key than {self.recipient}; give the key file it was made with."
                ) from None
            raise UserError(
                f"{source} is damaged (cut short or changed since it was written: {error}); restore or rebuild it."
            ) from None


def is_encrypted(data: bytes) -> bool:
    """Whether a file that begins with `data` (22 bytes suffice) is a binary age file."""
    return data.startswith(_MAGIC)


def load_key(path: Path | str, create: bool = False) -> Key:
    """Read an age identity file as `age-keygen` writes it; with `create`, make it first if it is absent.

    Raises `UserError` for anything but one readable X25519 identity, and if others than the owner may read the file.
    """
    path = Path(path)
    pyrage = _pyrage()
    if create and not path.exists():
        _create(path, pyrage)
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()).st_mode)
            content = file.read(65_536)
    except FileNotFoundError:
        raise UserError(f"the key file {path} does not exist; make one with `age-keygen -o {path}`.") from None
    except OSError as error:
        raise UserError(f"the key file {path} cannot be read ({error.strerror}); give another one.") from None
    if is_encrypted(content) or content.startswith(b"-----BEGIN AGE"):
        raise UserError(f"the key file {path} is itself encrypted; decrypt it first with `age --decrypt`.")
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    identities = [line for line in lines if line and not line.startswith("#")]
    if len(identities) != 1:
        raise UserError(
            f"the key file {path} holds {len(identities)} keys instead of one; "
            "it should have a single line AGE-SECRET-KEY-1…, as `age-keygen` writes it."
        )
    try:
        identity = pyrage.x25519.Identity.from_str(identities[0])
    except pyrage.IdentityError:
        raise UserError(
            f"the key file {path} is damaged or of another kind: its line is not a valid AGE-SECRET-KEY-1…; "
            "restore it from your copy."
        ) from None
    return Key(str(identity.to_public()), str(identity))


def _create(path: Path, pyrage: ModuleType) -> None:
    identity = pyrage.x25519.Identity.generate()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"# created: {now}\n# public key: {identity.to_public()}\n{identity}\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces the key that another process has made in the meantime.
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()


def _check_private(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"the key file {path} can be read by others than its owner; run `chmod 600 {path}`.")


def _pyrage() -> ModuleType:
    try:
        return importlib.import_module("pyrage")
    except ImportError:
        raise UserError(
            'encryption needs pyrage, which is not installed; run `pip install "wikigpt[privacy]"`.'
        ) from None
