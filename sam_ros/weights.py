"""The official checkpoints: where they are kept, how to verify them, the command that gets them."""

from __future__ import annotations

import argparse
import errno
import hashlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pooch
import requests

from sam_ros.core.catalogue import MODELS, Model, OfficialCheckpoint
from sam_ros.errors import WeightsError

CHUNK_BYTES = 1 << 16  # what an interrupted download loses at most
TIMEOUT_SEC = 30.0  # of silence, not of the whole download
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last is a limit on the size of files
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)

_logger = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The folder of downloaded checkpoints: ``SAM_ROS_CACHE`` if set, else the user's cache folder."""
    return Path(os.environ.get("SAM_ROS_CACHE") or pooch.os_cache("sam_ros"))


def cached_path(model_type: str, *, models: Mapping[str, Model] = MODELS) -> Path:
    """Where ``download`` puts this model's checkpoint, whether or not it is there.

    Raises:
        WeightsError: there is no official checkpoint of that name.
    """
    return cache_dir() / _official(model_type, models).file_name


def verify(path: Path, model_type: str, *, models: Mapping[str, Model] = MODELS) -> None:
    """Returns if the file is the official checkpoint of that model, byte for byte.

    Raises:
        WeightsError: it is missing, of another size or of another digest; the message says what mends it.
    """
    problem = _problem(path, _official(model_type, models))
    if problem is not None:
        raise WeightsError(f"{path} {problem}. Get it with: {_mending_command(path, model_type)}")


def download(
    model_type: str,
    directory: Path | None = None,
    *,
    progress: bool = True,
    models: Mapping[str, Model] = MODELS,
) -> Path:
    """Downloads a checkpoint unless a verified one is there already; returns its path.

    What has arrived is kept beside it as ``.part``, from where the next attempt goes on after an
    interruption; a file takes its final name only once it is verified.

    Args:
        model_type: a key of ``models``.
        directory: where to put it; ``cache_dir()`` if None.
        progress: whether to draw a progress bar on stderr.
        models: the known ones.

    Raises:
        WeightsError: the model is unknown, the download failed, the folder is full or not writable, or the
            digest is wrong.
    """
    official = _official(model_type, models)
    path = (directory or cache_dir()) / official.file_name
    if _problem(path, official) is None:
        _logger.info("%s is there already, verified", path)
        return path
    partial = path.with_name(f"{path.name}.part")
    try:
        _fetch_verified(official, partial, progress)
        partial.replace(path)
    except OSError as error:  # the exceptions of requests are OSErrors too
        raise WeightsError(_failure(error, official, path)) from error
    _logger.info("%s is there, verified", path)
    return path


def main(argv: Sequence[str] | None = None, *, models: Mapping[str, Model] = MODELS) -> int:
    """The ``weights`` command: downloads one checkpoint or lists them; returns the exit code."""
    arguments = _parse_arguments(list(sys.argv[1:] if argv is None else argv), models)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    directory = arguments.directory or cache_dir()
    try:
        if arguments.list:
            _list_models(directory, models)
        elif models[arguments.model_type].checkpoint is None:
            print(f"{arguments.model_type} ships with the package: there is nothing to download.")
        else:
            print(download(arguments.model_type, directory, models=models))
    except WeightsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parse_arguments(argv: list[str], models: Mapping[str, Model]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="weights",
        description="Download and verify the official Segment Anything checkpoints.",
    )
    parser.add_argument("model_type", nargs="?", choices=list(models))
    parser.add_argument("--list", action="store_true", help="show which are there and verified")
    parser.add_argument("--directory", type=Path, help=f"instead of {cache_dir()}")
    if "--ros-args" in argv:  # launch appends them to every executable
        del argv[argv.index("--ros-args") :]
    arguments = parser.parse_args(argv)
    if arguments.list == bool(arguments.model_type):
        parser.error("give either a model or --list")
    return arguments


def _list_models(directory: Path, models: Mapping[str, Model]) -> None:
    """One line for each: its name, size and licence, and whether its file is there."""
    print(f"In {directory}:")
    for model in models.values():
        print(
            f"{model.model_type:16} {model.download_size:>12}  {model.licence:11} {_state(model, directory)}"
        )


def _state(model: Model, directory: Path) -> str:
    """Whether a model can be used, for a person to read."""
    if model.checkpoint is None:
        return "ships with the package"
    problem = _problem(directory / model.checkpoint.file_name, model.checkpoint)
    return f"{model.checkpoint.file_name}  {'verified' if problem is None else problem}"


def _official(model_type: str, models: Mapping[str, Model]) -> OfficialCheckpoint:
    """The file to download for a model.

    Raises:
        WeightsError: there is none of that name.
    """
    official = {name: model.checkpoint for name, model in models.items() if model.checkpoint is not None}
    try:
        return official[model_type]
    except KeyError:
        raise WeightsError(
            f"no official checkpoint is called {model_type!r}; there are {', '.join(official)}"
        ) from None


def _problem(path: Path, official: OfficialCheckpoint) -> str | None:
    """What is wrong with the file, or None if it is the official one."""
    try:
        if not path.is_file():
            return "is missing"
        size_bytes = path.stat().st_size
        if official.size_bytes not in (None, size_bytes):
            return f"is damaged: it holds {size_bytes} bytes instead of {official.size_bytes}"
        sha256 = _sha256(path)
    except OSError as error:
        return f"cannot be read: {error}"
    if sha256 != official.sha256:
        return f"is not the official file: its SHA-256 is {sha256} instead of {official.sha256}"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _mending_command(path: Path, model_type: str) -> str:
    elsewhere = "" if path.parent == cache_dir() else f" --directory {path.parent}"
    command = f"weights {model_type}{elsewhere}"
    return f"ros2 run sam_ros {command} (without ROS: .venv/bin/{command})"


def _fetch_verified(official: OfficialCheckpoint, partial: Path, progress: bool) -> None:
    """Completes ``partial``, from the start if what an earlier attempt left cannot be completed."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    resumed = _size_bytes(partial) > 0
    if _problem(partial, official) is not None:
        _fetch(official, partial, progress)
    problem = _problem(partial, official)
    if problem is None:
        return
    partial.unlink()
    if not resumed:
        raise WeightsError(f"what came from {official.url} {problem}. Nothing of it was kept")
    _logger.info("What an earlier attempt left is of no use; downloading from the start")
    _fetch_verified(official, partial, progress)


def _fetch(official: OfficialCheckpoint, partial: Path, progress: bool) -> None:
    """Appends to ``partial`` what it lacks."""
    start = _size_bytes(partial)
    _logger.info("Downloading %s%s", official.url, f" from byte {start}" if start else "")
    downloader = pooch.HTTPDownloader(
        progressbar=progress,
        chunk_size=CHUNK_BYTES,
        timeout=TIMEOUT_SEC,
        headers={"Range": f"bytes={start}-"} if start else {},
    )
    try:
        with partial.open("ab") as file:
            downloader(official.url, file, None)
    except requests.HTTPError as error:
        if error.response.status_code != requests.codes.requested_range_not_satisfiable:
            raise  # else there is nothing beyond what is here already: its digest decides


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _failure(error: OSError, official: OfficialCheckpoint, path: Path) -> str:
    size = f"{official.size_bytes} bytes" if official.size_bytes else "it"
    elsewhere = "give --directory elsewhere, or set SAM_ROS_CACHE, for the node too"
    if error.errno in NO_SPACE:
        return f"no space left in {path.parent} for {size}: make room there, or {elsewhere}"
    if error.errno in NOT_WRITABLE:
        return f"cannot write to {path.parent} ({error.strerror}): {elsewhere}"
    return (
        f"could not download {official.url} to {path}: {error}. Give the same command again: it goes on from "
        "what has arrived. On a machine without a network, copy the file to that place from another one"
    )


if __name__ == "__main__":
    sys.exit(main())
