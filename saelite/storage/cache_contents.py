"""What lies in the cache folder, and clearing it while others may be using it.

Only what bears a key is counted and cleared, as everything does that `saelite.storage.cache` keeps: a file of yours
that has strayed into the folder is left alone, and so is what a link in it leads to.
"""

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from saelite.storage import cache

# The folders in the cache, and what they hold. All of it is made again when it is asked for.
KINDS = {
    "activations": "harvested activations",
    "saes": "trained SAEs",
    "tables": "scores of SAEs",
    "models": "converted model weights",
    "answers": "answers of a judge",
}

# A result's name, its key in it; before it what marks a file as half-written, after it what belongs to the result.
NAME = re.compile(r"(?:\.tmp-[0-9a-f]{8}-)?((?:[\w-]+-)?[0-9a-f]{16}(?:\.parquet|\.json)?)(\.[\w.]+)?")


@dataclass
class Result:
    """What bears one key: the result, its checksums, what a killed run left of it.

    Attributes
    ----------
    place : pathlib.Path
        Where the result is, or would be.
    paths : list of pathlib.Path
        All that belongs to it, but for the file that its lock hangs on.
    bytes : int
        What they take together.
    used : float
        When it was last asked for, in seconds since 1970; at the latest now, whatever the clock was then.
    whole : bool
        Whether the result itself is there.
    """

    place: Path
    paths: list[Path] = field(default_factory=list)
    bytes: int = 0
    used: float = 0.0

    @property
    def whole(self):
        return self.place.exists()


def results(kind: str) -> list[Result]:
    """What the cache holds of one kind, the least recently used first.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"The cache has no kind {kind!r}; it has {', '.join(KINDS)}.")
    folder, found = cache.folder() / kind, {}
    if folder.is_symlink() or not folder.is_dir():
        return []
    for path in sorted(folder.iterdir()):
        named = NAME.fullmatch(path.name)
        if not named:
            continue
        result = found.setdefault(named[1], Result(folder / named[1]))
        inside = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
        for one in inside:
            try:
                about = one.lstat()
            except FileNotFoundError:  # another process moved it meanwhile
                continue
            result.bytes += about.st_size if not one.is_dir() else 0
            result.used = max(result.used, min(about.st_mtime, time.time()))
        if named[2] != ".lock":
            result.paths.append(path)
    return sorted((result for result in found.values() if result.paths), key=lambda result: result.used)


def clean(kinds=None, older: float = 0.0) -> tuple[int, int, int]:
    """Remove results, each in one step, and none that another process is making or opening.

    A process that has opened a store or loaded an SAE keeps what it has; the system frees the room when that ends. The
    empty files that locks hang on stay.

    Parameters
    ----------
    kinds : iterable of str, optional
        See `KINDS`; all of them by default.
    older : float
        Keep what was asked for within so many days.

    Returns
    -------
    (int, int, int)
        Results removed, the bytes they took, and results left because they are in use.

    Raises
    ------
    ValueError
        If there is no such kind, or `older` is below 0.
    OSError
        If the cache cannot be written to.
    """
    if older < 0:
        raise ValueError(f"older={older} days must be 0 or more.")
    removed = freed = in_use = 0
    for kind in KINDS if kinds is None else kinds:
        for result in results(kind):
            if time.time() - result.used < older * 86_400:
                continue
            try:
                with filelock.FileLock(result.place.with_name(f"{result.place.name}.lock"), timeout=0):
                    for path in result.paths:
                        cache.remove(path)
            except filelock.Timeout:
                in_use += 1
                continue
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{kind}/{result.place.name} cannot be removed ({error.strerror}): the cache folder has to be "
                    "writable, and on Windows no process may have the file open",
                    str(cache.folder()),
                ) from None
            removed, freed = removed + 1, freed + result.bytes
    return removed, freed, in_use


def in_words() -> list[str]:
    """Lines that say what lies in the cache: of each kind how many results, how large, and when they were used."""
    lines, total = [f"Cache folder: {cache.folder()}"], 0
    for kind, words in KINDS.items():
        found = results(kind)
        if (cache.folder() / kind).is_symlink():
            lines.append(f"  {kind:<12} a link to {os.readlink(cache.folder() / kind)}, which is left alone")
        if not found:
            continue
        size, unfinished = sum(result.bytes for result in found), sum(not result.whole for result in found)
        total += size
        line = f"  {kind:<12} {len(found):>5} {words}, {megabytes(size)}"
        line += f", {unfinished} unfinished" if unfinished else ""
        days = [time.strftime("%Y-%m-%d", time.localtime(result.used)) for result in (found[0], found[-1])]
        lines.append(f"{line}; last used {days[0] if days[0] == days[1] else f'between {days[0]} and {days[1]}'}")
    return [*lines, f"  in all {megabytes(total)}; `python -m saelite cache --clean [KIND ...]` removes it"]


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
