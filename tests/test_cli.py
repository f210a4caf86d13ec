import builtins
import gzip
import os
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

import latentcore as lc
from latentcore import cli

PNG = b"\x89PNG\r\n\x1a\n"


def without(monkeypatch, *names):
    """Make the modules of these names, and what is inside them, look not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def mnist(tmp_path):
    """A folder in MNIST's format: 150 training rows and 33 test rows."""
    root = tmp_path / "data"
    root.mkdir()
    rng = np.random.default_rng(0)
    for prefix, rows in ("train", 150), ("t10k", 33):
        pixels = rng.integers(0, 256, (rows, 28, 28), np.uint8)
        labels = rng.integers(0, 10, rows, np.uint8)
        (root / f"{prefix}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(struct.pack(">4I", 0x803, rows, 28, 28) + pixels.tobytes())
        )
        (root / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, rows) + labels.tobytes())
    return root


def check_png(path):
    from matplotlib.image import imread

    assert path.read_bytes().startswith(PNG)
    picture = imread(path)
    tile = round(cli.DPI * cli.TILE)
    assert picture.shape[1] == round(2 * cli.MARGIN * cli.DPI) + cli.COLUMNS * tile
    assert picture[..., :3].std() > 0.05
    assert [file for file in path.parent.iterdir() if file.suffix == ".tmp"] == []


def rows_of(table):
    """The table as a mapping: name of a row -> its value."""
    names = ("loss", "recon", "kl", "active units", "train step", "decode one code")
    found = {}
    for line in table.splitlines():
        for name in names:
            if line.strip().startswith(name + "  "):
                found[name] = line.strip().removeprefix(name).split()[0]
    assert tuple(found) == names
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("rich", [True, False])
def test_demo_on_digits(tmp_path, capsys, monkeypatch, rich):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    if rich:
        pytest.importorskip("rich")
    else:
        without(monkeypatch, "rich")
    out = tmp_path / "page.png"
    assert cli.main(["demo", "--out", str(out), "--epochs", "2", "--seed", "7"]) == 0
    printed = capsys.readouterr().out
    values = rows_of(printed)
    assert values["loss"] == pytest.approx(values["recon"] + values["kl"], abs=0.011)
    assert 15 < values["loss"] < 45
    assert 0 <= values["active units"] <= cli.PRESETS["digits"].latent_dim
    assert values["train step"] > 0
    assert values["decode one code"] > 0
    assert printed.rstrip().endswith(f"wrote {out}")
    check_png(out)


def test_demo_on_idx_files(tmp_path, mnist, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "page.png"
    out.write_bytes(b"old")
    threads = lc.get_num_threads()
    try:
        argv = ["demo", "--data", "mnist", "--root", str(mnist), "--out", str(out), "--epochs", "1", "--threads", "1"]
        assert cli.main(argv) == 0
        assert lc.get_num_threads() == 1
    finally:
        lc.set_num_threads(threads)
    rows_of(capsys.readouterr().out)
    check_png(out)


def test_the_same_seed_draws_the_same_picture(tmp_path, mnist):
    pytest.importorskip("matplotlib")
    pages = []
    for name, seed in ("a", 3), ("b", 3), ("c", 4):
        out = tmp_path / name
        assert (
            cli.main(
                [
                    "demo",
                    "--data",
                    "mnist",
                    "--root",
                    str(mnist),
                    "--out",
                    str(out),
                    "--epochs",
                    "1",
                    "--seed",
                    str(seed),
                ]
            )
            == 0
        )
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]
    assert pages[0] != pages[2]


def refused(capsys, monkeypatch, argv, *parts):
    """The command stops before it trains, with status 2 and one line that holds `parts`."""
    monkeypatch.setattr(lc, "train", lambda *args, **kwargs: pytest.fail("the demo began to train"))
    assert cli.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("latentcore: ")
    assert printed.err.count("\n") == 1
    for part in parts:
        assert str(part) in printed.err


def test_data_that_cannot_be_read_is_refused(tmp_path, mnist, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    out = ["--out", str(tmp_path / "page.png")]
    demo = ["demo", "--data", "mnist", *out]
    refused(capsys, monkeypatch, demo, "--data mnist needs --root")
    refused(capsys, monkeypatch, ["demo", "--root", str(mnist), *out], "--root goes with --data mnist only")
    nowhere = tmp_path / "nowhere"
    refused(capsys, monkeypatch, [*demo, "--root", str(nowhere)], "no such file", nowhere / "train-images-idx3-ubyte")
    labels = mnist / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    refused(capsys, monkeypatch, [*demo, "--root", str(mnist)], labels, "truncated data")
    for part, head in ("images-idx3-ubyte.gz", (0x803, 1, 28, 28)), ("labels-idx1-ubyte", (0x801, 1)):
        (mnist / f"t10k-{part}").write_bytes(struct.pack(f">{len(head)}I", *head) + bytes(784 if len(head) > 2 else 1))
    refused(capsys, monkeypatch, [*demo, "--root", str(mnist)], mnist, "at least 20 test rows, got 1")
    assert not (tmp_path / "page.png").exists()


def test_output_that_cannot_be_written_is_refused(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    inside = tmp_path / "no" / "page.png"
    refused(capsys, monkeypatch, ["demo", "--out", str(inside)], f"--out {inside}: no such directory", inside.parent)
    refused(capsys, monkeypatch, ["demo", "--out", str(tmp_path)], f"--out {tmp_path}: not a regular file")
    refused(capsys, monkeypatch, ["demo", "--out", os.devnull], f"--out {os.devnull}: not a regular file")
    locked = tmp_path / "page.png"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(capsys, monkeypatch, ["demo", "--out", str(locked)], f"--out {locked}: cannot write in {tmp_path}")


def test_a_disk_that_fills_leaves_the_old_picture(tmp_path, mnist, capsys, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    out = tmp_path / "page.png"
    out.write_bytes(b"old")

    def fill(self, file, **kwargs):
        file.write(PNG)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure.Figure, "savefig", fill)
    assert cli.main(["demo", "--data", "mnist", "--root", str(mnist), "--out", str(out), "--epochs", "1"]) == 2
    assert capsys.readouterr().err == f"latentcore: --out {out}: No space left on device\n"
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "page.png"]


@pytest.mark.parametrize(("package", "data"), [("matplotlib", "digits"), ("matplotlib", "mnist"), ("sklearn", "digits")])
def test_a_missing_extra_is_named(tmp_path, mnist, capsys, monkeypatch, package, data):
    if package != "matplotlib":
        pytest.importorskip("matplotlib.figure")
    without(monkeypatch, package)
    argv = ["demo", "--data", data, "--out", str(tmp_path / "page.png")]
    name = {"sklearn": "scikit-learn"}.get(package, package)
    expected = f"the demo needs {name}: pip install 'latentcore[demo]'"
    refused(capsys, monkeypatch, [*argv, "--root", str(mnist)] if data == "mnist" else argv, expected)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["train"],
        ["demo", "--data", "cifar"],
        ["demo", "--epochs", "0"],
        ["demo", "--epochs", "1.5"],
        ["demo", "--threads", "0"],
        ["demo", "--threads", "1025"],
        ["demo", "--seed", "-1"],
        ["demo", "--seed", str(2**64)],
        ["config", "--epochs", "1"],
    ],
)
def test_a_malformed_command_line_exits_with_2(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_interrupted_while_training(tmp_path, mnist, capsys, monkeypatch):
    pytest.importorskip("matplotlib")

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(lc, "train", interrupt)
    out = tmp_path / "page.png"
    assert cli.main(["demo", "--data", "mnist", "--root", str(mnist), "--out", str(out)]) == 130
    assert capsys.readouterr().err == "latentcore: interrupted\n"
    assert not out.exists()


def test_ctrl_c_stops_the_process(tmp_path, mnist):
    pytest.importorskip("matplotlib")
    program = """
import sys, latentcore
from latentcore import cli
train = latentcore.train
def told(*args, **kwargs):
    print("training", flush=True)
    return train(*args, **kwargs)
latentcore.train = told
sys.exit(cli.main(sys.argv[1:]))
"""
    out = tmp_path / "page.png"
    argv = ["demo", "--data", "mnist", "--root", mnist, "--out", out, "--epochs", "100000"]
    command = [sys.executable, "-c", program, *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "training\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "latentcore: interrupted"
    assert not out.exists()


def test_config_as_a_command():
    run = subprocess.run([sys.executable, "-m", "latentcore", "config"], capture_output=True, text=True, check=True)
    assert run.stdout.strip()
    assert run.stderr == ""


def test_the_principal_plane_is_the_plane_of_most_variance():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    codes = (rng.standard_normal((401, 5)) * [9, 4, 1, 0.5, 0.1]) @ axes + 100
    points, shares = cli._principal_plane(codes.astype(np.float32))
    values = np.linalg.eigvalsh(np.cov(codes.T))[::-1]
    np.testing.assert_allclose(shares, values[:2] / values.sum(), rtol=1e-4)
    np.testing.assert_allclose(np.cov(points.T), np.diag(values[:2]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-4)
    assert cli._principal_plane(np.ones((4, 3), np.float32))[1].tolist() == [0, 0]


def test_a_mosaic_keeps_every_image_whole():
    preset = cli.PRESETS["digits"]
    images = np.random.default_rng(0).random((12, preset.side**2), np.float32)
    picture = cli._mosaic(images, 4, preset)
    tile = preset.side + 2 * preset.border
    assert picture.shape == (3 * tile, 4 * tile)
    for index, image in enumerate(images):
        top, left = (index // 4) * tile, (index % 4) * tile
        cell = picture[top : top + tile, left : left + tile]
        inside = slice(preset.border, -preset.border)
        np.testing.assert_array_equal(cell[inside, inside].ravel(), image)
        assert np.count_nonzero(cell) == np.count_nonzero(image)
