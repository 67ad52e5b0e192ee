// Blocks whose scale follows from the range of their values, as GGML's reference rounds them.
//
// Of 32 values: a lane is a block, so that every sum and comparison goes value by value. No
// operation is fused: results are the same on every instruction set, and in NumPy
// (reference_quantize.py).
#pragma once
#include <cmath>

#include "pack.hpp"
#include "quantize_blocks.hpp"

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

// The e of 2^(e − 127) for a block whose largest magnitude this is: two less than its logarithm. As
// a float32 that is a whole number already for what is a little below a power of two.
inline uint16_t power_of(float most) {
  if (!(most > 0)) return 0;
  return (uint16_t)std::max(0.0f, std::floor((float)std::log2((double)most)) + 125);
}

// d a power of two; q the nearest of FP4_VALUES, of two as near the smaller one.
inline void round_fp4(const float* x, RoundedBlocks& out) {
  f32x16 most = f32x16::set(0);
  for (int i = 0; i < BLOCK; i++) most = maximum(magnitude(f32x16::load(x + i * LANES)), most);
  float each[LANES];
  uint8_t e[LANES];
  most.store(each);
  for (int l = 0; l < LANES; l++) e[l] = (uint8_t)(out.d[l] = power_of(each[l]));
  const f32x16 d = Power::d(e), zero = f32x16::set(0), one = f32x16::set(1);
  for (int i = 0; i < BLOCK; i++) {
    const f32x16 v = f32x16::load(x + i * LANES), size = magnitude(v);
    f32x16 code = zero;
    for (float middle : {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f})
      code = code + choose_below(d * f32x16::set(middle), size, one, zero);
    const f32x16 sign = choose_below(v, zero, f32x16::set(8), zero);
    code = code + choose_below(zero, code, sign, zero);
    store_bytes((int8_t*)out.q + i * LANES, round_to_int(code));
  }
}

constexpr bool ternary(int type) { return type == TQ1_0 || type == TQ2_0; }

// A super-block: d = (largest magnitude); q = 1 + d's multiple, ties rounded away from zero.
template <int type>
inline void put_ternary(const float* x, uint8_t* p) {
  f32x16 most = f32x16::set(0);
  for (int i = 0; i < SUPER; i += LANES) most = maximum(magnitude(f32x16::load(x + i)), most);
  const f32x16 d = f32x16::set(largest(most)), inverse = inverse_or_zero(d);
  const f32x16 one = f32x16::set(1), none = f32x16::set(0), two = f32x16::set(2);
  uint8_t q[SUPER];
  for (int i = 0; i < SUPER; i += LANES) {
    const f32x16 v = f32x16::load(x + i) * inverse, end = choose_below(v, none, none, two);
    store_bytes((int8_t*)q + i,
                round_to_int(choose_below(magnitude(v), f32x16::set(0.5f), one, end)));
  }
  if constexpr (type == TQ2_0) {
    put_pairs(p, q, 0);
  } else {
    put_fives(p, q, 32, 5);
    put_fives(p + 32, q + 160, 16, 5);
    put_fives(p + 48, q + 240, 4, 4);
  }
  uint16_t half[LANES];
  d.store_half(half);
  put_half(p + file_bytes<type>() - 2, half[0]);
}

template <int type>
inline void round_blocks(const float* x, RoundedBlocks& out) {
  if constexpr (type == Q8_0)
    round_bytes(x, out);
  else if constexpr (type == MXFP4)
    round_fp4(x, out);
  else if constexpr (type == Q4_0 || type == Q5_0)
    round_symmetric<type == Q4_0 ? 4 : 5>(x, out);
  else
    round_affine<type == Q4_1 ? 4 : 5>(x, out);
}

}  // namespace
