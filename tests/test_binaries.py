"""Where compiled kernels are kept and found. Nothing is compiled here: what is kept are stand-ins."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import stand_in
from test_launch_layer import launch_of

from latentcore import cli
from latentcore.backends import binaries
from latentcore.backends.binaries import MANIFEST, Shipment, Store, binary_of, cache, ship, variant_of
from latentcore.kernels import common_models, plans_of, variants_of

VARIANT = variant_of(launch_of())
BINARY = stand_in.binary(VARIANT, 90)


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """Nothing shipped, an empty cache, and a compiler that counts what it makes."""
    made = []

    def compile_variant(variant, arch):
        made.append((variant, arch))
        return stand_in.binary(variant, arch)

    monkeypatch.delenv("LATENTCORE_KERNELS", raising=False)
    monkeypatch.setenv("LATENTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(binaries, "compile_variant", compile_variant)
    monkeypatch.setattr(binaries, "compile_all", lambda work: [compile_variant(*each) for each in work])
    binaries._shipment.cache_clear()
    return made


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_what_is_stored_comes_back(tmp_path):
    store = Store(tmp_path / "a" / "b")
    assert store.get(VARIANT, 90) is None
    store.put(VARIANT, 90, BINARY)
    assert store.get(VARIANT, 90) == BINARY
    assert store.get(VARIANT, 80) is None
    assert store.get(variant_of(launch_of(block=128)), 90) is None


@pytest.mark.parametrize("damage", ["code cut", "code gone", "no JSON", "another description", "not a description"])
def test_what_is_damaged_counts_as_missing(tmp_path, damage):
    store = Store(tmp_path)
    store.put(VARIANT, 90, BINARY)
    code = tmp_path / VARIANT.file(90)
    about = code.with_suffix(".json")
    if damage == "code cut":
        code.write_bytes(BINARY.code[:-1])
    elif damage == "code gone":
        code.unlink()
    elif damage == "no JSON":
        about.write_text(about.read_text()[:-1])
    else:
        about.write_text(json.dumps({"entry": "another"} if damage == "another description" else [1]))
    assert store.get(VARIANT, 90) is None
    store.put(VARIANT, 90, BINARY)
    assert store.get(VARIANT, 90) == BINARY


def hammer(store, number):
    """Stores and reads one variant many times; how often it came back whole, and how often wrong."""
    whole = wrong = 0
    mine = stand_in.binary(VARIANT, 90, shared=number)
    for _ in range(20):
        store.put(VARIANT, 90, mine)
        found = store.get(VARIANT, 90)
        if found is not None:
            whole += 1
            wrong += found not in [stand_in.binary(VARIANT, 90, shared=n) for n in range(4)]
    return whole, wrong


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_concurrent_stores_leave_what_is_whole(tmp_path, kind):
    store = Store(tmp_path)
    work = [(store, number) for number in range(4)]
    if kind == "threads":
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda each: hammer(*each), work))
    else:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            found = pool.starmap(hammer, work)
    assert sum(whole for whole, _ in found) > 0
    assert sum(wrong for _, wrong in found) == 0
    assert store.get(VARIANT, 90) in [stand_in.binary(VARIANT, 90, shared=n) for n in range(4)]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_kernel_is_compiled_once(places):
    assert binary_of(VARIANT, 90) == BINARY
    assert binary_of(VARIANT, 90) == BINARY
    assert places == [(VARIANT, 90)]


def test_other_compilers_have_another_cache(monkeypatch):
    monkeypatch.setattr(binaries, "_versions", lambda: {"triton": "3.6.0"})
    before = cache().folder
    monkeypatch.setattr(binaries, "_versions", lambda: {"triton": "3.6.1"})
    assert cache().folder != before
    assert cache().folder.parent == before.parent


@pytest.mark.parametrize("variable", ["LATENTCORE_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path, variable):
    for name in ("LATENTCORE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    below = {"LATENTCORE_CACHE": "", "XDG_CACHE_HOME": "latentcore", "HOME": ".cache/latentcore"}[variable]
    assert cache().folder.parent == tmp_path / below / "kernels"


def test_a_cache_that_cannot_be_written_keeps_nobody_from_running(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    with pytest.warns(RuntimeWarning, match="kernels cannot be cached: "):
        assert binary_of(VARIANT, 90) == BINARY


def test_a_missing_compiler_is_named(monkeypatch):
    def compile_variant(variant, arch):
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(binaries, "compile_variant", compile_variant)
    with pytest.raises(ImportError, match=r"every_kind for sm_90 must be compiled, and triton cannot be imported .*KERNELS"):
        binary_of(VARIANT, 90)


# ---- shipments -------------------------------------------------------------------------------------------------------


def test_a_manifest_says_what_every_file_is(tmp_path):
    variants = [VARIANT, variant_of(launch_of(n=32)), VARIANT]
    assert ship(tmp_path / "out", variants, [80, 90]) == 4
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == manifest["kernels"].keys() | {MANIFEST}
    assert all(name.endswith(".cubin") for name in manifest["kernels"])
    entry = manifest["kernels"][variants[1].file(90)]
    assert entry["kernel"] == "test_launch_layer.every_kind"
    assert entry["arch"] == 90
    assert list(entry["arguments"].items()) == list(VARIANT.signature)
    assert entry["constants"] == {"BLOCK": 64}
    assert entry["multiples of 16"] == ["n"]
    assert entry["binary"] == stand_in.binary(variants[1], 90).about()


def test_what_was_shipped_comes_back_and_nothing_is_compiled(monkeypatch, tmp_path, places):
    ship(tmp_path / "out", [VARIANT], [80, 90])
    places.clear()
    monkeypatch.setenv("LATENTCORE_KERNELS", str(tmp_path / "out"))
    assert binary_of(VARIANT, 80) == stand_in.binary(VARIANT, 80)
    assert binary_of(VARIANT, 90) == BINARY
    assert places == []
    other = variant_of(launch_of(block=128))
    assert binary_of(other, 90) == stand_in.binary(other, 90), "what was not shipped is compiled"
    assert places == [(other, 90)]


def test_kernels_of_another_version_are_refused(monkeypatch, tmp_path):
    ship(tmp_path, [VARIANT], [90])
    monkeypatch.setattr(binaries, "sources", lambda: "of other kernels")
    with pytest.raises(ValueError, match="kernels of another version of latentcore; write them anew with"):
        Shipment(tmp_path)


def test_a_damaged_kernel_is_refused(tmp_path):
    ship(tmp_path, [VARIANT], [90])
    (tmp_path / VARIANT.file(90)).write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"{VARIANT.file(90)} is not what {MANIFEST} says"):
        Shipment(tmp_path).get(VARIANT, 90)


def test_a_folder_without_a_manifest_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTCORE_KERNELS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"LATENTCORE_KERNELS: .* holds no {MANIFEST}"):
        binary_of(VARIANT, 90)


def test_the_command_writes_the_kernels_of_a_model(tmp_path, capsys, places):
    import latentcore as lc

    model = lc.VAE(2, (3,), random_state=0).initialize(4)
    lc.save(model, tmp_path / "vae.safetensors")
    assert cli.main(["kernels", str(tmp_path / "out"), str(tmp_path / "vae.safetensors"), "--arch", "86"]) == 0
    wanted = set(variants_of(plans_of(model)))
    assert {variant for variant, _ in places} == wanted
    assert {arch for _, arch in places} == {86}
    assert {"advance", "gather", "linear", "latent"} <= {variant.kernel.name.partition("_")[0] for variant in wanted}
    assert f"wrote {len(wanted)} kernels" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out" / MANIFEST).read_text())["kernels"]) == len(wanted)


@pytest.mark.parametrize("arch", ["x", "80,", "12"])
def test_the_command_refuses_what_is_no_architecture(arch, capsys):
    with pytest.raises(SystemExit):
        cli.main(["kernels", "out", "--arch", arch])
    assert "--arch" in capsys.readouterr().err


def test_the_command_says_that_a_compiler_is_missing(monkeypatch, tmp_path, capsys):
    def compile_all(work):
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(binaries, "compile_all", compile_all)
    assert cli.main(["kernels", str(tmp_path / "out")]) == 2
    assert "No module named 'triton': pip install 'latentcore[cuda]'" in capsys.readouterr().err


def test_common_models_are_of_every_kind():
    models = list(common_models())
    assert {type(model).__name__ for model in models} == {"PCA", "VAE", "Autoencoder"}
    plans = [plan for model in models for plan in plans_of(model)]
    sizes = {b.shape[1] % 16 for plan in plans for b in plan.of_role("state") if b.layout == "weight"}
    assert len(sizes) > 1


def test_a_network_needs_the_kernels_of_its_layers_and_of_their_first_weights():
    import latentcore as lc

    plans = list(plans_of(lc.MLP((4, 3, 2), ("gelu", "identity")).initialize()))
    assert [call.op for plan in plans for call in plan.calls] == ["linear_forward"] * 2 + ["uniform_forward"] * 2
    assert {"linear", "draw"} <= {variant.kernel.name.partition("_")[0] for variant in variants_of(plans)}
