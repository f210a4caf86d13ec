"""What the GPU kernels share: the clock, sizes, and the elementary functions of ``csrc/vmath.h`` with the same polynomials,
in float32 and float64."""

from __future__ import annotations

from .launches import ROWS, STATUS, device_function, tl

_ROWS, _STATUS = (tl.constexpr(ROWS), tl.constexpr(STATUS)) if tl else (ROWS, STATUS)


@device_function
def extent(clock, size):
    """A size: a constant, or minus so many for each row of the run."""
    return tl.where(size < 0, -size * tl.load(clock + _ROWS).to(tl.int32), size)


@device_function
def is_whole(clock):
    """Whether the run has not ended early."""
    return tl.load(clock + _STATUS) == 0


@device_function
def as_bits(x):
    """The bits of a float."""
    if x.dtype == tl.float32:
        return x.to(tl.int32, bitcast=True)
    else:
        return x.to(tl.int64, bitcast=True)


@device_function
def as_float(b):
    """The float of these bits."""
    if b.dtype == tl.int32:
        return b.to(tl.float32, bitcast=True)
    else:
        return b.to(tl.float64, bitcast=True)


@device_function
def _at_most(x, limit):
    """x, or the limit if that is less; NaN stays, for which tl.minimum would give the limit on a GPU."""
    return tl.where(x > limit, limit, x)


@device_function
def _exp_polynomial(r):
    """(e^r - 1 - r) / r^2, |r| <= ln(2) / 2."""
    if r.dtype == tl.float32:
        y = r * 0.0013946498511359096 + 0.00836661085486412
        y = y * r + 0.04166628047823906
        y = y * r + 0.1666654348373413
        y = y * r + 0.5
    else:
        y = r * 2.511451863921791e-08 + 2.7626382193544276e-07
        y = y * r + 2.755722782263366e-06
        y = y * r + 2.4801504312199696e-05
        y = y * r + 0.00019841269903160926
        y = y * r + 0.0013888888932484201
        y = y * r + 0.008333333333314541
        y = y * r + 0.04166666666657332
        y = y * r + 0.16666666666666685
        y = y * r + 0.5000000000000006
    return y


@device_function
def _log_polynomial(z):
    """(2 atanh(s) - 2 s) / s^3 in z = s^2, |s| <= 1/5."""
    if z.dtype == tl.float32:
        y = z * 0.303615003824234 + 0.3995778262615204
        y = y * z + 0.666669487953186
    else:
        y = z * 0.15369300484013274 + 0.1525004606936185
        y = y * z + 0.18186363184928606
        y = y * z + 0.2222213832799119
        y = y * z + 0.28571429397412773
        y = y * z + 0.3999999999614986
        y = y * z + 0.6666666666667274
    return y


@device_function
def _sin_polynomial(z):
    """sin(2 pi v) / v - 2 pi rounded to half of the bits, in z = v^2, |v| <= 1/8."""
    if z.dtype == tl.float32:
        y = z * -75.45339965820312 + 81.59394073486328
        y = y * z + -41.3416748046875
        y = y * z + -1.781781975296326e-05
    else:
        y = z * -0.7116988774715323 + 3.8197917986120546
        y = y * z + -15.094640489592287
        y = y * z + 42.05869393000347
        y = y * z + -76.70585975300453
        y = y * z + 81.60524927607496
        y = y * z + -41.34170224039976
        y = y * z + 6.357301909411278e-08
    return y


@device_function
def _cos_polynomial(z):
    """(cos(2 pi v) - 1) / v^2 in z = v^2, |v| <= 1/8."""
    if z.dtype == tl.float32:
        y = z * 59.24596405029297 + -85.44374084472656
        y = y * z + 64.93932342529297
        y = y * z + -19.739208221435547
    else:
        y = z * -1.6970200709123466 + 7.903101637533385
        y = y * z + -26.42625114042031
        y = y * z + 60.24464133161158
        y = y * z + -85.45681720654005
        y = y * z + 64.93939402266801
        y = y * z + -19.739208802178716
    return y


@device_function
def _erf_polynomial(a):
    """-log(1 - erf(a)) / a less its slope at 0, 0 <= a <= 4 (float64: 6)."""
    if a.dtype == tl.float32:
        y = a * 1.1933041150768986e-06 + -2.1354642740334384e-05
        y = y * a + 0.00016748115012887865
        y = y * a + -0.000740686256904155
        y = y * a + 0.0017993543297052383
        y = y * a + -0.00025306129828095436
        y = y * a + -0.019117694348096848
        y = y * a + 0.10277127474546432
        y = y * a + 0.6366198062896729
        y = y * a + -5.8635382771399236e-08
    else:
        y = a * -3.591772274026091e-15 + 1.6146933525024482e-13
        y = y * a + -3.364003667873807e-12
        y = y * a + 4.301370431313311e-11
        y = y * a + -3.76036743602646e-10
        y = y * a + 2.360306111300898e-09
        y = y * a + -1.077239045364981e-08
        y = y * a + 3.458142846930028e-08
        y = y * a + -6.572397795762948e-08
        y = y * a + -1.1729324086751742e-08
        y = y * a + 5.706693378927655e-07
        y = y * a + -2.0372395224231727e-06
        y = y * a + 3.1330182901263794e-06
        y = y * a + 3.1696228904427004e-06
        y = y * a + -2.9575634067638987e-05
        y = y * a + 6.442045425228808e-05
        y = y * a + 2.5904506789251967e-05
        y = y * a + -0.0005901324321432078
        y = y * a + 0.0016962076702520918
        y = y * a + -0.00020919485397122035
        y = y * a + -0.019128446993091068
        y = y * a + 0.1027726033013153
        y = y * a + 0.6366197723675909
        y = y * a + 1.533545961316588e-17
    return y


@device_function
def _exp_reduced(x):
    """x = n ln 2 + r: e^r - 1, and n as an integer."""
    if x.dtype == tl.float32:
        shift: tl.constexpr = 12582912.0
        shifted = x * 1.4426950216293335 + shift
        n = shifted - shift
        r = n * -1.428606765330187e-06 + (n * -0.693145751953125 + x)
        i = n.to(tl.int32)
    else:
        shift: tl.constexpr = 6755399441055744.0
        shifted = x * 1.4426950408889634 + shift
        n = shifted - shift
        r = n * -1.9082149292705877e-10 + (n * -0.6931471803691238 + x)
        i = n.to(tl.int64)
    return r * r * _exp_polynomial(r) + r, i


@device_function
def exp(x):
    """e^x; 0 below the smallest normal number, infinity above the largest, NaN for NaN."""
    if x.dtype == tl.float32:
        inside = tl.minimum(tl.maximum(x, -87.33654022216797), 88.72283172607422)
        q, n = _exp_reduced(inside)
        y = as_float(as_bits(q + 1.0) + (n << 23))
        y = tl.where(x < -87.33654022216797, 0.0, y)
        return tl.where(x <= 88.72283172607422, y, x * 3.4028234663852886e38)
    else:
        inside = tl.minimum(tl.maximum(x, -708.3964185322641), 709.782712893384)
        q, n = _exp_reduced(inside)
        y = as_float(as_bits(q + 1.0) + (n << 52))
        y = tl.where(x < -708.3964185322641, 0.0, y)
        return tl.where(x <= 709.782712893384, y, x * 1.7976931348623157e308)


@device_function
def expm1(x):
    """e^x - 1."""
    if x.dtype == tl.float32:
        q, n = _exp_reduced(tl.minimum(tl.maximum(x, -20.0), 89.0))
        half = as_float((n << 23) + 1056964608)
        tiny: tl.constexpr = 4.70197740328915e-38
    else:
        q, n = _exp_reduced(tl.minimum(tl.maximum(x, -40.0), 710.0))
        half = as_float((n << 52) + 4602678819172646912)
        tiny: tl.constexpr = 8.900295434028806e-308
    y = half * q + (half - 0.5)
    return tl.where(tl.abs(x) < tiny, x, tl.where(x == x, y + y, x))


@device_function
def _log_reduced(f, e):
    """e ln 2 + log(1 + f), 1 + f in [sqrt(1/2), 3/2]."""
    if f.dtype == tl.float32:
        high: tl.constexpr = 0.693145751953125
        low: tl.constexpr = 1.428606765330187e-06
    else:
        high: tl.constexpr = 0.6931471803691238
        low: tl.constexpr = 1.9082149292705877e-10
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return e * high + (f - (half - (s * (z * _log_polynomial(z) + half) + e * low)))


@device_function
def log(x):
    """log(x) for x positive, normal and finite."""
    b = as_bits(x)
    if x.dtype == tl.float32:
        i = b + 4913933
        e = ((i >> 23) - 127).to(tl.float32)
        m = (i & 8388607) + 1060439283
    else:
        i = b + 2638147582215219
        e = ((i >> 52) - 1023).to(tl.float64)
        m = (i & 4503599627370495) + 4604544271217802189
    return _log_reduced(as_float(m) - 1.0, e)


@device_function
def log1p(x):
    """log(1 + x), 0 <= x <= 1."""
    small = x <= 0.5
    return _log_reduced(tl.where(small, x, (x - 1.0) * 0.5), tl.where(small, 0.0, 1.0).to(x.dtype))


@device_function
def tanh(x):
    """tanh(x)."""
    t = expm1(_at_most(tl.abs(x), 10.0 if x.dtype == tl.float32 else 20.0) * -2.0)
    y = -t / (t + 2.0)
    return tl.where(x < 0, -y, y)


@device_function
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + exp(-x))


@device_function
def softplus(x):
    """log(1 + e^x), relative accuracy kept for negative x."""
    return tl.maximum(x, 0.0) + log1p(exp(-tl.abs(x)))


@device_function
def erf(x):
    """The error function."""
    if x.dtype == tl.float32:
        a = _at_most(tl.abs(x), 4.0)
        slope: tl.constexpr = 1.128379225730896
    else:
        a = _at_most(tl.abs(x), 6.0)
        slope: tl.constexpr = 1.1283791670955126
    y = -expm1(-(a * _erf_polynomial(a) + a * slope))
    return tl.where(x < 0, -y, y)


@device_function
def cos_sin_2pi(u):
    """cos and sin of 2 pi u, 0 < u < 1. The nearest quarter turn is subtracted exactly."""
    if u.dtype == tl.float32:
        shift: tl.constexpr = 12582912.0
        two_pi: tl.constexpr = 6.283203125
    else:
        shift: tl.constexpr = 6755399441055744.0
        two_pi: tl.constexpr = 6.283185243606567
    turns = (u * 4.0 + shift) - shift
    v = turns * -0.25 + u
    z = v * v
    c = z * _cos_polynomial(z) + 1.0
    if u.dtype == tl.float32:
        upper = as_float(as_bits(v) & -4096)
    else:
        upper = as_float(as_bits(v) & -67108864)
    s = upper * two_pi + (v * _sin_polynomial(z) + (v - upper) * two_pi)
    k = turns.to(tl.int32)
    odd = (k & 1) == 1
    cosine = tl.where(odd, s, c)
    sine = tl.where(odd, c, s)
    return tl.where(((k + 1) & 2) != 0, -cosine, cosine), tl.where((k & 2) != 0, -sine, sine)
