"""The command line: `python -m latentcore demo`, `python -m latentcore config` and `python -m latentcore kernels`."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import latentcore as lc
from latentcore import datasets

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

DPI = 250
COLUMNS = 20
# Inches. At 250 dots per inch a tile is 140 pixels wide: 14 for each of 8 + 2 columns, 5 for each of 28.
TILE = 0.56
MARGIN = 0.4
GAP = 0.62
HEADER = 1.02
PLANE_INSET = 0.4
RULE = {"color": "0.75", "linewidth": 0.8}


class DemoError(Exception):
    """What the user can put right; the command reports it in one line and exits with status 2."""


@dataclass(frozen=True)
class Preset:
    """A data set of square images, and the model and training that suit it."""

    title: str
    side: int
    border: int  # blank pixels drawn around each image, where its ink reaches the edge
    latent_dim: int
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float


PRESETS = {
    "digits": Preset("handwritten digits (8×8)", 8, 1, 8, (256, 128), 300, 64, 1e-3),
    "mnist": Preset("MNIST", 28, 0, 16, (512, 256), 15, 128, 1e-3),
}


@dataclass(frozen=True)
class Report:
    """Figures of one demo run; losses in nats per row."""

    loss: float
    recon: float
    kl: float
    test_loss: float
    active_units: int
    steps: int
    step_seconds: float
    decode_calls: int
    decode_seconds: float


def _import_extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise DemoError(f"the demo needs {package}: pip install 'latentcore[demo]'") from None


def _check_output(path: Path) -> None:
    """Refuse an output that cannot be written before an epoch is spent on it."""
    if path.exists() and not path.is_file():
        raise DemoError(f"--out {path}: not a regular file")
    if not path.parent.is_dir():
        raise DemoError(f"--out {path}: no such directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise DemoError(f"--out {path}: cannot write in {path.parent}")


def _load(data: str, root: Path | None) -> tuple[Images, Images, Labels]:
    """Return training images, test images and test labels."""
    try:
        if data == "mnist":
            if root is None:
                raise DemoError("--data mnist needs --root, the directory that holds its IDX files")
            train, (test, test_labels) = datasets.load_mnist(root)[0], datasets.load_mnist(root, "test")
            if len(test) < COLUMNS:
                raise DemoError(f"--root {root}: expected at least {COLUMNS} test rows, got {len(test)}")
            return train, test, test_labels
        if root is not None:
            raise DemoError("--root goes with --data mnist only")
        images, labels = datasets.load_digits()
    except ImportError:
        raise DemoError("the demo needs scikit-learn: pip install 'latentcore[demo]'") from None
    except (OSError, ValueError) as error:
        raise DemoError(str(error)) from None
    order = np.random.default_rng(0).permutation(len(images))
    held_out = np.zeros(len(images), bool)
    for digit in range(10):
        held_out[order[labels[order] == digit][:30]] = True
    return images[~held_out], images[held_out], labels[held_out]


def _median_decode_seconds(vae: lc.VAE, n_features: int, calls: int) -> float:
    decode = lc.compile(vae, "decode", batch=1)
    code = np.random.default_rng(0).standard_normal((1, vae.latent_dim), dtype=np.float32)
    out = np.empty((1, n_features), np.float32)
    seconds = np.empty(calls)
    for call in range(-calls // 10, calls):  # the first tenth warms up
        start = time.perf_counter_ns()
        decode(code, out=out)
        seconds[max(call, 0)] = (time.perf_counter_ns() - start) * 1e-9
    return float(np.median(seconds))


def _train(preset: Preset, epochs: int, seed: int, train: Images, test: Images) -> tuple[lc.VAE, Report]:
    vae = lc.VAE(preset.latent_dim, preset.hidden, random_state=seed)
    start = time.perf_counter()
    history = lc.train(
        vae, train, epochs=epochs, batch_size=preset.batch_size, learning_rate=preset.learning_rate, progress=True
    )
    seconds = time.perf_counter() - start
    steps = epochs * math.ceil(len(train) / preset.batch_size)
    calls = 5000
    return vae, Report(
        loss=float(history["loss"][-1]),
        recon=float(history["recon"][-1]),
        kl=float(history["kl"][-1]),
        test_loss=-float(np.mean(vae.score_samples(test))),
        active_units=int(history["active_units"][-1]),
        steps=steps,
        step_seconds=seconds / steps,
        decode_calls=calls,
        decode_seconds=_median_decode_seconds(vae, train.shape[1], calls),
    )


def _print_table(report: Report, preset: Preset) -> None:
    rows = [
        ("loss", f"{report.loss:.2f} nats", f"recon + kl, last epoch; {report.test_loss:.2f} on test rows"),
        ("recon", f"{report.recon:.2f} nats", ""),
        ("kl", f"{report.kl:.2f} nats", ""),
        ("active units", f"{report.active_units} of {preset.latent_dim}", ""),
        ("train step", f"{report.step_seconds * 1e3:.3g} ms", f"batch {preset.batch_size}, mean of {report.steps}"),
        ("decode one code", f"{report.decode_seconds * 1e6:.3g} µs", f"median of {report.decode_calls} calls"),
    ]
    try:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        for name, value, note in rows:
            print(f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {note}".rstrip())
        return
    table = Table(box=SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _mosaic(images: Images, columns: int, preset: Preset) -> Images:
    """Lay (rows * columns, side * side) images out, row by row, as one picture of (rows, columns) bordered tiles."""
    border, side = (preset.border,) * 2, preset.side
    grid = images.reshape(-1, columns, side, side)
    bordered = np.pad(grid, ((0, 0), (0, 0), border, border))
    rows, _, tile, _ = bordered.shape
    picture: Images = bordered.swapaxes(1, 2).reshape(rows * tile, columns * tile)
    return picture


def _principal_plane(codes: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project (n, d) codes to their first two principal components; return (n, 2) and the two shares of variance."""
    centred = codes - codes.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    variance = max(float(np.sum(s**2)), np.finfo(np.float64).tiny)
    return u[:, :2] * s[:2], s[:2] ** 2 / variance


class _Page:
    """Places panels on a figure: positions in inches, from the top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = _import_extra("matplotlib.figure").Figure(figsize=(width, height), facecolor="white")
        self._width, self._height = width, height

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        self.figure.text(left / self._width, 1 - top / self._height, text, ha="left", va="baseline", **style)

    def panel(self, left: float, top: float, width: float, height: float, title: str) -> Any:
        box = (left / self._width, 1 - (top + height) / self._height, width / self._width, height / self._height)
        axes = self.figure.add_axes(box)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(**RULE)
        self.text(left, top - 0.1, title, fontsize=11, color="0.15")
        return axes

    def tiles(self, top: float, images: Images, columns: int, preset: Preset, title: str) -> Any:
        """Show images at the left margin; in the axes' coordinates a tile measures 1 by 1 and y points down."""
        rows = len(images) // columns
        axes = self.panel(MARGIN, top, columns * TILE, rows * TILE, title)
        axes.imshow(
            _mosaic(images, columns, preset),
            cmap="gray_r",
            vmin=0,
            vmax=1,
            interpolation="nearest",
            aspect="auto",
            extent=(0, columns, rows, 0),
        )
        return axes


def _draw(vae: lc.VAE, report: Report, preset: Preset, epochs: int, seed: int, test: Images, labels: Labels) -> Any:
    """Draw the page: reconstructions, samples, the latent plane, interpolations."""
    by_digit = np.argsort(labels, kind="stable")

    def spread(count: int) -> Images:
        """`count` test rows, spread evenly over the digits."""
        return test[by_digit[(2 * np.arange(count) + 1) * len(test) // (2 * count)]]

    originals = spread(COLUMNS)
    starts, ends = np.split(spread(10), 2)
    paths = [
        np.concatenate([start[None], lc.interpolate(vae, start, end, steps=COLUMNS - 2), end[None]])
        for start, end in zip(starts, ends, strict=True)
    ]

    half = COLUMNS // 2 * TILE
    tops = np.cumsum([HEADER + GAP / 2, 2 * TILE + GAP, half + GAP])
    page = _Page(2 * MARGIN + 2 * half, float(tops[2]) + len(paths) * TILE + MARGIN)
    widths = (preset.side**2, *preset.hidden, preset.latent_dim)
    page.text(MARGIN, 0.56, f"Variational autoencoder on {preset.title}", fontsize=17, weight="bold", color="0.1")
    page.text(
        MARGIN,
        0.84,
        f"encoder {'–'.join(map(str, widths))}  ·  {epochs} epochs  ·  seed {seed}  ·  "
        f"test loss {report.test_loss:.2f} nats  ·  {report.active_units} active units",
        fontsize=10,
        color="0.4",
    )

    pairs = np.concatenate([originals, vae.reconstruct(originals)])
    strip = page.tiles(tops[0], pairs, COLUMNS, preset, "Test digits, and below each its reconstruction")
    strip.axhline(1, **RULE)
    samples = lc.sample(vae, 100, random_state=seed)
    page.tiles(tops[1], samples, 10, preset, "Samples from the prior")

    plane = page.panel(
        MARGIN + half + PLANE_INSET, tops[1], half - PLANE_INSET, half, "Latent plane: mean codes of the test rows"
    )
    points, shares = _principal_plane(vae.encode(test)[0])
    colours = np.array(_import_extra("matplotlib").colormaps["tab10"].colors)
    size = float(np.clip(8000 / len(points), 4, 24))
    plane.scatter(*points.T, s=size, c=colours[labels], alpha=0.75, linewidths=0)
    for digit in range(10):
        plane.scatter([], [], s=30, color=colours[digit], label=str(digit))
    plane.set_xlabel(f"first principal component ({shares[0]:.0%} of variance)", fontsize=9, color="0.4")
    plane.set_ylabel(f"second principal component ({shares[1]:.0%})", fontsize=9, color="0.4")
    plane.margins(0.04)
    low, high = plane.get_ylim()
    plane.set_ylim(low, high + 0.07 * (high - low))  # room for the legend
    plane.legend(loc="upper center", ncols=10, frameon=False, fontsize=9, handletextpad=0, columnspacing=0.8)

    title = "Interpolation through the latent space (slerp), between the test digits at either end"
    strips = page.tiles(tops[2], np.concatenate(paths), COLUMNS, preset, title)
    for column in (1, COLUMNS - 1):
        strips.axvline(column, **RULE)
    return page.figure


def _write_png(figure: Any, path: Path) -> None:
    """Write beside `path`, then rename: an earlier file stays whole until the new one is."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("xb") as file:
            figure.savefig(file, format="png", dpi=DPI)
        beside.replace(path)
    except OSError as error:
        raise DemoError(f"--out {path}: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)


def _demo(args: argparse.Namespace) -> None:
    _import_extra("matplotlib.figure")
    _check_output(args.out)
    preset = PRESETS[args.data]
    train, test, labels = _load(args.data, args.root)
    if args.threads is not None:
        lc.set_num_threads(args.threads)
    epochs = args.epochs if args.epochs is not None else preset.epochs
    vae, report = _train(preset, epochs, args.seed, train, test)
    _print_table(report, preset)
    _write_png(_draw(vae, report, preset, epochs, args.seed, test, labels), args.out)
    print(f"wrote {args.out}")


def _config(args: argparse.Namespace) -> None:
    lc.show_config()


def _kernels(args: argparse.Namespace) -> None:
    from latentcore.kernels import write_kernels

    try:
        count = write_kernels(args.folder, args.arch, [lc.load(path) for path in args.model])
    except ImportError as error:
        raise DemoError(f"{error}: pip install 'latentcore[cuda]'") from None
    except (OSError, ValueError) as error:
        raise DemoError(str(error)) from None
    size = sum(path.stat().st_size for path in args.folder.iterdir())
    print(f"wrote {count} kernels, {size / 1e6:.1f} MB, to {args.folder}")


def _integer(low: int, high: int) -> Any:
    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected an integer from {low} to {high}, got {value}")
        return value

    return integer


def _archs(text: str) -> list[int]:
    return [_integer(75, 999)(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m latentcore", description="Latent-variable models.")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser("demo", help="train a VAE on handwritten digits and draw what it learned")
    demo.add_argument("--data", choices=sorted(PRESETS), default="digits", help="default: digits, needs no download")
    demo.add_argument("--root", type=Path, metavar="DIR", help="the folder of MNIST's IDX files, or of mnist/")
    demo.add_argument("--out", type=Path, default=Path("demo.png"), metavar="PNG", help="default: demo.png")
    demo.add_argument("--epochs", type=_integer(1, 100_000), metavar="N", help="default: what suits the data")
    demo.add_argument("--seed", type=_integer(0, 2**64 - 1), default=0, metavar="S", help="default: 0")
    demo.add_argument("--threads", type=_integer(1, 1024), metavar="N", help="default: the engine's")
    demo.set_defaults(run=_demo)
    config = commands.add_parser("config", help="print how the engine was built and what it chose on this machine")
    config.set_defaults(run=_config)
    kernels = commands.add_parser("kernels", help="compile the GPU kernels ahead of time; no GPU is needed")
    kernels.add_argument("folder", type=Path, metavar="DIR", help="where to; LATENTCORE_KERNELS=DIR then finds them")
    kernels.add_argument("model", nargs="*", type=Path, metavar="MODEL", help="files of models; default: common ones")
    kernels.add_argument("--arch", type=_archs, default=[80, 90], metavar="SM,SM", help="default: 80,90")
    kernels.set_defaults(run=_kernels)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own by default).

    Returns the exit status: 0, 2 for what the user can put right, or 130 after Ctrl-C. A malformed command line
    raises SystemExit(2), as argparse does.
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except DemoError as error:
        print(f"latentcore: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latentcore: interrupted", file=sys.stderr)
        return 130
    return 0
