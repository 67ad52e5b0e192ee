// A tile of x against strips of weights that are numbers themselves: F32, F16, BF16.
//
// The order of each element's sum: columns in steps, of 64 with F32 and F16, of 32 with BF16, which
// are 16 words of two columns. In a step the even columns (words) have one sum and the odd ones
// another, both from zero; then total + (even + odd). A word's odd column goes in first. BF16's
// subnormals are zeros in every step. VDPBF16PS does a word; TDPBF16PS, as Intel describes it, a
// step.
#pragma once
#include "activations.hpp"
#include "bf16.hpp"

namespace {

// Rows whose sums have room in the registers, with weights that are numbers themselves, and whether
// each has room for one sum at a time alone: then a step's even items are taken in before its odd
// ones.
#if MOTET_AVX512
constexpr int PLAIN_ROWS = 8;
template <int R>
constexpr bool ONE_SUM = false;
#elif MOTET_AVX2
constexpr int PLAIN_ROWS = 4;
template <int R>
constexpr bool ONE_SUM = R > 2;
#else
constexpr int PLAIN_ROWS = 2;
template <int R>
constexpr bool ONE_SUM = false;
#endif

// Weights as floats; x is [column][row] a tile.
struct Half {};
template <class W>
struct Floats {
  static constexpr int STEP = 64, ITEMS = 1, BYTES = (std::is_same_v<W, float> ? 4 : 2) * STRIP;
  using Item = float;
  INLINE static f32x16 load(const uint8_t* p) {
    if constexpr (std::is_same_v<W, float>)
      return f32x16::load((const float*)p);
    else
      return f32x16::half((const uint16_t*)p);
  }
  INLINE static f32x16 add(f32x16 sum, f32x16 w, const float* x, int) {
    return fma(w, f32x16::set(*x), sum);
  }
};

// Call f with the way of weights of this type.
template <class Function>
inline void with_floats(int type, const Function& f) {
  if (type == F32)
    f(Floats<float>{});
  else
    f(Floats<Half>{});
}

// An item of a strip into the sums of R rows.
template <class Way, int STRIDE, int R>
INLINE void add_item(f32x16 (&sums)[R], const uint8_t* item, const typename Way::Item* x) {
  const auto w = Way::load(item);
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) sums[r] = Way::add(sums[r], w, x + r, STRIDE);
}

// R of a tile's STRIDE rows against S strips side by side.
template <class Way, int R, int STRIDE, int S>
NOINLINE void multiply_plain(const uint8_t* strips, int64_t strip_bytes, int64_t items,
                             const typename Way::Item* x, Fetch ahead, f32x16* out) {
  constexpr int width = Way::ITEMS * STRIDE;
  for (int s = 0; s < S; s++)
    for (int r = 0; r < R; r++) out[s * STRIDE + r] = f32x16::set(0);
  for (int64_t start = 0; start < items; start += Way::STEP) {
    const int64_t stop = std::min(items, start + Way::STEP), pairs = start + (stop - start) / 2 * 2;
    f32x16 even[S][R], odd[S][R];
    for (int s = 0; s < S; s++)
      for (int r = 0; r < R; r++) even[s][r] = odd[s][r] = f32x16::set(0);
    for (int64_t k = start; k < pairs; k += 2) {
#pragma GCC unroll 8
      for (int s = 0; s < S; s++) {
        const uint8_t* p = strips + s * strip_bytes + k * Way::BYTES;
        prefetch(p, 2 * Way::BYTES, ahead);
        add_item<Way, STRIDE>(even[s], p, x + k * width);
        if (!ONE_SUM<R>) add_item<Way, STRIDE>(odd[s], p + Way::BYTES, x + (k + 1) * width);
      }
    }
    for (int s = 0; s < S; s++) {
      const uint8_t* strip = strips + s * strip_bytes;
      if (ONE_SUM<R>)
        for (int64_t k = start + 1; k < pairs; k += 2)
          add_item<Way, STRIDE>(odd[s], strip + k * Way::BYTES, x + k * width);
      if (pairs < stop)
        add_item<Way, STRIDE>(even[s], strip + pairs * Way::BYTES, x + pairs * width);
      f32x16* total = out + s * STRIDE;
      for (int r = 0; r < R; r++) total[r] = total[r] + (even[s][r] + odd[s][r]);
    }
  }
}

// A tile of R rows, so many at a time as there are registers for their sums.
template <class Way, int R, int S>
inline void multiply_rows(const uint8_t* strips, int64_t strip_bytes, int64_t items,
                          const typename Way::Item* x, Fetch ahead, f32x16 (&out)[S][R]) {
  constexpr int part = std::min(R, PLAIN_ROWS);
  for (int r = 0; r < R; r += part)
    multiply_plain<Way, part, R, S>(strips, strip_bytes, items, x + r, ahead, &out[0][r]);
}

}  // namespace
