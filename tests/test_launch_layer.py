"""How launches reach a GPU. No test here needs one: a stand-in for CuPy reads the arguments where the driver would."""

from __future__ import annotations

import ctypes
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import stand_in
from stand_in import aligned

from latentcore.backends import binaries
from latentcore.backends.binaries import ALIGNED, Binary, ship, variant_of
from latentcore.backends.cuda import CudaBackend
from latentcore.backends.device import CupyDevice, slots_of, table_of
from latentcore.ops import Clock
from latentcore.ops.launches import Emitter, Operand, Table, launches_of, numba_kernel, triton_kernel
from latentcore.plan import Plan


@triton_kernel
def every_kind(clock, y, before, table, rows, n, rate, BLOCK):
    pass


@numba_kernel
def by_threads(y, before, n):
    pass


Y, X = Operand("y", "float32", ((1, "rows"), (5, ""))), Operand("x", "uint32", ((3, ""),))
ROWS = Table(((0, Y, 7), (1, X, -5)))


def launch_of(before=None, rows=-3, rate=0.1, block=64, n=2**31 - 1, threads=64):
    emit = Emitter(capacity=10)
    emit(every_kind, 2, 3, threads=threads, y=Y, before=before, table=ROWS, rows=rows, n=n, rate=rate, BLOCK=block)
    return emit.launches[0]


@pytest.fixture
def arrays():
    return {"y": aligned(10, 5), "x": aligned(3, dtype="uint32"), "clock:": aligned(10, dtype="int64")}


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A stand-in on which a compiler that knows every kernel would be an error."""
    gpu = stand_in.Gpu()
    gpu.install(monkeypatch)
    monkeypatch.setenv("LATENTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LATENTCORE_KERNELS", str(tmp_path / "kernels"))
    binaries._shipment.cache_clear()
    return gpu


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """Ships stand-ins for the kernels of launches, as if they took so much shared memory."""

    def provide(launches, shared=0):
        monkeypatch.setattr(binaries, "compile_all", lambda work: [stand_in.binary(*each, shared) for each in work])
        return ship(tmp_path / "kernels", [variant_of(launch) for launch in launches], [80, 90])

    return provide


def address(array):
    return array.data.ptr


# ---- packing ---------------------------------------------------------------------------------------------------------


def test_slots_hold_addresses_int32_float64_and_null(arrays):
    launch = launch_of()
    table = table_of(ROWS, address, arrays).view(stand_in.Array)
    slots = slots_of(launch, 2, address, arrays, [table])
    words, floats, halves = (np.frombuffer(slots, t) for t in ("u8", "f8", "i4"))
    assert len(words) == 6 + 2, "an absent buffer takes no place, hidden arguments do"
    assert words[:3].tolist() == [address(arrays["clock:"]), address(arrays["y"]), address(table)]
    assert halves[[6, 8]].tolist() == [-3, 2**31 - 1]
    assert floats[5] == 0.1
    assert not words[6:].any()


def test_an_absent_buffer_is_null_for_numba(arrays):
    emit = Emitter(4)
    emit(by_threads, 1, y=Y, before=None, n=6)
    words = np.frombuffer(slots_of(emit.launches[0], 0, address, arrays, []), "u8")
    assert words.tolist() == [address(arrays["y"]), 0, 6]


def test_tables_hold_addresses_and_numbers(arrays):
    got = table_of(ROWS, address, arrays)
    assert got.dtype == np.int64
    assert got.tolist() == [[0, address(arrays["y"]), 7], [1, address(arrays["x"]), -5]]


@pytest.mark.parametrize("off", [4, 8])
def test_an_address_that_kernels_do_not_expect_is_refused(arrays, off):
    arrays["y"] = aligned(10, 5, off=off)
    with pytest.raises(ValueError, match=f"every_kind: y: expected an address that {ALIGNED} divides, got 0x"):
        slots_of(launch_of(), 2, address, arrays, [arrays["x"]])


def test_a_size_beyond_int32_is_refused():
    with pytest.raises(OverflowError, match="at most 2\\*\\*31 - 1, got 2147483648"):
        variant_of(launch_of(n=2**31))


@pytest.mark.parametrize("scalar", [np.float32(0.5), np.int64(3), "3"], ids=lambda scalar: type(scalar).__name__)
def test_a_scalar_of_another_type_is_refused(scalar):
    """Kernels take int32 and float64 by value, and nothing else: float32 among it."""
    with pytest.raises(TypeError, match=r"every_kind: n: expected an int or a float, got "):
        variant_of(launch_of(n=scalar))


# ---- grids -----------------------------------------------------------------------------------------------------------


def layer(inputs=5, outputs=4):
    plan = Plan("encode")
    plan.input("x", "rows", inputs)
    plan.output("y", "rows", outputs)
    plan.call("linear_forward", y="y", x="x", w=plan.weight("w", outputs, inputs), activation="relu")
    return plan


def test_any_number_of_rows_fits_into_a_grid():
    (launch,) = launches_of(layer(784, 400), 2**22)
    assert launch.grid == (2**22 // 16 * 13, 1, 1)


def test_sizes_beyond_what_kernels_count_to_are_refused():
    with pytest.raises(OverflowError, match=r"rows: expected at most 2147418112 in one run on the GPU, got 2147483648"):
        launches_of(layer(), 2**31)
    with pytest.raises(OverflowError, match=r"w: expected fewer than 2\*\*31 weights on the GPU, got 2147516416"):
        launches_of(layer(2**16, 2**15), 1)
    moments = Plan("moments", "float64")
    moments.input("x", "rows", 2**16)
    for name, shape in (("count", (1,)), ("mean", (2**16,)), ("gram", (2**16, 2**16))):
        moments.state(name, *shape, dtype="float64")
    moments.call("moments_forward", count="count", mean="mean", gram="gram", x="x")
    with pytest.raises(OverflowError, match="moments_forward: expected at most 46340 features on the GPU, got 65536"):
        launches_of(moments, 1)
    with pytest.raises(OverflowError, match="every_kind: a grid of 2 x 65536 blocks is more than a GPU takes"):
        Emitter(1)(every_kind, 2, 65536, y=Y, before=None, table=ROWS, rows=1, n=1, rate=1.0, BLOCK=1)


# ---- variants --------------------------------------------------------------------------------------------------------


def test_variants_know_which_integers_16_divides():
    assert variant_of(launch_of(n=32)).aligned == ("n",)
    assert variant_of(launch_of(n=40)).aligned == ()
    assert variant_of(launch_of(n=48)) == variant_of(launch_of(n=32)), "other sizes need no other kernel"
    assert variant_of(launch_of(rows=-16)).aligned == (), "16 for each row may be none"


def test_variants_name_the_type_of_every_argument():
    assert variant_of(launch_of(before=X)).signature == (
        ("clock", "*i64"), ("y", "*fp32"), ("before", "*u32"), ("table", "*i64"), ("rows", "i32"), ("n", "i32"),
        ("rate", "fp64"),
    )  # fmt: skip
    assert dict(variant_of(launch_of()).signature)["before"] == "absent"


def test_keys_differ_with_all_that_a_binary_depends_on(monkeypatch):
    variants = [
        variant_of(launch)
        for launch in (launch_of(), launch_of(before=X), launch_of(before=Y), launch_of(n=32), launch_of(block=128),
                       launch_of(threads=128))
    ]  # fmt: skip
    keys = [variant.key(arch) for variant in variants for arch in (80, 90)]
    monkeypatch.setattr(binaries, "sources", lambda: "of other kernels")
    keys.append(variants[0].key(90))
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)


# ---- launches --------------------------------------------------------------------------------------------------------


def test_launches_reach_the_driver_with_their_arguments(gpu, shipped, arrays):
    launches = [launch_of(), launch_of(rate=-2.5, rows=17)]
    assert shipped(launches) == 2, "one variant, for two architectures"
    run = CupyDevice().record(launches, arrays, whole=False)
    assert not gpu.launched
    run()
    (entry, arch, grid, block, shared, values, stream), second = gpu.launched
    assert (entry, arch, grid, block, shared, stream) == ("every_kind", 90, (2, 3, 1), (64, 1, 1), 0, 7)
    assert values[:2] == [address(arrays["clock:"]), address(arrays["y"])]
    assert values[3:] == [-3, 2**31 - 1, 0.1, 0, 0]
    assert second[5][3:] == [17, 2**31 - 1, -2.5, 0, 0]
    assert gpu.loads == 1


def test_launches_go_to_the_current_stream(gpu, shipped, arrays):
    shipped([launch_of()])
    run = CupyDevice().record([launch_of()], arrays, whole=False)
    assert gpu.streams[0].waited, "the tables that came by this stream are there for others"
    with stand_in.Stream(gpu, 99):
        run()
    assert gpu.launched[0][-1] == 99


def test_each_thread_has_a_default_stream_of_its_own(gpu):
    device, found = CupyDevice(), []
    assert device.stream() == gpu.streams[0].ptr
    gpu.streams[0].ptr = 2  # the handle that stands for it in every thread
    for _ in range(3):  # one after another: they may have the same identity
        thread = threading.Thread(target=lambda: found.append((device.stream(), device.stream())))
        thread.start()
        thread.join()
    assert all(first == again < 0 for first, again in found)
    assert len({first for first, _ in found}) == 3


def test_what_no_signal_may_part_is_one_graph(gpu, shipped, arrays):
    launches = [launch_of(), launch_of(rows=4)]
    shipped(launches)
    run = CupyDevice().record(launches, arrays, whole=True)
    assert not gpu.launched, "capturing launches nothing"
    run()
    with stand_in.Stream(gpu, 99):
        run()
    assert [(launch[5][3], launch[-1]) for launch in gpu.launched] == [(-3, 7), (4, 7), (-3, 99), (4, 99)]


@pytest.mark.parametrize(("shared", "asked"), [(48 * 1024, {}), (48 * 1024 + 1, {"every_kind": 48 * 1024 + 1})])
def test_shared_memory_beyond_48_kib_is_asked_for(gpu, shipped, arrays, shared, asked):
    shipped([launch_of()], shared)
    CupyDevice().record([launch_of()], arrays, whole=False)()
    assert gpu.allowed == asked
    assert gpu.launched[0][4] == shared


def test_shared_memory_beyond_what_a_gpu_has_is_an_error(gpu, shipped, arrays):
    shipped([launch_of()], gpu.most_shared + 1)
    with pytest.raises(RuntimeError, match=r"every_kind takes 131073 bytes of shared memory .* has 131072"):
        CupyDevice().record([launch_of()], arrays, whole=False)
    assert not gpu.allowed


def test_of_two_threads_that_load_a_function_both_get_the_same(gpu, shipped, arrays):
    shipped([launch_of()])
    device, other = CupyDevice(), []

    def meanwhile():
        gpu.loading = lambda: None
        other.append(device.record([launch_of()], arrays, whole=False))

    gpu.loading = meanwhile
    mine = device.record([launch_of()], arrays, whole=False)
    assert gpu.loads == 2
    assert mine.calls[0][0] == other[0].calls[0][0] == device.loaded(launch_of())[0].ptr


def test_what_numba_compiled_takes_null_for_an_absent_buffer_and_nothing_hidden(gpu, shipped, arrays):
    emit = Emitter(4)
    emit(by_threads, 3, threads=32, y=Y, before=None, n=6)
    shipped(emit.launches)
    CupyDevice().record(emit.launches, arrays, whole=False)()
    (launched,) = gpu.launched
    assert launched[:4] == ("by_threads", 90, (3, 1, 1), (32, 1, 1))
    assert launched[5] == [address(arrays["y"]), 0, 6]


def test_functions_are_loaded_once_for_each_device(gpu, shipped, arrays):
    shipped([launch_of()])
    device = CupyDevice()
    for _ in range(2):
        device.record([launch_of()], arrays, whole=False)
    assert gpu.loads == 1
    gpu.current = SimpleNamespace(id=1, compute_capability="80")
    device.record([launch_of()], arrays, whole=False)()
    assert gpu.loads == 2
    assert gpu.launched[0][1] == 80


@pytest.mark.parametrize("off", [0, 4])
def test_a_plan_runs_without_a_compiler(gpu, shipped, off):
    plan = layer()
    shipped(launches_of(plan, 20))
    arrays = {"x": aligned(20, 5), "y": aligned(20, 4, off=off), "w": aligned(1, 6, 16)}
    arrays["y"][...] = 7
    bound = CudaBackend(CupyDevice()).bind(plan, 20, {"w": arrays["w"]})
    bound.run(arrays, Clock(rows=3))
    (launched,) = gpu.launched
    clock, y, x, w = launched[5][:4]
    assert (x, w) == (address(arrays["x"]), address(arrays["w"]))
    assert ctypes.c_int64.from_address(clock).value == 3
    assert y % ALIGNED == 0
    if off == 0:
        assert y == address(arrays["y"])
        assert (arrays["y"] == 7).all()
    else:
        assert (arrays["y"][:3] == 0).all(), "what was written elsewhere, the stand-in's zeros, is brought home"
        assert (arrays["y"][3:] == 7).all()


# ---- several GPUs, and processes -------------------------------------------------------------------------------------


def test_a_plan_keeps_to_its_gpu(gpu, shipped):
    shipped(launches_of(layer(), 20))
    backend, arrays = CudaBackend(CupyDevice()), {"x": aligned(20, 5), "y": aligned(20, 4), "w": aligned(1, 6, 16)}
    bound, lane = backend.bind(layer(), 20, arrays), backend.lane()
    gpu.current = SimpleNamespace(id=1, compute_capability="90")
    assert backend.lane() != lane, "what waits for the next call on one GPU does not wait for it on another"
    with pytest.raises(ValueError, match="plan 'encode' is bound to GPU 0, and the current one is 1"):
        bound.run(arrays, Clock(rows=3))
    arrays["w"].elsewhere = "GPU 0"
    with pytest.raises(ValueError, match=r"^backend 'cuda': w: it lies on GPU 0, while .* is the current one$"):
        backend.bind(layer(), 20, arrays)
    assert not gpu.launched


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_told(gpu, shipped, arrays):
    shipped([launch_of()])
    device = CupyDevice()
    backend = CudaBackend(device)
    calls = [lambda: device.zeros((3,), "float32"), backend.lane, lambda: device.record([launch_of()], arrays, whole=False)]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                os.write(writing, f"{error}\n".encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        lines = said.read().splitlines()
    assert len(lines) == len(calls)
    assert all("this process was forked from one that uses the GPU" in line for line in lines)
    device.record([launch_of()], arrays, whole=False)()
    assert len(gpu.launched) == 1, "the parent goes on"


def test_a_binary_is_all_that_a_launch_needs_to_know():
    assert Binary("entry", b"code", 128, 0, 2).about() == {
        "entry": "entry", "threads": 128, "shared": 0, "hidden": 2,
        "code": "5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b",
    }  # fmt: skip
