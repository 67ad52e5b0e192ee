// The product of many rows of x with weights in super-blocks, vector by vector: what limits it are
// the multipliers.
#pragma once
#include "multiply.hpp"

namespace {

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
        add_super_rows<L, H, ROWS>(strips + s * strip_bytes, u, a, scale, side, r,
                                   r ? Fetch{0, 1} : ahead, acc);
    for (int r = 0; r < H; r++) out[s][r] = acc[r];
  }
}

}  // namespace
