// The kernels of the matrix product: a tile of x against some strips.
//
// Each element has an accumulator of its own, and blocks enter it in order; so how many strips are
// side by side, what is prefetched and how the exact sums inside a block are split change no bit.
#pragma once
#include "by_vector.hpp"

namespace {

// Integer sums of the products of a block's group g against row r of the tile, from where they
// start; w holds the open quants of S strips. CHAINS: independent sums for each. It is for where
// sixteen lanes are one register; by_vector.hpp is for elsewhere.
template <class L, int S, int CHAINS>
INLINE void add_products(const i32x16 (&w)[S][8], const int32_t* four, int g, int32_t start,
                         i32x16 (&out)[S]) {
  constexpr int vectors = 8 / L::Scales::GROUPS;
  Products<L::Quants::DOT, vectors> sums[S][CHAINS];
#pragma GCC unroll 2
  for (int s = 0; s < S; s++) {
    sums[s][0].start(start);
    if constexpr (CHAINS == 2) sums[s][1].start(0);
  }
#pragma GCC unroll 8
  for (int i = 0; i < vectors; i++)
#pragma GCC unroll 2
    for (int s = 0; s < S; s++)
      sums[s][i % CHAINS].add(w[s][g * vectors + i], 0, four[g * vectors + i]);
#pragma GCC unroll 2
  for (int s = 0; s < S; s++)
    out[s] = CHAINS == 2 ? sums[s][0].sum() + sums[s][CHAINS - 1].sum() : sums[s][0].sum();
}

// Block b of S strips that follow each other against the R rows of a tile, into acc; a, scale and
// side point at the tile. Two strips share the loading of an activation, which is what many rows
// are limited by.
template <class L, int R, int S, int CHAINS>
INLINE void add_block(const uint8_t* strips, int64_t strip_bytes, int64_t b, const int8_t* a,
                      const float* scale, const Side::Value* side, f32x16 (*acc)[R]) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS;
  i32x16 w[S][8];
  f32x16 d[S][G], m[S];
#pragma GCC unroll 2
  for (int s = 0; s < S; s++) {
    const uint8_t* strip = strips + s * strip_bytes;
    L::Quants::open(strip + L::quants(b), w[s]);
    for (int g = 0; g < G; g++) d[s][g] = Scales::d(strip + L::unit(b) + g * STRIP);
    if constexpr (Scales::MINIMUM) m[s] = Scales::m(strip + L::unit(b));
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++) {
    const int32_t* four = (const int32_t*)(a + (b * R + r) * BLOCK);
    const f32x16 one = f32x16::set(scale[b * R + r]);
    i32x16 sums[G][S];
#pragma GCC unroll 2
    for (int g = 0; g < G; g++)
      add_products<L, S, CHAINS>(w, four, g, Scales::MINIMUM ? 0 : side[(b * G + g) * R + r].init,
                                 sums[g]);
#pragma GCC unroll 2
    for (int s = 0; s < S; s++) {
      if constexpr (G == 2)
        acc[s][r] = fma(pair_value(d[s][0], sums[0][s], d[s][1], sums[1][s]), one, acc[s][r]);
      else
        acc[s][r] = fma(d[s][0] * one, to_float(sums[0][s]), acc[s][r]);
      if constexpr (Scales::MINIMUM)
        acc[s][r] = fma(m[s], f32x16::set(side[b * R + r].scaled), acc[s][r]);
    }
  }
}

// Super-block u of a strip against the R rows of a tile, into acc. Inside of it all is whole
// numbers: Σ s·Σ w·q over its groups of columns, and Σ t·Σ q where it has minima; so their order
// and how they are computed are free.
template <class L, int R>
INLINE void add_super(const uint8_t* strip, int64_t u, const int8_t* a, const float* scale,
                      const Side::Value* side, Fetch ahead, f32x16* acc) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS;
  const uint8_t* unit = strip + u * L::UNIT_BYTES;
  const Side::Value* extra = side + u * Side::items<L>() * R;
  i32x16 total[R], least[R];
  prefetch(unit, Scales::SIZE, ahead);
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    total[r] = set_int(0);
    if constexpr (Scales::MINIMUM) least[r] = super_minimum<L, R>(unit, extra + r);
  }
  if constexpr (Scales::MINIMUM) touch_in_order();
  for (int p = 0; p < Scales::PAIRS; p++) {
    const i32x16 both = Scales::s_pair(unit, p);
    const i32x16 scales[2] = {right_signed<16>(left<16>(both)), right_signed<16>(both)};
#pragma GCC unroll 2
    for (int i = 0; i < 2 / G; i++) {
      const int64_t b = u * Scales::BLOCKS + p * (2 / G) + i;
      const uint8_t* quants = strip + L::quants(b);
      i32x16 w[1][8];
      prefetch(quants, L::BLOCK_BYTES, ahead);
      L::Quants::open(quants, w[0]);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        const int32_t* four = (const int32_t*)(a + (b * R + r) * BLOCK);
#pragma GCC unroll 2
        for (int g = 0; g < G; g++) {
          i32x16 sums[1];
          const int32_t start = Scales::MINIMUM ? 0 : extra[(2 * p + i + g) * R + r].init;
          add_products<L, 1, 1>(w, four, g, start, sums);
          total[r] = total[r] + sums[0] * scales[i + g];
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
    acc[r] = fma(super_value<L>(unit, total[r], least[r]), f32x16::set(scale[u * R + r]), acc[r]);
}

// R rows of a tile against S strips side by side. Many rows open two strips together; with few rows
// the sums of all strips take the registers, so they are opened one after the other. FETCHES: where
// nothing is prefetched and little is computed, even asking whether to costs.
template <class L, int R, int S, int CHAINS, bool FETCHES = true>
NOINLINE void multiply(const uint8_t* strips, int64_t strip_bytes, int64_t blocks, const int8_t* a,
                       const float* scale, const Side::Value* side, Fetch ahead,
                       f32x16 (&out)[S][R]) {
  constexpr int together = R >= PAIRED ? S : 1;
  if constexpr (!FETCHES) ahead = {0, 1};
  f32x16 acc[S][R];
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) acc[s][r] = f32x16::set(0);
  for (int64_t u = 0; u < blocks / L::Scales::BLOCKS; u++)
#pragma GCC unroll 8
    for (int s = 0; s < S; s += together) {
      const uint8_t* strip = strips + s * strip_bytes;
      if constexpr (REGISTERS > 1) {
        add_by_vector<L, R>(strip, u, a, scale, side, ahead, acc[s]);
      } else if constexpr (L::Scales::BLOCKS > 1) {
        add_super<L, R>(strip, u, a, scale, side, ahead, acc[s]);
      } else {
        for (int i = 0; i < together; i++)
          prefetch(strip + i * strip_bytes + L::unit(u), L::UNIT_BYTES, ahead);
        add_block<L, R, together, CHAINS>(strip, strip_bytes, u, a, scale, side, acc + s);
      }
    }
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) out[s][r] = acc[s][r];
}

}  // namespace
