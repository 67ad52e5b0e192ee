// The product of few rows of x with weights in codes: each super-block is opened, then multiplied
// like any other while it is at hand.
#pragma once
#include "codes.hpp"
#include "multiply.hpp"
#if MOTET_NEON
#include "multiply_neon.hpp"
#endif

namespace {

template <class L, int R>
NOINLINE void multiply_codes(Opener open, const uint8_t* strip, int64_t unit_bytes, int64_t units,
                             const int8_t* a, const float* scale, const Side::Value* side,
                             Fetch ahead, f32x16 (&out)[R]) {
  alignas(64) uint8_t opened[L::UNIT_BYTES];
  f32x16 acc[R];
  for (int r = 0; r < R; r++) acc[r] = f32x16::set(0);
  for (int64_t u = 0; u < units; u++, a += R * SUPER, scale += R, side += R * Side::items<L>()) {
    prefetch(strip + u * unit_bytes, unit_bytes, ahead);
    open(strip + u * unit_bytes, opened);
#if MOTET_NEON
    add_super_few<L, R>(opened, 0, a, scale, side, acc);
#else
    if constexpr (REGISTERS > 1)
      add_by_vector<L, R>(opened, 0, a, scale, side, {0, 1}, acc);
    else
      add_super<L, R>(opened, 0, a, scale, side, {0, 1}, acc);
#endif
  }
  for (int r = 0; r < R; r++) out[r] = acc[r];
}

}  // namespace
