// Matrices side by side, one in each lane: element (i, j) of kLanes matrices is one vector. How they come there from
// row-major memory, scaled, and how their vectors go back, sorted and with their signs.
#pragma once

#include "implicit_qr.h"
#include "op.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace lc {
namespace LC_ISA {
// What a decomposition says of one matrix; not 0: its outputs are NaN.
constexpr uint32_t kMatrixNotConverged = 1, kMatrixNotFinite = 2;
template <class T>
constexpr T kNaN = static_cast<T>(__builtin_nan(""));

// Even pieces of a batch for so many threads, of at most `most` matrices each.
LC_INLINE int64_t pieces_of(int64_t count, int64_t most, int threads) {
  const int64_t pieces = round_up(divide_up(count, most), threads);
  return pieces < count ? pieces : count;
}

namespace lanes {

// Rough multiply-adds under which one thread is faster.
constexpr double kAlone = 1e5;

// Which matrices go into lanes. That is quickest for a batch of them; a lone matrix leaves most lanes idle, and up to
// this size still takes less time than LAPACK needs, by measurement.
LC_INLINE bool in_lanes(int64_t long_side, int64_t short_side) {
  return long_side + 2 * short_side <= 128;
}

// Where the matrices of the lanes stand in memory; the lanes beyond the count repeat the last one.
template <class T>
struct Places {
  const T* at[kLanes<T>];
  LC_INLINE Places(const T* first, int64_t size, int64_t count) {
    for (int l = 0; l < kLanes<T>; ++l) at[l] = first + (l < count ? l : count - 1) * size;
  }
};

// How one number of each matrix comes to the arithmetic: as it is, where a vector holds the like of all matrices, or
// that of one lane, where it holds kLanes numbers of that lane's matrix. The results are the same bits.
template <class T>
struct EveryLane {
  LC_INLINE Vec<T> operator()(const Vec<T>& v) const { return v; }
};
template <class T>
struct OneLane {
  int64_t lane;
  LC_INLINE Vec<T> operator()(const Vec<T>& v) const { return splat(reinterpret_cast<const T*>(&v)[lane]); }
};

// ---- transposition by pieces of 16 bytes --------------------------------------------------------------------------

template <class T>
constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
constexpr int kPieces = kVectorBytes / 16;

// Transposes the kPiece x kPiece blocks that stand in piece p of all vectors.
#if defined(__SSE2__)
#if defined(__AVX512F__)
#define LC_WIDE(name) _mm512_##name
#elif defined(__AVX2__)
#define LC_WIDE(name) _mm256_##name
#else
#define LC_WIDE(name) _mm_##name
#endif
LC_INLINE void transpose_pieces(Vec<double> (&v)[2]) {
  const Vec<double> a = v[0], b = v[1];
  v[0] = LC_WIDE(unpacklo_pd)(a, b);
  v[1] = LC_WIDE(unpackhi_pd)(a, b);
}
LC_INLINE void transpose_pieces(Vec<float> (&v)[4]) {
  const Vec<double> a = bits<Vec<double>>(LC_WIDE(unpacklo_ps)(v[0], v[1]));
  const Vec<double> b = bits<Vec<double>>(LC_WIDE(unpackhi_ps)(v[0], v[1]));
  const Vec<double> c = bits<Vec<double>>(LC_WIDE(unpacklo_ps)(v[2], v[3]));
  const Vec<double> d = bits<Vec<double>>(LC_WIDE(unpackhi_ps)(v[2], v[3]));
  v[0] = bits<Vec<float>>(LC_WIDE(unpacklo_pd)(a, c));
  v[1] = bits<Vec<float>>(LC_WIDE(unpackhi_pd)(a, c));
  v[2] = bits<Vec<float>>(LC_WIDE(unpacklo_pd)(b, d));
  v[3] = bits<Vec<float>>(LC_WIDE(unpackhi_pd)(b, d));
}
#undef LC_WIDE
#else
template <class T>
LC_INLINE void transpose_pieces(Vec<T> (&v)[kPiece<T>]) {
  for (int p = 0; p < kPieces; ++p)
    for (int i = 0; i < kPiece<T>; ++i)
      for (int j = 0; j < i; ++j) {
        const T t = v[i][p * kPiece<T> + j];
        v[i][p * kPiece<T> + j] = v[j][p * kPiece<T> + i];
        v[j][p * kPiece<T> + i] = t;
      }
}
#endif

// A vector of pieces that stand `step` pointers apart.
template <class T>
LC_INLINE Vec<T> join_pieces(const T* const* at, int64_t offset) {
#if defined(__AVX512F__)
  const auto piece = [&](int p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at[p * kPiece<T>] + offset));
  };
  __m512i v = _mm512_castsi128_si512(piece(0));
  v = _mm512_inserti32x4(v, piece(1), 1);
  v = _mm512_inserti32x4(v, piece(2), 2);
  v = _mm512_inserti32x4(v, piece(3), 3);
  return bits<Vec<T>>(v);
#elif defined(__AVX2__)
  const auto piece = [&](int p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at[p * kPiece<T>] + offset));
  };
  return bits<Vec<T>>(_mm256_inserti128_si256(_mm256_castsi128_si256(piece(0)), piece(1), 1));
#else
  return load<T>(at[0] + offset);
#endif
}
// The pieces of a vector to places that stand kPiece pointers apart, the first `count` pointers only.
template <class T>
LC_INLINE void part_pieces(T* const* at, int64_t offset, Vec<T> v, int64_t count) {
#if defined(__AVX512F__)
  const __m512i whole = bits<__m512i>(v);
  const auto part = [&](int p, __m128i piece) LC_LAMBDA {
    if (p * kPiece<T> < count)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(at[p * kPiece<T>] + offset), piece);
  };
  part(0, _mm512_castsi512_si128(whole));
  part(1, _mm512_maskz_extracti32x4_epi32(15, whole, 1));
  part(2, _mm512_maskz_extracti32x4_epi32(15, whole, 2));
  part(3, _mm512_maskz_extracti32x4_epi32(15, whole, 3));
#else
  for (int p = 0; p < kPieces; ++p)
    if (p * kPiece<T> < count)
      std::memcpy(at[p * kPiece<T>] + offset, reinterpret_cast<const char*>(&v) + 16 * p, 16);
#endif
}

// ---- in -----------------------------------------------------------------------------------------------------------

// to[i * row + j * column] = element (i, j) of every lane's matrix of m x n, with its largest magnitude.
template <class T>
struct Packed {
  Mask<T> largest;  // the bits of a magnitude
  LC_INLINE void keep(Vec<T>* to, Vec<T> v) {
    const Mask<T> size = bits<Mask<T>>(magnitude<T>(v));
    largest = size > largest ? size : largest;
    *to = v;
  }
};

template <class T>
Mask<T> pack(Vec<T>* to, int64_t row, int64_t column, const Places<T>& from, int64_t m, int64_t n) {
  constexpr int K = kPiece<T>;
  Packed<T> packed{};
  const int64_t size = m * n;
  int64_t i = 0, j = 0;
  const auto keep = [&](Vec<T> v) LC_LAMBDA {
    packed.keep(to + i * row + j * column, v);
    if (++j == n) {
      j = 0;
      ++i;
    }
  };
  for (int64_t e = 0; e + K <= size; e += K) {
    Vec<T> v[K];
    for (int r = 0; r < K; ++r) v[r] = join_pieces<T>(from.at + r, e);
    transpose_pieces(v);
    for (int r = 0; r < K; ++r) keep(v[r]);
  }
  for (int64_t e = size / K * K; e < size; ++e) {
    Vec<T> v;
    for (int l = 0; l < kLanes<T>; ++l) v[l] = from.at[l][e];
    keep(v);
  }
  return packed.largest;
}

// The power of two that brings a largest magnitude into [1, 2) (at the very top of the range into [2, 4)), and the one
// that brings it back. A magnitude below the normal ones counts as 0.
template <class T>
struct Scale {
  Vec<T> down, up;
  Mask<T> bad;  // lanes that hold what is not finite
};
template <class T>
LC_INLINE Scale<T> scale_of(Mask<T> largest) {
  constexpr int kMantissa = sizeof(T) == 4 ? 23 : 52;
  constexpr Int<T> kTop = (sizeof(T) == 4 ? Int<T>(254) : Int<T>(2046)) << kMantissa, kOne = Int<T>(1) << kMantissa;
  const Mask<T> exponent = largest & ~(Mask<T>{} + (kOne - 1)), down = kTop - exponent;
  const Mask<T> limited = down > kOne ? down : Mask<T>{} + kOne;
  return {bits<Vec<T>>(exponent ? limited : Mask<T>{}), bits<Vec<T>>(exponent ? kTop - limited : Mask<T>{} + kTop / 2),
          exponent > kTop};
}

// Packs and scales a matrix into each lane; one that is not finite becomes 0. kLower: what stands above the diagonal of
// a square matrix is not looked at.
template <class T, bool kLower>
Scale<T> pack_scaled(Vec<T>* to, int64_t row, int64_t column, const Places<T>& from, int64_t m, int64_t n) {
  Mask<T> largest = pack<T>(to, row, column, from, m, n);
  if constexpr (kLower) {
    largest = Mask<T>{};
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        const Mask<T> size = bits<Mask<T>>(magnitude<T>(to[i * row + j * column]));
        largest = size > largest ? size : largest;
      }
  }
  const Scale<T> scale = scale_of<T>(largest);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < (kLower ? i + 1 : n); ++j) {
      Vec<T>& v = to[i * row + j * column];
      v = scale.bad ? Vec<T>{} : v * scale.down;
    }
  return scale;
}

// ---- out ----------------------------------------------------------------------------------------------------------

// In what order the columns of each lane go: column c to place[c * kLanes + lane], order[lane * n + place] = c.
template <class T>
struct Order {
  int32_t *place, *order;
  Order(Carver& c, int64_t n) : place(c.take<int32_t>(n * kLanes<T>)), order(c.take<int32_t>(n * kLanes<T> + 16)) {}

  // By key[c * step], descending or ascending; equal ones as they stand. rank[n] is scratch.
  template <bool kDescending>
  void sort(int64_t n, const Vec<T>* key, int64_t step, Mask<T>* rank) const {
    for (int64_t c = 0; c < n; ++c) rank[c] = Mask<T>{} + static_cast<Int<T>>(c);
    for (int64_t b = 1; b < n; ++b)
      for (int64_t a = 0; a < b; ++a) {
        const Mask<T> swap = kDescending ? key[b * step] > key[a * step] : key[b * step] < key[a * step];
        rank[a] -= swap;
        rank[b] += swap;
      }
    for (int64_t c = 0; c < n; ++c)
      for (int l = 0; l < kLanes<T>; ++l) {
        const int32_t r = static_cast<int32_t>(rank[c][l]);
        place[c * kLanes<T> + l] = r;
        order[l * n + r] = static_cast<int32_t>(c);
      }
  }
};

// flip[c]: the sign bit of the entry of largest magnitude, the first of equals, of column c.
template <class T>
void signs_of(Mask<T>* flip, const Vec<T>* x, int64_t row, int64_t rows, int64_t columns) {
  for (int64_t c = 0; c < columns; ++c) {
    Vec<T> most = x[c];
    for (int64_t i = 1; i < rows; ++i) {
      const Vec<T> v = x[i * row + c];
      most = magnitude<T>(v) > magnitude<T>(most) ? v : most;
    }
    flip[c] = sign_of<T>(most);
  }
}

// value[c * step] * up to place[c] of each lane's array at out + lane * n.
template <class T>
void unpack_values(T* out, int64_t n, int64_t count, const Vec<T>* value, int64_t step, Vec<T> up,
                   const int32_t* place) {
  for (int64_t c = 0; c < n; ++c) {
    const Vec<T> v = value[c * step] * up + splat(T(0));
    for (int l = 0; l < count; ++l) out[l * n + place[c * kLanes<T> + l]] = v[l];
  }
}

LC_INLINE uint32_t status_of(bool bad, bool failed) {
  return bad ? kMatrixNotFinite : failed ? kMatrixNotConverged : 0;
}
template <class T>
void fill(T* to, int64_t n, T with) {
  for (int64_t i = 0; i < n; ++i) to[i] = with;
}

template <class T>
LC_INLINE Vec<T> flipped(Vec<T> v, Mask<T> flip) {
  return bits<Vec<T>>(bits<Mask<T>>(v) ^ flip) + splat(T(0));
}

// The columns of x[rows][columns], as rows of each lane's matrix at out + lane * size.
template <class T>
void unpack_columns(T* out, int64_t size, int64_t count, const Vec<T>* x, int64_t row, int64_t rows, int64_t columns,
                    const int32_t* place, const Mask<T>* flip) {
  constexpr int K = kPiece<T>;
  for (int64_t c = 0; c < columns; ++c) {
    T* to[kLanes<T>];
    for (int l = 0; l < kLanes<T>; ++l) to[l] = out + l * size + place[c * kLanes<T> + l] * rows;
    int64_t i = 0;
    for (; i + K <= rows; i += K) {
      Vec<T> v[K];
      for (int r = 0; r < K; ++r) v[r] = flipped<T>(x[(i + r) * row + c], flip[c]);
      transpose_pieces(v);
      for (int r = 0; r < K; ++r) part_pieces<T>(to + r, i, v[r], count - r);
    }
    for (; i < rows; ++i) {
      const Vec<T> v = flipped<T>(x[i * row + c], flip[c]);
      for (int l = 0; l < count; ++l) to[l][i] = v[l];
    }
  }
}

// to[i] = from[order[i]]; `from` can be read up to whole vectors.
template <class T>
LC_INLINE void permute(T* to, const T* from, const int32_t* order, int64_t n) {
#if defined(__AVX512F__)
  constexpr int64_t L = kLanes<T>;
  if (n <= 2 * L)
    for (int64_t i = 0; i < n; i += L) {
      const int some = static_cast<int>(n - i < L ? n - i : L);
      Vec<T> v;
      if constexpr (sizeof(T) == 4) {
        const __m512i at = _mm512_loadu_si512(order + i);
        v = n <= L ? _mm512_maskz_permutexvar_ps(0xFFFF, at, load<T>(from))
                   : _mm512_permutex2var_ps(load<T>(from), at, load<T>(from + L));
      } else {
        const __m512i at =
            _mm512_maskz_cvtepi32_epi64(0xFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(order + i)));
        v = n <= L ? _mm512_maskz_permutexvar_pd(0xFF, at, load<T>(from))
                   : _mm512_permutex2var_pd(load<T>(from), at, load<T>(from + L));
      }
      store_first<T>(to + i, v, some);
    }
  else
#endif
    for (int64_t i = 0; i < n; ++i) to[i] = from[order[i]];
}

// x[rows][columns], its columns sorted, to each lane's matrix at out + lane * size; buffer[kLanes * (columns +
// kLanes)].
template <class T>
void unpack_rows(T* out, int64_t size, int64_t count, const Vec<T>* x, int64_t row, int64_t rows, int64_t columns,
                 const int32_t* order, const Mask<T>* flip, T* buffer) {
  constexpr int K = kPiece<T>;
  const int64_t wide = round_up(columns, kLanes<T>);
  T* to[kLanes<T>];
  for (int l = 0; l < kLanes<T>; ++l) to[l] = buffer + l * wide;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < columns; c += K) {
      Vec<T> v[K];
      for (int r = 0; r < K; ++r) v[r] = c + r < columns ? flipped<T>(x[i * row + c + r], flip[c + r]) : Vec<T>{};
      transpose_pieces(v);
      for (int r = 0; r < K; ++r) part_pieces<T>(to + r, c, v[r], count - r);
    }
    for (int l = 0; l < count; ++l) permute(out + l * size + i * columns, to[l], order + l * columns, columns);
  }
}

}  // namespace lanes
}  // namespace LC_ISA
}  // namespace lc
