// The product of many rows of x with weights in super-blocks. What limits it are the multipliers,
// so the sums of several rows stay in registers, and each vector of quants meets all of them: no
// multiplication waits for the one before it.
#pragma once
#include "multiply.hpp"

namespace {

// Super-block u of a strip against ROWS of the tile's H rows, from row `first` on, into acc.
template <class L, int H, int ROWS>
INLINE void add_super_many(const uint8_t* strip, int64_t u, const int8_t* a, const float* scale,
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
      i32x16 sums[ROWS];
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++)
        sums[r] = set_int(Scales::MINIMUM ? 0 : extra[(2 * p + k) * H + r].init);
#pragma GCC unroll 8
      for (int i = 0; i < vectors; i++) {
        const int j = k % G * vectors + i;
        const i32x16 w = L::Quants::vector(quants, j);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) sums[r] = dot<L::Quants::DOT>(sums[r], w, four[8 * r + j]);
      }
      const i32x16 s = right_signed<16>(k ? both : left<16>(both));
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++) total[r] = total[r] + sums[r] * s;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
    acc[first + r] = fma(super_value<L>(unit, total[r], least[r]),
                         f32x16::set(scale[u * H + first + r]), acc[first + r]);
}

// The H rows of a tile against S strips, ROWS at a time. All meet a super-block before the next one
// comes from memory.
template <class L, int H, int S, int ROWS>
NOINLINE void multiply_many(const uint8_t* strips, int64_t strip_bytes, int64_t blocks,
                            const int8_t* a, const float* scale, const Side::Value* side,
                            Fetch ahead, f32x16 (&out)[S][H]) {
  for (int s = 0; s < S; s++) {
    f32x16 acc[H];
    for (int r = 0; r < H; r++) acc[r] = f32x16::set(0);
    for (int64_t u = 0; u < blocks / L::Scales::BLOCKS; u++)
      for (int r = 0; r < H; r += ROWS)
        add_super_many<L, H, ROWS>(strips + s * strip_bytes, u, a, scale, side, r,
                                   r ? Fetch{0, 1} : ahead, acc);
    for (int r = 0; r < H; r++) out[s][r] = acc[r];
  }
}

}  // namespace
