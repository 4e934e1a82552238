"""Cut image data into pieces that travel: python tools/pack_data.py SOURCE OUT [--as files|pixels] [--piece MIB]

files: the image files of mini-ImageNet's zips as they are (such as webp), cut anew so that no zip is above --piece MiB.
pixels: every image decoded to uint8, as an uncompressed PPM in an uncompressed zip: opening them costs a copy.

What is written has the layout that `--source` reads: train-01.zip, ..., val-01.zip, ..., test-01.zip, each with
split/class/image. Images are decoded where they arrive, on all cores, once, into the cache.
Never pass on what you may not: mini-ImageNet's pictures are ImageNet's.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from innerloop.data.mini_imagenet import CLASSES, mini_imagenet

Entry = tuple[str, bytes]  # name in the zip, content
_OVERHEAD = 256  # bytes that a zip needs for an entry besides name and content


def files(source: Path, split: str) -> Iterator[Entry]:
    """The image files of a split's zips, as they are.

    Raises:
        FileNotFoundError: there are none.
    """
    zips = sorted(source.glob(f"{split}*.zip"))
    if not zips:
        raise FileNotFoundError(f"no {split}*.zip in {source}; folders of images can be packed with --as pixels")
    for path in zips:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, archive.read(entry)


def pixels(source: Path, size: int) -> Iterator[tuple[str, Iterator[Entry]]]:
    """Each split of mini-ImageNet with its images as PPM files of `size` x `size` pixels."""
    for split, bank in zip(CLASSES, mini_imagenet(source, size=size), strict=True):

        def entries(split: str = split, bank=bank) -> Iterator[Entry]:
            for index, name in enumerate(bank.classes):
                for number, image in enumerate(bank.of_class(index)):
                    height, width, _ = image.shape
                    header = f"P6 {width} {height} 255\n".encode()
                    yield f"{split}/{name}/{number:04}.ppm", header + image.contiguous().numpy().tobytes()

        yield split, entries()


def cut(entries: Iterable[Entry], out: Path, split: str, piece: int) -> list[Path]:
    """Write entries into zips of at most `piece` bytes.

    Raises:
        ValueError: a single image is larger.
    """
    paths: list[Path] = []
    archive: zipfile.ZipFile | None = None
    room = 0
    for name, content in entries:
        need = len(content) + 2 * len(name.encode()) + _OVERHEAD
        if need > piece:
            raise ValueError(f"{name} alone has {need} bytes, above a piece of {piece}: give a larger --piece")
        if archive is None or need > room:
            if archive:
                archive.close()
            paths.append(out / f"{split}-{len(paths) + 1:02}.zip")
            archive, room = zipfile.ZipFile(paths[-1], "w", zipfile.ZIP_STORED), piece - _OVERHEAD
        archive.writestr(name, content)
        room -= need
    if archive:
        archive.close()
    return paths


def pack(source: Path, out: Path, how: str, piece: int, size: int = 84) -> list[Path]:
    """Write all splits; the pieces in order."""
    out.mkdir(parents=True, exist_ok=True)
    splits = pixels(source, size) if how == "pixels" else ((split, files(source, split)) for split in CLASSES)
    return [path for split, entries in splits for path in cut(entries, out, split, piece)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="mini-ImageNet, as `--source` takes it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--as", dest="how", choices=["files", "pixels"], default="files")
    parser.add_argument("--piece", type=float, default=60, help="MiB at most")
    parser.add_argument("--size", type=int, default=84, help="pixels a side, of --as pixels")
    args = parser.parse_args()
    try:
        paths = pack(args.source, args.out, args.how, int(args.piece * 2**20), args.size)
    except (ValueError, OSError) as error:
        sys.exit(f"pack_data: {error}")
    for path in paths:
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
