"""The private per-user folder of engines: an engine file is executable code, so none is trusted unseen."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
from pydantic import ValidationError

from denoscope.runtime.errors import InvalidInput

from .lock import locked
from .records import EngineContents, EngineManifest, EngineSpec

__all__ = ["BuiltEngine", "CachedEngine", "EngineCache", "EngineState", "default_cache_folder"]

FOLDER_VARIABLE = "DENOSCOPE_ENGINES"
_ENGINE, _MANIFEST, _DRAFT = ".engine", ".json", ".draft"
_LOCKS = "locks"
_MANIFEST_LIMIT = 1 << 20
_KEPT_LIMIT = 1 << 30
_REPLACE_ATTEMPTS = 40  # Windows refuses to replace a file that somebody is reading; 2 s in all


def default_cache_folder() -> Path:
    """Return where engines lie: the environment's DENOSCOPE_ENGINES, or the user's own cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("denoscope", False)) / "engines"


@dataclass(frozen=True)
class BuiltEngine:
    """Result of a builder: the serialised engine and what went into it."""

    data: bytes
    contents: EngineContents = field(default_factory=EngineContents)


@dataclass(frozen=True)
class CachedEngine:
    """An engine whose checks have passed.

    Attributes
    ----------
    data
        The serialised engine, the very bytes that were checked.
    manifest
        What is known about it.
    path
        Its file.
    built
        Whether it was built now; otherwise it was found in the cache.
    reason
        Why it was built; empty if found.
    """

    data: bytes
    manifest: EngineManifest
    path: Path
    built: bool
    reason: str


@dataclass(frozen=True)
class EngineState:
    """One entry of the cache as `verify` finds it: `problem` is None for a good one."""

    path: Path
    manifest: EngineManifest | None
    problem: str | None


class _Unusable(Exception):
    """Why an entry cannot be used; never leaves this module."""


class EngineCache:
    """A folder of engines, each with a manifest; both are named by the engine's key.

    An entry is used only if its manifest is exactly what was asked for, its file has the size and the
    SHA-256 of the manifest, and both belong to this user alone. Anything else is built again. Entries
    are written under a lock, to a draft that is then renamed, so none is ever half there.

    Parameters
    ----------
    folder
        Where the engines lie; None for `default_cache_folder()`. Made when first written to, for this
        user only (on Windows by the access list that it inherits from the user's profile).
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = default_cache_folder() if folder is None else Path(folder)

    def __repr__(self) -> str:
        return f"EngineCache({str(self.folder)!r})"

    def find(self, spec: EngineSpec) -> CachedEngine | str:
        """Return the engine for `spec`, or one clause that says why there is none to be used."""
        try:
            if not self.folder.is_dir():
                return "not built yet"
            self._check_private()
            return self._read(spec)
        except _Unusable as reason:
            return str(reason)

    def get_or_build(
        self,
        spec: EngineSpec,
        build: Callable[[], BuiltEngine],
        *,
        bundle: str = "",
        on_wait: Callable[[], None] | None = None,
    ) -> CachedEngine:
        """Return the engine for `spec`, built now if it is missing, damaged, foreign or stale.

        Parameters
        ----------
        spec
            What is wanted.
        build
            Makes it; called at most once, while a lock keeps other processes from doing the same.
        bundle
            Name to write into the manifest.
        on_wait
            Called once if another process holds the lock, which may last as long as its build.

        Raises
        ------
        InvalidInput
            If the cache folder belongs to, or can be written by, another user.
        """
        found = self.find(spec)
        if isinstance(found, CachedEngine):
            return found
        self._make_folder()
        with locked(self._lock_of(spec.key), on_wait):
            found = self.find(spec)
            if isinstance(found, CachedEngine):
                return found
            built = build()
            manifest = EngineManifest(
                spec=spec,
                sha256=hashlib.sha256(built.data).hexdigest(),
                size=len(built.data),
                created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                bundle=bundle,
                contents=built.contents,
            )
            engine, described = self._paths(spec.key)
            # The manifest goes first and comes back last: without it there is no entry.
            described.unlink(missing_ok=True)
            _write(engine, built.data)
            _write(described, manifest.model_dump_json(indent=2).encode() + b"\n")
        return CachedEngine(built.data, manifest, engine, built=True, reason=found)

    def search(self, onnx_sha256: str) -> list[EngineManifest]:
        """Return what is known about every engine of one graph, unchecked: `find` checks the one that is used."""
        if not self.folder.is_dir():
            return []
        self._check_private()
        found = []
        for key in self._keys():
            try:
                manifest = self._manifest(key)
            except _Unusable:
                continue
            if manifest.spec.onnx_sha256 == onnx_sha256:
                found.append(manifest)
        return found

    def private_folder(self, name: str) -> Path:
        """Return a folder inside, made now, for what a library keeps by itself and loads as code."""
        self._make_folder()
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        if problem := _not_private(folder.stat()):
            raise InvalidInput(
                f"The folder {folder} {problem}, and what lies in it is executable code: "
                "make it yours alone (chmod go-w)."
            )
        return folder

    def keep(self, name: str, key: str, data: bytes) -> None:
        """Write what a library has compiled for an engine to `private_folder(name)`, with its checksum."""
        folder = self.private_folder(name)
        with locked(self._lock_of(key)):
            _write(folder / f"{key}.bin", hashlib.sha256(data).digest() + data)

    def kept(self, name: str, key: str) -> bytes | None:
        """Return what `keep` wrote; None where there is none, or it is damaged or another user's."""
        path = self.folder / name / f"{key}.bin"
        try:
            self._check_private()
            raw = _read_private(path, limit=_KEPT_LIMIT)
        except (_Unusable, FileNotFoundError):
            return None
        digest, data = raw[:32], raw[32:]
        return data if hashlib.sha256(data).digest() == digest else None

    @contextlib.contextmanager
    def updating(
        self, name: str, key: str, on_wait: Callable[[], None] | None = None
    ) -> Iterator[tuple[bytes | None, Callable[[bytes], None]]]:
        """Give what is `kept` and a function that replaces it, while other processes that update it wait.

        May be used while an engine is being built: its lock is a separate file.
        """
        folder = self.private_folder(name)

        def save(data: bytes) -> None:
            _write(folder / f"{key}.bin", hashlib.sha256(data).digest() + data)

        with locked(folder / f"{key}.lock", on_wait):
            yield self.kept(name, key), save

    def verify(self) -> Iterator[EngineState]:
        """Check every entry completely, in the order of their keys."""
        if not self.folder.is_dir():
            return
        self._check_private()
        for key in self._keys():
            yield self._state(key)

    def prune(self, versions: Mapping[str, str], *, everything: bool = False) -> list[tuple[Path, str]]:
        """Delete what can be of no more use and return each deleted engine with the reason.

        Parameters
        ----------
        versions
            Version now installed, by flavour: engines of another version go. Engines of a flavour that
            is not named here stay.
        everything
            Delete good ones too.
        """
        if not self.folder.is_dir():
            return []
        self._make_folder()
        gone: list[tuple[Path, str]] = []
        for key in self._keys():
            with locked(self._lock_of(key)):
                state = self._state(key)
                reason = state.problem or _outdated(state, versions) or ("asked for" if everything else None)
                if reason is not None:
                    for path in reversed(self._paths(key)):
                        path.unlink(missing_ok=True)
                    gone.append((state.path, reason))
        for draft in self.folder.glob(f"*{_DRAFT}"):
            with locked(self._lock_of(draft.name)):
                if draft.exists():  # and its writer is gone, or it would hold the lock
                    draft.unlink()
                    gone.append((draft, "left by a process that was stopped while writing"))
        return gone

    def _state(self, key: str) -> EngineState:
        engine, _ = self._paths(key)
        manifest = None
        try:
            manifest = self._manifest(key)
            self._read(manifest.spec)
        except _Unusable as reason:
            return EngineState(engine, manifest, str(reason))
        return EngineState(engine, manifest, None)

    def _keys(self) -> list[str]:
        names = {p.stem for ending in (_ENGINE, _MANIFEST) for p in self.folder.glob(f"*{ending}")}
        return sorted(names)

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}{_ENGINE}", self.folder / f"{key}{_MANIFEST}"

    def _lock_of(self, key: str) -> Path:
        # A fixed few, so that they need never be deleted.
        return self.folder / _LOCKS / hashlib.sha256(key[:64].encode()).hexdigest()[0]

    def _make_folder(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._check_private()
        (self.folder / _LOCKS).mkdir(mode=0o700, exist_ok=True)

    def _check_private(self) -> None:
        if problem := _not_private(self.folder.stat()):
            raise InvalidInput(
                f"The engine folder {self.folder} {problem}, and an engine is executable code: "
                f"make it yours alone (chmod go-w), or set {FOLDER_VARIABLE} to another folder."
            )

    def _manifest(self, key: str) -> EngineManifest:
        _, path = self._paths(key)
        raw = _read_private(path)
        try:
            manifest = EngineManifest.model_validate_json(raw)
        except ValidationError as error:
            raise _Unusable(f"its manifest is damaged ({error.errors()[0]['msg']})") from error
        if manifest.spec.key != key:
            raise _Unusable("its manifest belongs to another engine")
        return manifest

    def _read(self, spec: EngineSpec) -> CachedEngine:
        manifest = self._manifest(spec.key)
        if manifest.spec != spec:
            raise _Unusable("its manifest describes another engine")
        path, _ = self._paths(spec.key)
        data = _read_private(path, limit=manifest.size)
        if len(data) != manifest.size:
            raise _Unusable(f"its file has {len(data)} bytes instead of {manifest.size}")
        if (found := hashlib.sha256(data).hexdigest()) != manifest.sha256:
            raise _Unusable(f"its file has the SHA-256 {found[:12]}… instead of {manifest.sha256[:12]}…")
        return CachedEngine(data, manifest, path, built=False, reason="")


def _outdated(state: EngineState, versions: Mapping[str, str]) -> str | None:
    assert state.manifest is not None
    spec = state.manifest.spec
    installed = versions.get(spec.flavour, spec.flavour_version)
    if installed == spec.flavour_version:
        return None
    return f"{spec.flavour} is now {installed}, the engine is of {spec.flavour_version}"


def _read_private(path: Path, limit: int = _MANIFEST_LIMIT) -> bytes:
    """Read a file of this user's own, a byte more than `limit` at most."""
    if path.is_symlink():
        raise _Unusable(f"{path.name} is a link")
    try:
        with path.open("rb") as file:
            if problem := _not_private(os.fstat(file.fileno())):
                raise _Unusable(f"{path.name} {problem}")
            return file.read(limit + 1)
    except FileNotFoundError:
        raise _Unusable("not built yet" if path.suffix == _MANIFEST else "its file is missing") from None
    except OSError as error:
        raise _Unusable(f"{path.name} cannot be read ({error.strerror})") from error


def _not_private(status: os.stat_result) -> str | None:
    """Return why another user may have written a file; None if it cannot, or access lists decide."""
    if sys.platform == "win32":
        return None
    if status.st_uid != os.geteuid():
        return f"belongs to the user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by other users"
    return None


def _write(path: Path, data: bytes) -> None:
    """Write a file in one step, readable by this user only; nothing of it is left where that does not succeed."""
    draft = path.with_name(path.name + _DRAFT)
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _replace(draft, path)
    except BaseException:  # a full disk, or Ctrl-C
        draft.unlink(missing_ok=True)
        raise


def _replace(draft: Path, path: Path) -> None:
    for attempt in range(_REPLACE_ATTEMPTS):
        try:
            draft.replace(path)
        except PermissionError:
            if attempt == _REPLACE_ATTEMPTS - 1:
                raise
            time.sleep(0.05)
        else:
            return
