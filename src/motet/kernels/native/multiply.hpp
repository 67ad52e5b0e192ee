// The kernels of the matrix product: a tile of x against some strips.
//
// Each element has an accumulator of its own, and blocks enter it in order; so how many strips are
// side by side, what is prefetched and how the exact sums inside a block are split change no bit.
#pragma once
#include "activations.hpp"
#include "tuning.hpp"

namespace {

// Block b of S strips that follow each other against the R rows of a tile, into acc; a, scale and
// side point at the tile. Two strips share the loading of an activation, which is what many rows
// are limited by. CHAINS: independent int32 sums for each sum of products.
template <class L, int R, int S, int CHAINS>
INLINE void add_block(const uint8_t* strips, int64_t strip_bytes, int64_t b, const int8_t* a,
                      const float* scale, const Side::Value* side, f32x16 (*acc)[R]) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS;
  i32x16 w[S][8];
  f32x16 d[S][G], m[S][G];
#pragma GCC unroll 2
  for (int s = 0; s < S; s++) {
    const uint8_t* strip = strips + s * strip_bytes;
    const uint8_t* scales = strip + L::unit(b);
    const int i = (int)(b % Scales::BLOCKS);
    open_quants<L::BITS>(strip + L::quants(b), w[s]);
    for (int g = 0; g < G; g++) {
      d[s][g] = Scales::d(scales, i, g);
      if constexpr (Scales::MINIMUM) m[s][g] = Scales::m(scales, i, g);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++) {
    const int32_t* four = (const int32_t*)(a + (b * R + r) * BLOCK);
    const f32x16 one = f32x16::set(scale[b * R + r]);
#pragma GCC unroll 2
    for (int g = 0; g < G; g++) {
      const Side::Value extra = side[(b * G + g) * R + r];
      constexpr int vectors = 8 / G;
      i32x16 sums[S][CHAINS];
#pragma GCC unroll 2
      for (int s = 0; s < S; s++) {
        sums[s][0] = set_int(Scales::MINIMUM ? 0 : extra.init);
        if constexpr (CHAINS == 2) sums[s][1] = set_int(0);
      }
#pragma GCC unroll 8
      for (int j = g * vectors; j < (g + 1) * vectors; j++)
#pragma GCC unroll 2
        for (int s = 0; s < S; s++)
          sums[s][j % CHAINS] = dot<L::BITS>(sums[s][j % CHAINS], w[s][j], four[j]);
#pragma GCC unroll 2
      for (int s = 0; s < S; s++) {
        if constexpr (CHAINS == 2) sums[s][0] = sums[s][0] + sums[s][1];
        acc[s][r] = fma(d[s][g] * one, to_float(sums[s][0]), acc[s][r]);
        if constexpr (Scales::MINIMUM)
          acc[s][r] = fma(m[s][g], f32x16::set(extra.scaled), acc[s][r]);
      }
    }
  }
}

// R rows of a tile against S strips, opened together.
template <class L, int R, int S, int CHAINS>
NOINLINE void multiply(const uint8_t* strips, int64_t strip_bytes, int64_t blocks, const int8_t* a,
                       const float* scale, const Side::Value* side, f32x16 (&out)[S][R]) {
  f32x16 acc[S][R];
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) acc[s][r] = f32x16::set(0);
  for (int64_t b = 0; b < blocks; b++)
    add_block<L, R, S, CHAINS>(strips, strip_bytes, b, a, scale, side, acc);
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) out[s][r] = acc[s][r];
}

INLINE void prefetch(const uint8_t* p, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at);
}

// Few rows wait for memory: S strips are read side by side, `ahead` bytes prefetched in each, so
// that more cache lines are on their way. They are opened one after the other, since the sums of
// all take the registers.
template <class L, int R, int S>
NOINLINE void multiply_streams(const uint8_t* strips, int64_t strip_bytes, int64_t blocks,
                               const int8_t* a, const float* scale, const Side::Value* side,
                               int ahead, f32x16 (&out)[S][R]) {
  f32x16 acc[S][R];
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) acc[s][r] = f32x16::set(0);
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t begin = b % L::Scales::BLOCKS ? L::quants(b) : L::unit(b);
    const int64_t bytes = L::quants(b) + L::BLOCK_BYTES - begin;
#pragma GCC unroll 8
    for (int s = 0; s < S; s++) {
      const uint8_t* strip = strips + s * strip_bytes;
      if (ahead) prefetch(strip + begin + ahead, bytes);
      add_block<L, R, 1, 1>(strip, strip_bytes, b, a, scale, side, acc + s);
    }
  }
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) out[s][r] = acc[s][r];
}

// Rows whose sums have room in the registers, with float weights: two sums for each.
#if MOTET_AVX512
constexpr int FLOAT_ROWS = 8;
#else
constexpr int FLOAT_ROWS = 2;
#endif

// Float weights: a is [column][row] a tile. Blocks of 64 columns, even and odd ones apart.
template <class W>
inline f32x16 load_weights(const void* p);
struct Half {};
template <>
inline f32x16 load_weights<float>(const void* p) {
  return f32x16::load((const float*)p);
}
template <>
inline f32x16 load_weights<Half>(const void* p) {
  return f32x16::half((const uint16_t*)p);
}

// R of a tile's STRIDE rows against S strips side by side.
template <class W, int R, int STRIDE, int S>
NOINLINE void multiply_float(const uint8_t* strips, int64_t strip_bytes, int64_t columns,
                             const float* a, int ahead, f32x16* acc) {
  constexpr int item = (std::is_same_v<W, float> ? 4 : 2) * STRIP;
  constexpr int64_t chunk = 64;
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) acc[s * STRIDE + r] = f32x16::set(0);
  for (int64_t start = 0; start < columns; start += chunk) {
    const int64_t stop = std::min(columns, start + chunk);
    f32x16 even[S][R], odd[S][R];
    for (int s = 0; s < S; s++)
      for (int r = 0; r < R; r++) even[s][r] = odd[s][r] = f32x16::set(0);
    int64_t k = start;
    for (; k + 1 < stop; k += 2) {
#pragma GCC unroll 8
      for (int s = 0; s < S; s++) {
        const uint8_t* p = strips + s * strip_bytes + k * item;
        if (ahead) prefetch(p + ahead, 2 * item);
        const f32x16 w0 = load_weights<W>(p), w1 = load_weights<W>(p + item);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
          even[s][r] = fma(w0, f32x16::set(a[k * STRIDE + r]), even[s][r]);
          odd[s][r] = fma(w1, f32x16::set(a[(k + 1) * STRIDE + r]), odd[s][r]);
        }
      }
    }
    for (int s = 0; s < S; s++) {
      if (k < stop) {
        const f32x16 w = load_weights<W>(strips + s * strip_bytes + k * item);
        for (int r = 0; r < R; r++) even[s][r] = fma(w, f32x16::set(a[k * STRIDE + r]), even[s][r]);
      }
      f32x16* total = acc + s * STRIDE;
      for (int r = 0; r < R; r++) total[r] = total[r] + (even[s][r] + odd[s][r]);
    }
  }
}

// A tile of R rows, so many at a time as there are registers for their sums.
template <class W, int R, int S>
inline void multiply_floats(const uint8_t* strips, int64_t strip_bytes, int64_t columns,
                            const float* a, int ahead, f32x16 (&acc)[S][R]) {
  constexpr int part = std::min(R, FLOAT_ROWS);
  for (int r = 0; r < R; r += part)
    multiply_float<W, part, R, S>(strips, strip_bytes, columns, a + r, ahead, &acc[0][r]);
}

}  // namespace
