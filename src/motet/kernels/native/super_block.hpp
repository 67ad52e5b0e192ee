// What whole sums give of a product. Those of a super-block: scale·(D·total − M·least), where total
// is Σ s·Σ w·q over its groups of columns, least Σ t·Σ q, and scale that of the activations.
#pragma once
#include "layouts.hpp"

namespace {

// `least` of the super-block at `unit`, for a row whose Σq are at `side`, those of a tile's R rows
// side by side; see Side.
template <class L, int R, class Extra>
INLINE i32x16 super_minimum(const uint8_t* unit, const Extra* side) {
  i32x16 least = set_int(0);
#pragma GCC unroll 8
  for (int p = 0; p < L::Scales::PAIRS; p++)
    least = dot_words(least, L::Scales::t_pair(unit, p), side[p * R].init);
  return least;
}

template <class L>
INLINE f32x16 super_value(const uint8_t* unit, i32x16 total, i32x16 least) {
  const f32x16 value = L::Scales::d(unit) * to_float(total);
  if constexpr (!L::Scales::MINIMUM) return value;
  return fma(f32x16::set(0) - L::Scales::m(unit), to_float(least), value);
}

// Those of a block with two groups, each with a float scale of its own, but for `scale`.
INLINE f32x16 pair_value(f32x16 d0, i32x16 sum0, f32x16 d1, i32x16 sum1) {
  return fma(d1, to_float(sum1), d0 * to_float(sum0));
}

}  // namespace
