// Blocks of 32 values whose scale follows from their range, as GGML's reference rounds them.
//
// A lane is a block, so that every sum and comparison goes value by value. No operation is fused:
// results are the same on every instruction set, and in NumPy (reference_quantize.py).
#pragma once
#include "quantize_blocks.hpp"
#include "simd.hpp"

namespace {

// Sixteen blocks as they are coded, value by value.
struct RoundedBlocks {
  uint8_t q[BLOCK * LANES];
  uint16_t d[LANES], m[LANES];
};

inline f32x16 inverse_or_zero(f32x16 d) {
  const f32x16 zero = f32x16::set(0);
  return choose_below(zero, magnitude(d), f32x16::set(1) / d, zero);
}

// Truncated as C converts to an integer.
inline f32x16 truncated(f32x16 a) { return to_float(truncate_to_int(a)); }

// d = (what is largest in magnitude) / −2^(bits − 1); q = d's multiple, rounded, + 2^(bits − 1).
template <int bits>
inline void round_symmetric(const float* x, RoundedBlocks& out) {
  constexpr int half = 1 << (bits - 1);
  f32x16 most = f32x16::set(0), extreme = most;
  for (int i = 0; i < BLOCK; i++) {
    const f32x16 v = f32x16::load(x + i * LANES), size = magnitude(v);
    extreme = choose_below(most, size, v, extreme);
    most = maximum(size, most);
  }
  const f32x16 d = extreme / f32x16::set(-half), inverse = inverse_or_zero(d);
  d.store_half(out.d);
  for (int i = 0; i < BLOCK; i++) {
    const f32x16 q = f32x16::load(x + i * LANES) * inverse + f32x16::set(half + 0.5f);
    const i32x16 whole = round_to_int(minimum(truncated(q), f32x16::set(2 * half - 1)));
    store_bytes((int8_t*)out.q + i * LANES, whole);
  }
}

// m = minimum, d = (maximum − m) / (2^bits − 1).
template <int bits>
inline void round_affine(const float* x, RoundedBlocks& out) {
  constexpr int most = (1 << bits) - 1;
  f32x16 low = f32x16::load(x), high = low;
  for (int i = 1; i < BLOCK; i++) {
    const f32x16 v = f32x16::load(x + i * LANES);
    low = minimum(v, low);
    high = maximum(v, high);
  }
  const f32x16 d = (high - low) / f32x16::set(most), inverse = inverse_or_zero(d);
  d.store_half(out.d);
  low.store_half(out.m);
  for (int i = 0; i < BLOCK; i++) {
    const f32x16 q = (f32x16::load(x + i * LANES) - low) * inverse + f32x16::set(0.5f);
    const i32x16 whole = round_to_int(minimum(truncated(q), f32x16::set(most)));
    store_bytes((int8_t*)out.q + i * LANES, whole);
  }
}

// d = (largest magnitude) / 127; ties are rounded away from zero.
inline void round_bytes(const float* x, RoundedBlocks& out) {
  f32x16 most = f32x16::set(0);
  for (int i = 0; i < BLOCK; i++) most = maximum(magnitude(f32x16::load(x + i * LANES)), most);
  const f32x16 d = most / f32x16::set(127), inverse = inverse_or_zero(d);
  d.store_half(out.d);
  for (int i = 0; i < BLOCK; i++) {
    const f32x16 q = f32x16::load(x + i * LANES) * inverse;
    const i32x16 whole = truncate_to_int(q);
    const f32x16 rest = q - to_float(whole);
    store_bytes((int8_t*)out.q + i * LANES, whole + truncate_to_int(rest + rest));
  }
}

template <int type>
inline void round_blocks(const float* x, RoundedBlocks& out) {
  if constexpr (type == Q8_0)
    round_bytes(x, out);
  else if constexpr (type == Q4_0 || type == Q5_0)
    round_symmetric<type == Q4_0 ? 4 : 5>(x, out);
  else
    round_affine<type == Q4_1 ? 4 : 5>(x, out);
}

}  // namespace
