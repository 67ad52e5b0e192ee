// The kernels of the matrix product: a tile of x against one or two strips.
#pragma once
#include "activations.hpp"

namespace {

// R rows of a tile against S strips that follow each other; a, scale and side point at the tile.
// Two strips share the loading of an activation, which is what many rows are limited by.
template <class L, int R, int S>
inline void multiply(const uint8_t* strips, int64_t strip_bytes, int64_t blocks, const int8_t* a,
                     const float* scale, const Side::Value* side, f32x16 (&out)[S][R]) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS;
  f32x16 acc[S][R];
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) acc[s][r] = f32x16::set(0);
  for (int64_t b = 0; b < blocks; b++) {
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
        i32x16 sums[S];
#pragma GCC unroll 2
        for (int s = 0; s < S; s++) sums[s] = set_int(Scales::MINIMUM ? 0 : extra.init);
#pragma GCC unroll 8
        for (int j = g * vectors; j < (g + 1) * vectors; j++)
#pragma GCC unroll 2
          for (int s = 0; s < S; s++) sums[s] = dot<L::BITS>(sums[s], w[s][j], four[j]);
#pragma GCC unroll 2
        for (int s = 0; s < S; s++) {
          acc[s][r] = fma(d[s][g] * one, to_float(sums[s]), acc[s][r]);
          if constexpr (Scales::MINIMUM)
            acc[s][r] = fma(m[s][g], f32x16::set(extra.scaled), acc[s][r]);
        }
      }
    }
  }
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) out[s][r] = acc[s][r];
}

// Float weights: a is [column][row] a tile. Blocks of 64 columns, even and odd ones apart.
template <class W>
inline f32x16 load_weights(const void* p);
struct Half {};
struct Brain {};
template <>
inline f32x16 load_weights<float>(const void* p) {
  return f32x16::load((const float*)p);
}
template <>
inline f32x16 load_weights<Half>(const void* p) {
  return f32x16::half((const uint16_t*)p);
}
template <>
inline f32x16 load_weights<Brain>(const void* p) {
  return f32x16::bf16((const uint16_t*)p);
}

// R of a tile's STRIDE rows.
template <class W, int R, int STRIDE>
inline void multiply_float(const uint8_t* strip, int64_t columns, const float* a, f32x16* acc) {
  constexpr int item = (std::is_same_v<W, float> ? 4 : 2) * STRIP;
  constexpr int64_t chunk = 64;
  for (int r = 0; r < R; r++) acc[r] = f32x16::set(0);
  for (int64_t start = 0; start < columns; start += chunk) {
    const int64_t stop = std::min(columns, start + chunk);
    f32x16 even[R], odd[R];
    for (int r = 0; r < R; r++) even[r] = odd[r] = f32x16::set(0);
    int64_t k = start;
    for (; k + 1 < stop; k += 2) {
      const f32x16 w0 = load_weights<W>(strip + k * item);
      const f32x16 w1 = load_weights<W>(strip + (k + 1) * item);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        even[r] = fma(w0, f32x16::set(a[k * STRIDE + r]), even[r]);
        odd[r] = fma(w1, f32x16::set(a[(k + 1) * STRIDE + r]), odd[r]);
      }
    }
    if (k < stop)
      for (int r = 0; r < R; r++)
        even[r] = fma(load_weights<W>(strip + k * item), f32x16::set(a[k * STRIDE + r]), even[r]);
    for (int r = 0; r < R; r++) acc[r] = acc[r] + (even[r] + odd[r]);
  }
}

// A tile of R rows, so many at a time as there are registers for their sums.
template <class W, int R>
inline void multiply_floats(const uint8_t* strip, int64_t columns, const float* a,
                            f32x16 (&acc)[R]) {
#if MOTET_AVX512
  constexpr int most = 8;
#else
  constexpr int most = 2;
#endif
  constexpr int part = R < most ? R : most;
  for (int r = 0; r < R; r += part) multiply_float<W, part, R>(strip, columns, a + r, acc + r);
}

}  // namespace
