"""Plans: what they accept, what they print, and that their vocabulary carries a convolution."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

import latentcore as lc
from latentcore.layers import Linear, Store, backward, forward
from latentcore.ops import OPS, Op
from latentcore.plan import Buffer, Call, Plan, rows


def small_plan() -> Plan:
    plan = Plan("small")
    plan.input("x", "rows", 3)
    plan.output("y", "rows", 5)
    plan.weight("w", 5, 3)
    plan.input("codes", rows(4), 3)
    plan.input("wide", "rows", 3, dtype="float64")
    return plan


WRONG_CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown op": ("linear_sideways", {"y": "y"}, "op: expected one of adam_update.*got 'linear_sideways'"),
    "unknown argument": ("linear_forward", {"y": "y", "x": "x", "w": "w", "z": "x"}, "unknown argument 'z'"),
    "unknown option": ("linear_forward", {"y": "y", "x": "x", "w": "w", "slope": 1}, "unknown argument 'slope'"),
    "missing argument": ("linear_forward", {"y": "y", "x": "x"}, "argument 'w' is missing"),
    "not declared": ("linear_forward", {"y": "y", "x": "x", "w": "v"}, "buffer 'v': not declared in plan 'small'"),
    "outputs do not fit": ("linear_forward", {"y": "x", "x": "x", "w": "w"}, "w: buffer 'w'.*does not fit"),
    "inputs do not fit": ("linear_forward", {"y": "y", "x": "y", "w": "w"}, "w: buffer 'w'.*does not fit"),
    "rows do not fit": ("linear_forward", {"y": "y", "x": "codes", "w": "w"}, "x: buffer 'codes'.*does not fit"),
    "dtype does not fit": ("linear_forward", {"y": "y", "x": "wide", "w": "w"}, "x: buffer 'wide'.*does not fit"),
    "an array, not a weight": ("linear_forward", {"y": "y", "x": "x", "w": "x"}, "w: buffer 'x'.*does not fit"),
    "a weight, not an array": ("linear_forward", {"y": "y", "x": "w", "w": "w"}, "x: buffer 'w'.*does not fit"),
    "unknown choice": ("linear_forward", {"y": "y", "x": "x", "w": "w", "activation": "step"}, "activation: .*'step'"),
}


@pytest.mark.parametrize("wrong", WRONG_CALLS)
def test_a_wrong_call_is_refused(wrong: str) -> None:
    op, arguments, message = WRONG_CALLS[wrong]
    plan = small_plan()
    with pytest.raises(ValueError, match=message):
        plan.call(op, **arguments)
    assert plan.calls == []
    plan.call("linear_forward", y="y", x="x", w="w")


@pytest.mark.parametrize("dim", ["columns", "two*rows", "-2*rows", "rows*2", "2*", ""])
def test_a_wrong_dimension_is_refused(dim: str) -> None:
    with pytest.raises(ValueError, match="dimension: expected an int, 'rows'"):
        Plan("wrong").input("x", dim, 3)


def test_a_name_means_one_buffer() -> None:
    plan = small_plan()
    assert plan.weight("w", 5, 3) == "w"
    assert len(plan.buffers) == 5
    for again in (lambda: plan.weight("w", 3, 5), lambda: plan.input("y", "rows", 5), lambda: plan.output("y", 5)):
        with pytest.raises(ValueError, match="declared twice in different ways in plan 'small'"):
            again()


def from_dict(data: dict[str, Any]) -> Plan:
    plan = Plan(data["name"], data["dtype"])
    plan.buffers = {b["name"]: Buffer(**{**b, "shape": tuple(b["shape"])}) for b in data["buffers"]}
    plan.calls = [Call(c["op"], tuple(c["arguments"]), c["options"]) for c in data["calls"]]
    return plan


def test_a_plan_is_plain_data() -> None:
    """It goes through JSON and back, and two that were built alike are equal."""
    model = lc.VAE(3, (7, 5), random_state=0).initialize(9)
    for function in ("posterior", "encode", "decode", "reconstruct", "sample", "score_samples", "evaluate", "gradients"):
        plan = model.plan(function)
        assert from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
        assert lc.VAE(3, (7, 5), random_state=1).initialize(9).plan(function) == plan
        assert lc.VAE(3, (7, 6), random_state=0).initialize(9).plan(function) != plan
    assert model.plan("gradients", samples=5) != model.plan("gradients")
    with pytest.raises(ValueError, match=r"function: expected one of .*'decode'.*got 'dream'"):
        model.plan("dream")


def test_describe_counts_a_training_step() -> None:
    """PyTorch's example network: 3.28 MFLOP a row in the products, and each of its eleven products on a line."""
    model = lc.VAE(20, (400,)).initialize(784)
    plan = model.plan("gradients")
    products = [call for call in plan.calls if call.op.startswith("linear_")]
    assert [call.op.removeprefix("linear_") for call in products] == [
        *["forward"] * 4,
        *["backward_input", "backward_weight"] * 3,
        "backward_weight",
    ]
    for n in (1, 128):
        assert sum(plan.cost(call, n)[0] for call in products) == 3_280_000 * n
    total = sum(plan.cost(call, 128)[0] for call in plan.calls)
    text = plan.describe(rows=128)
    assert text.splitlines()[0] == "plan gradients (float32), 128 rows"
    assert f"{total:,} FLOP" in text.splitlines()[-1]
    assert 1 < total / (3_280_000 * 128) < 1.02
    # y and x once each, the weight with its bias
    decoder = next(line for line in text.splitlines() if " = linear_forward(z, " in line)
    assert (
        decoder.split()
        == (
            "decoder.0:y, - = linear_forward(z, decoder.0) activation=relu "
            f"{2 * 128 * 20 * 400:,} FLOP {4 * (128 * 420 + 400 * 21):,} B"
        ).split()
    )
    assert str(plan) == plan.describe(rows=1)


# ---- a convolutional VAE ---------------------------------------------------------------------------------------------

# Feature maps are flattened, channels last: (rows, places * channels). A kernel is the weight of a linear layer over
# the taps of its window, {out, taps * in}, so that panels, moments and Adam are those of every other weight.


def no_reference() -> None:
    """These ops are declared, not run."""


def flops(s: Any, o: Any) -> float:
    return 2 * s["r"] * o["places"] * s["o"] * o["taps"] * s["c"]


WINDOW = {"places": 1, "pixels": 1, "taps": 9, "stride": 1}
ACTIVATED = {**WINDOW, "activation": "identity"}
CODES = {"activation": OPS["linear_forward"].codes["activation"]}
CONVOLUTION = [
    Op("conv2d_forward", "y[r,places*o] before?[r,places*o] = x[r,pixels*c] w{o,taps*c}", no_reference, flops,
       ACTIVATED, CODES),
    Op("conv2d_backward_input", "dx[r,pixels*c] = dy[r,places*o] w{o,taps*c} x?[r,pixels*c] before?[r,pixels*c]",
       no_reference, flops, ACTIVATED, CODES),
    Op("conv2d_backward_weight", "dw{o,taps*c} = dy[r,places*o] x[r,pixels*c]", no_reference, flops,
       {**WINDOW, "accumulate": False}),
    Op("upsample_forward", "y[r,factor*f] = x[r,f]", no_reference, lambda s, _: 0, {"factor": 4, "width": 1}),
    Op("upsample_backward", "dx[r,f] = dy[r,factor*f]", no_reference, lambda s, o: o["factor"] * s["r"] * s["f"],
       {"factor": 4, "width": 1}),
]  # fmt: skip


class Maps:
    """Convolutions from one size of maps to the next, (side, channels): with a stride going down, after an upsampling
    going up. All inputs but the first of a stack that goes down come out of a relu."""

    def __init__(self, name: str, sizes: list[tuple[int, int]], last: str = "relu") -> None:
        self.sizes = list(pairwise(sizes))
        self.names = [f"{name}.{i}" for i in range(len(self.sizes))]
        self.activations = ["relu"] * (len(self.sizes) - 1) + [last]

    def window(self, i: int) -> dict[str, int]:
        (side, _), (to, _) = self.sizes[i]
        return {"places": to**2, "pixels": max(side, to) ** 2, "stride": max(side, to) // to}

    def forward(self, plan: Plan, x: str) -> list[str]:
        """Appends the forward calls; returns the input of each convolution, and the last output."""
        kept = []
        for i, ((side, channels), (to, filters)) in enumerate(self.sizes):
            if to > side:
                up = plan.temporary(f"{self.names[i]}:up", "rows", to * to * channels)
                plan.call("upsample_forward", y=up, x=x, width=side)
                x = up
            kept.append(x)
            y = plan.temporary(f"{self.names[i]}:y", "rows", to * to * filters)
            w = plan.weight(self.names[i], filters, 9 * channels)
            plan.call("conv2d_forward", y=y, x=x, w=w, activation=self.activations[i], **self.window(i))
            x = y
        return [*kept, x]

    def backward(self, plan: Plan, kept: list[str], dy: str, dx: str | None = None) -> None:
        """Appends the backward calls; dy is the gradient of the last sums, dx takes that of the stack's input."""
        for i in reversed(range(len(self.sizes))):
            (side, channels), (to, filters) = self.sizes[i]
            w = self.names[i]
            below = dx if i == 0 else plan.temporary(f"{w}:dx", "rows", side * side * channels)
            if below:
                d = plan.temporary(f"{w}:dup", "rows", to * to * channels) if to > side else below
                plan.call("conv2d_backward_input", dx=d, dy=dy, w=w, x=kept[i], activation="relu", **self.window(i))
                if to > side:
                    plan.call("upsample_backward", dx=below, dy=d, width=side)
            dw = plan.weight(f"{w}:gradient", filters, 9 * channels, "output")
            plan.call("conv2d_backward_weight", dw=dw, dy=dy, x=kept[i], **self.window(i))
            dy = below or dy


def convolutional_vae(latent_dim: int = 20) -> Plan:
    """One step of a VAE of 28 x 28 images, all gradients its outputs."""
    plan = Plan("convolutional")
    x = plan.input("x", "rows", 784)
    beta = plan.input("beta", "steps", dtype="float64")
    row = plan.input("row", "rows", dtype="uint32")
    metrics = plan.output("metrics", "steps", 3 + latent_dim, dtype="float64")
    recon = plan.temporary("recon", "rows", dtype="float64")
    kl_dim = plan.temporary("kl_dim", latent_dim, dtype="float64")
    down, up = Maps("encoder", [(28, 1), (14, 16), (7, 32)]), Maps("decoder", [(7, 32), (14, 16), (28, 1)], "identity")
    code, spread = [Linear("latent", 1568, 2 * latent_dim)], [Linear("spread", latent_dim, 1568, "relu")]

    seen = down.forward(plan, x)
    encoded = forward(plan, code, seen[-1])
    h, z = encoded[-1].y, plan.temporary("z", "rows", latent_dim)
    plan.call("latent_forward", z=z, kl_dim=kl_dim, h=h, row=row, stream=1)
    opened = forward(plan, spread, z)
    made = up.forward(plan, opened[-1].y)
    dout = plan.temporary("dout", "rows", 784)
    plan.call("bernoulli_forward", loss=recon, dlogits=dout, logits=made[-1], x=x)
    plan.call("objective_forward", metrics=metrics, recon=recon, kl_dim=kl_dim, beta=beta)

    dspread, dseen = plan.temporary("dspread", "rows", 1568), plan.temporary("dseen", "rows", 1568)
    dz, dh = plan.temporary("dz", "rows", latent_dim), plan.temporary("dh", "rows", 2 * latent_dim)
    up.backward(plan, made, dout, dspread)
    backward(plan, spread, opened, dspread, Store("output"), dx=dz)
    plan.call("latent_backward", dh=dh, dz=dz, h=h, beta=beta, row=row, stream=1)
    backward(plan, code, encoded, dh, Store("output"), dx=dseen, below=("relu", None))
    down.backward(plan, seen, dseen)
    return plan


def test_the_vocabulary_carries_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    for op in CONVOLUTION:
        monkeypatch.setitem(OPS, op.name, op)
    plan = convolutional_vae()
    text = plan.describe()
    print(text)
    called = [line.split(" = ")[1].split("(")[0] for line in text.splitlines() if " = " in line]
    back = ["conv2d_backward_input", "upsample_backward", "conv2d_backward_weight"]
    assert called == [
        *["conv2d_forward", "conv2d_forward", "linear_forward", "latent_forward", "linear_forward"],
        *["upsample_forward", "conv2d_forward", "upsample_forward", "conv2d_forward"],
        *["bernoulli_forward", "objective_forward", *back, *back],
        *["linear_backward_input", "linear_backward_weight", "latent_backward"],
        *["linear_backward_input", "linear_backward_weight"],
        *["conv2d_backward_input", "conv2d_backward_weight", "conv2d_backward_weight"],
    ]
    assert "decoder.1{1, 144}" in text
    assert "decoder.1:gradient{1, 144}" in text
    assert "encoder.0:y, - = conv2d_forward(x, encoder.0) places=196 pixels=784 stride=2 activation=relu" in text
    # 2 * places * filters * taps * channels of the four convolutions; the first has no input gradient
    each = [2 * 196 * 16 * 9 * 1, 2 * 49 * 32 * 9 * 16, 2 * 196 * 16 * 9 * 32, 2 * 784 * 1 * 9 * 16]
    convolutions = [plan.cost(call, 1)[0] for call in plan.calls if call.op.startswith("conv2d")]
    assert sum(convolutions) == 3 * sum(each) - each[0]
    assert from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    with pytest.raises(ValueError, match=r"conv2d_forward: x: buffer 'x'.*does not fit"):
        plan.call("conv2d_forward", y="encoder.0:y", x="x", w="encoder.0", places=196, pixels=783)
