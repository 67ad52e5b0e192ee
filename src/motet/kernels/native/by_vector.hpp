// Units of weights against rows of x, vector by vector of quants: each meets all rows whose sums
// stay in registers, so that no multiplication waits for the one before it.
#pragma once
#include "activations.hpp"
#include "products.hpp"
#include "super_block.hpp"
#include "tuning.hpp"

namespace {

INLINE void prefetch(const uint8_t* p, int64_t bytes, Fetch ahead) {
  if (!ahead.bytes) return;
  p += ahead.bytes;
  // One address: compilers keep one for each line at hand, even where nothing is prefetched.
  asm("" : "+r"(p));
  if (ahead.level == 1)
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at);
  else
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, 0, 2);
}

// The n vectors of a block's quants from vector `first` on against ROWS rows, whose bytes of the
// block follow each other.
template <class L, int n, int ROWS>
INLINE void add_vectors(const uint8_t* quants, int first, const int32_t* four,
                        Products<L::Quants::DOT, n> (&sums)[ROWS]) {
  using Sum = Products<L::Quants::DOT, n>;
#pragma GCC unroll 4
  for (int at = 0; at < REGISTERS; at += Sum::TOGETHER) {
    // Each part loads what it needs again: there is no room to keep it.
    if constexpr (Sum::TOGETHER < REGISTERS) asm("" : "+r"(four), "+r"(quants));
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
      const i32x16 w = L::Quants::vector(quants, first + i);
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++) {
        if (i && i % Sum::HOLDS == 0) sums[r].widen();
        sums[r].add(w, at, four[8 * r + first + i]);
      }
    }
  }
}

// Block b of a strip against ROWS of the tile's H rows, from row `first` on, into acc.
template <class L, int H, int ROWS>
INLINE void add_block_rows(const uint8_t* strip, int64_t b, const int8_t* a, const float* scale,
                           const Side::Value* side, int first, f32x16* acc) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS, vectors = 8 / G;
  const uint8_t* unit = strip + L::unit(b);
  const int64_t at = b * H + first;
  const auto* four = (const int32_t*)(a + at * BLOCK);
  f32x16 half[ROWS];  // of two groups what the first one gives, but for the scale of x
#pragma GCC unroll 2
  for (int g = 0; g < G; g++) {
    const Side::Value* extra = side + (b * G + g) * H + first;
    Products<L::Quants::DOT, vectors> sums[ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) sums[r].start(Scales::MINIMUM ? 0 : extra[r].init);
    add_vectors<L, vectors, ROWS>(strip + L::quants(b), g * vectors, four, sums);
    const f32x16 d = Scales::d(unit + g * STRIP);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const f32x16 one = f32x16::set(scale[at + r]), sum = to_float(sums[r].sum());
      f32x16& out = acc[first + r];
      if constexpr (G == 1)
        out = fma(d * one, sum, out);
      else if (g == 0)
        half[r] = d * sum;
      else
        out = fma(fma(d, sum, half[r]), one, out);
      if constexpr (Scales::MINIMUM) out = fma(Scales::m(unit), f32x16::set(extra[r].scaled), out);
    }
  }
}

// Super-block u of a strip against ROWS of the tile's H rows, from row `first` on, into acc.
template <class L, int H, int ROWS>
INLINE void add_super_rows(const uint8_t* strip, int64_t u, const int8_t* a, const float* scale,
                           const Side::Value* side, int first, Fetch ahead, f32x16* acc) {
  using Scales = typename L::Scales;
  constexpr int G = Scales::GROUPS, vectors = 8 / G;
  const uint8_t* unit = strip + u * L::UNIT_BYTES;
  const Side::Value* extra = side + u * Side::items<L>() * H + first;
  prefetch(unit, Scales::SIZE, ahead);
  i32x16 total[ROWS], least[ROWS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
    if constexpr (Scales::MINIMUM) least[r] = super_minimum<L, H>(unit, extra + r);
    total[r] = set_int(0);
  }
  for (int p = 0; p < Scales::PAIRS; p++) {
    const i32x16 both = Scales::s_pair(unit, p);
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++) {
      const int64_t b = u * Scales::BLOCKS + (2 * p + k) / G;
      const uint8_t* quants = strip + L::quants(b);
      const int32_t* four = (const int32_t*)(a + (b * H + first) * BLOCK);
      if (k < 2 / G) prefetch(quants, L::BLOCK_BYTES, ahead);
      // Of the next super-block: 32 bytes of a row are half a cache line.
      if (k < 2 / G)
        for (int r = 0; r < ROWS; r += 2) __builtin_prefetch(four + 8 * r + H * SUPER / 4);
      Products<L::Quants::DOT, vectors> sums[ROWS];
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++)
        sums[r].start(Scales::MINIMUM ? 0 : extra[(2 * p + k) * H + r].init);
      add_vectors<L, vectors, ROWS>(quants, k % G * vectors, four, sums);
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++) total[r] = sums[r].scaled(total[r], both, k, Scales::MINIMUM);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
    acc[first + r] = fma(super_value<L>(unit, total[r], least[r]),
                         f32x16::set(scale[u * H + first + r]), acc[first + r]);
}

// The unit u of a strip against the R rows of a tile, into acc.
template <class L, int R>
INLINE void add_by_vector(const uint8_t* strip, int64_t u, const int8_t* a, const float* scale,
                          const Side::Value* side, Fetch ahead, f32x16* acc) {
  constexpr int rows = std::min(R, 4);
  if constexpr (L::Scales::BLOCKS == 1) prefetch(strip + L::unit(u), L::UNIT_BYTES, ahead);
  for (int r = 0; r < R; r += rows)
    if constexpr (L::Scales::BLOCKS == 1)
      add_block_rows<L, R, rows>(strip, u, a, scale, side, r, acc);
    else
      add_super_rows<L, R, rows>(strip, u, a, scale, side, r, r ? Fetch{0, 1} : ahead, acc);
}

}  // namespace
