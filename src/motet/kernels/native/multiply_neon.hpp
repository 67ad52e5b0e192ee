// The product with quantised weights on NEON, where a strip's sixteen lanes take four of the 32
// registers. Few rows of x: vectors of weights are opened in registers and meet them there.
// More: see multiply_neon_many.hpp.
#pragma once
#include "multiply_neon_many.hpp"

namespace {

// Columns 16q … 16q+15 of a block against R rows of x.
template <class Quants, int R>
INLINE void add_columns(const uint8_t* quants, int q, const int8_t* x, i32x16 (&sums)[R]) {
  int8x16_t row[R];
  for (int r = 0; r < R; r++) row[r] = vld1q_s8(x + r * BLOCK + 16 * q);
  each_of_four([&](auto k) {
    const i32x16 w = Quants::vector(quants, 4 * q + k());
    for (int r = 0; r < R; r++)
      for (int v = 0; v < 4; v++) sums[r].v[v] = dot_four<k()>(sums[r].v[v], w.v[v], row[r]);
  });
}

// Block b of a strip against the R rows of a tile, into acc; a, scale and side point at the tile.
template <class L, int R>
INLINE void add_block_few(const uint8_t* strip, int64_t b, const int8_t* a, const float* scale,
                          const Side::Value* side, f32x16* acc) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS;
  const uint8_t* unit = strip + L::unit(b);
  f32x16 half[R];  // of two groups what the first one gives, but for the scale of x
#pragma GCC unroll 2
  for (int g = 0; g < G; g++) {
    const Side::Value* extra = side + (b * G + g) * R;
    i32x16 sums[R];
    for (int r = 0; r < R; r++) sums[r] = set_int(AS_FLOAT + start_of<L>(extra[r]));
#pragma GCC unroll 2
    for (int q = G == 2 ? g : 0; q < (G == 2 ? g + 1 : 2); q++)
      add_columns<typename L::Quants>(strip + L::quants(b), q, a + b * R * BLOCK, sums);
    const f32x16 d = Scales::d(unit + g * STRIP);
    for (int r = 0; r < R; r++) {
      f32x16 whole;
      for (int v = 0; v < 4; v++) whole.v[v] = from_bits(sums[r].v[v]);
      const f32x16 one = f32x16::set(scale[b * R + r]);
      if constexpr (G == 1)
        acc[r] = fma(d * one, whole, acc[r]);
      else if (g == 0)
        half[r] = d * whole;
      else
        acc[r] = fma(fma(d, whole, half[r]), one, acc[r]);
      if constexpr (Scales::MINIMUM)
        acc[r] = fma(Scales::m(unit), f32x16::set(extra[r].scaled), acc[r]);
    }
  }
}

// Super-block u of a strip, likewise.
template <class L, int R>
INLINE void add_super_few(const uint8_t* strip, int64_t u, const int8_t* a, const float* scale,
                          const Side::Value* side, f32x16* acc) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS;
  const uint8_t* unit = strip + u * L::UNIT_BYTES;
  const Side::Value* extra = side + u * Side::items<L>() * R;
  i32x16 total[R], least[R];
  for (int r = 0; r < R; r++) total[r] = set_int(0);
  if constexpr (Scales::MINIMUM) minima<L, R, R>(unit, extra, least);
  for (int p = 0; p < Scales::PAIRS; p++) {
    const i32x16 both = Scales::s_pair(unit, p);
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++) {
      const int group = 2 * p + k;
      const int64_t b = u * Scales::BLOCKS + group / G;
      const i32x16 s = right_signed<16>(k ? both : left<16>(both));
      i32x16 sums[R];
      for (int r = 0; r < R; r++) sums[r] = set_int(start_of<L>(extra[group * R + r]));
#pragma GCC unroll 2
      for (int q = G == 2 ? k : 0; q < (G == 2 ? k + 1 : 2); q++)
        add_columns<typename L::Quants>(strip + L::quants(b), q, a + b * R * BLOCK, sums);
      for (int r = 0; r < R; r++) total[r] = total[r] + sums[r] * s;
    }
  }
  for (int r = 0; r < R; r++)
    acc[r] = fma(super_value<L>(unit, total[r], least[r]), f32x16::set(scale[u * R + r]), acc[r]);
}

// The R rows of a tile against S strips; see multiply.
template <class L, int R, int S>
NOINLINE void multiply_neon(const uint8_t* strips, int64_t strip_bytes, int64_t blocks,
                            const int8_t* a, const float* scale, const Side::Value* side,
                            Fetch ahead, f32x16 (&out)[S][R]) {
  for (int s = 0; s < S; s++) {
    const uint8_t* strip = strips + s * strip_bytes;
    if constexpr (R >= (MOTET_PAIRS || L::Scales::BLOCKS > 1 ? 4 : 8)) {
      multiply_parts<L, R>(strip, blocks, a, scale, side, ahead, out[s]);
    } else {
      f32x16 acc[R];
      for (int r = 0; r < R; r++) acc[r] = f32x16::set(0);
      for (int64_t u = 0; u < blocks / L::Scales::BLOCKS; u++) {
        prefetch(strip + u * L::UNIT_BYTES, L::UNIT_BYTES, ahead);
        if constexpr (L::Scales::BLOCKS > 1)
          add_super_few<L, R>(strip, u, a, scale, side, acc);
        else
          add_block_few<L, R>(strip, u, a, scale, side, acc);
      }
      for (int r = 0; r < R; r++) out[s][r] = acc[r];
    }
  }
}

}  // namespace
