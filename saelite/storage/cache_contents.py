"""What lies in the cache folder, and clearing it while others use it: what bears a key, not what strayed into it."""

import re
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from pathlib import Path

from filelock import FileLock, Timeout

from saelite.storage import cache, files

KINDS = "activations", "saes", "tables", "models", "answers"  # all is made again when it is asked for
# A result's name, its key in it; before it what marks it as half-made, after it what belongs to the result.
NAME = re.compile(r"(?:\.tmp-\w{8}-)?((?:[\w-]+-)?[0-9a-f]{16}(?:\.parquet|\.json)?)(\.[\w.]+)?")


def results(kind: str) -> list[tuple[float, int, Path, list[Path]]]:
    """What the cache holds of a kind, the least recently used first; ValueError if there is no such kind.

    A row says when it was last asked for, in seconds since 1970, at the latest now; its bytes; where it is or would be;
    and all that belongs to it but its lock. What a link leads to is left alone.
    """
    if kind not in KINDS:
        raise ValueError(f"The cache has no kind {kind!r}; it has {', '.join(KINDS)}.")
    folder, found, rows = cache.folder() / kind, {}, []
    for path in () if folder.is_symlink() else folder.glob("*"):
        if named := NAME.fullmatch(path.name):
            found.setdefault(folder / named[1], []).append(path)
    for place, paths in found.items():
        with suppress(FileNotFoundError):  # another process is moving it
            used = min(time.time(), max(path.lstat().st_mtime for path in paths))
            if paths := [path for path in paths if path.name != f"{place.name}.lock"]:
                inside = [file for path in paths if not path.is_symlink() for file in (path, *path.rglob("*"))]
                rows.append((used, sum(file.lstat().st_size for file in inside if file.is_file()), place, paths))
    return sorted(rows)


def clean(kinds: Iterable[str] | None = None, older: float = 0.0) -> tuple[int, int, int]:
    """Remove results of all or some kinds, each in one step, but for those asked for within so many days (0 or more).

    Returns how many were removed, the bytes they took, and how many were left because another process is making or
    opening them; one that has a store open keeps what it has. The empty files of the locks stay. Raises OSError if the
    cache cannot be written to.
    """
    if older < 0:
        raise ValueError(f"older={older} days must be 0 or more.")
    removed = freed = in_use = 0
    for used, size, place, paths in [row for kind in kinds or KINDS for row in results(kind)]:
        if time.time() - used >= older * 86_400:
            try:
                with files.in_words(place), FileLock(f"{place}.lock", timeout=0):
                    for path in paths:
                        files.remove(path)
                removed, freed = removed + 1, freed + size
            except Timeout:
                in_use += 1
    return removed, freed, in_use


def in_words() -> list[str]:
    """Lines that say what lies in the cache: of each kind how many results, how large, and when they were used."""
    lines = [f"Cache folder: {cache.folder()}"]
    for kind in KINDS:
        if (cache.folder() / kind).is_symlink():
            lines.append(f"  {kind:<12} a link to {(cache.folder() / kind).readlink()}, which is left alone")
        if found := results(kind):
            used, sizes, places, _ = zip(*found, strict=True)
            size, unfinished = f"{sum(sizes) / 1e6:,.1f} MB", sum(not place.exists() for place in places)
            days = f"{date.fromtimestamp(used[0])} to {date.fromtimestamp(used[-1])}"
            lines.append(f"  {kind:<12} {len(found):>5} results, {size}, {unfinished} unfinished; last used {days}")
    return [*lines, "`saelite cache --clean [KIND ...]` removes them"]
