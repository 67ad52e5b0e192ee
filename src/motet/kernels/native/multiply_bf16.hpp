// A tile of x, rounded to BF16, against strips of BF16 weights.
//
// The order of each element's sum: columns in blocks of 32, of 16 words of two columns. In a block
// the even words have one sum and the odd ones another, both from zero, into which a word's odd
// column goes first; then total + (even + odd). Subnormals are zeros in every step. VDPBF16PS does
// a word; TDPBF16PS, as Intel describes it, a block.
#pragma once
#include "multiply.hpp"

namespace {

constexpr int64_t BLOCK_WORDS = BLOCK / 2;

// R of a tile's STRIDE rows against S strips side by side.
template <class Way, int R, int STRIDE, int S>
NOINLINE void multiply_words(const uint8_t* strips, int64_t strip_bytes, int64_t words,
                             const uint32_t* x, Fetch ahead, f32x16* out) {
  constexpr int size = 4 * STRIP, step = Way::ITEMS * STRIDE;
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) out[s * STRIDE + r] = f32x16::set(0);
  for (int64_t start = 0; start < words; start += BLOCK_WORDS) {
    const int64_t stop = std::min(words, start + BLOCK_WORDS);
    f32x16 even[S][R], odd[S][R];
    for (int s = 0; s < S; s++)
      for (int r = 0; r < R; r++) even[s][r] = odd[s][r] = f32x16::set(0);
    int64_t k = start;
    for (; k + 1 < stop; k += 2) {
#pragma GCC unroll 8
      for (int s = 0; s < S; s++) {
        const uint8_t* p = strips + s * strip_bytes + k * size;
        prefetch(p, 2 * size, ahead);
        // One after the other: both words, opened, would take the registers.
        const i32x16 w0 = load_int(p);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) even[s][r] = Way::add(even[s][r], w0, x + k * step + r, STRIDE);
        const i32x16 w1 = load_int(p + size);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
          odd[s][r] = Way::add(odd[s][r], w1, x + (k + 1) * step + r, STRIDE);
      }
    }
    for (int s = 0; s < S; s++) {
      if (k < stop) {
        const i32x16 w = load_int(strips + s * strip_bytes + k * size);
        for (int r = 0; r < R; r++) even[s][r] = Way::add(even[s][r], w, x + k * step + r, STRIDE);
      }
      f32x16* total = out + s * STRIDE;
      for (int r = 0; r < R; r++) total[r] = total[r] + (even[s][r] + odd[s][r]);
    }
  }
}

// A tile of R rows, so many at a time as there are registers for their sums.
template <int R, int S>
inline void multiply_bf16(bool dots, const uint8_t* strips, int64_t strip_bytes, int64_t words,
                          const uint32_t* x, Fetch ahead, f32x16 (&acc)[S][R]) {
  constexpr int part = std::min(R, FLOAT_ROWS);
  const Flushing flushing;
  with_way(dots, [&](auto way) {
    for (int r = 0; r < R; r += part)
      multiply_words<decltype(way), part, R, S>(strips, strip_bytes, words, x + r, ahead,
                                                &acc[0][r]);
  });
}

}  // namespace
