// BF16: how numbers are rounded to it, and how the products of two of them enter a sum.
#pragma once
#include <cmath>

#include "simd.hpp"

namespace {

// x rounded to the nearest BF16, ties to even, as a float's bits: the lower half of each is zero.
// NaN stays NaN, and what is beyond the greatest BF16 (3.39e38) becomes infinite.
inline i32x16 rounded_to_bf16(f32x16 x) {
  const i32x16 bits = as_int(x), tie = right<16>(bits) & set_int(1);
  const f32x16 rounded = as_float(bits + set_int(0x7fff) + tie), quiet = x + x;
  const f32x16 kept = choose_below(magnitude(x), f32x16::set(INFINITY), rounded, quiet);
  return as_int(kept) & set_int((int32_t)0xffff0000);
}

// While it lives, subnormal numbers are zeros, coming in and going out: as they always are in the
// processors' own instructions for BF16.
struct Flushing {
  Flushing() : before(float_mode()) { set_float_mode(before | FLUSH_SUBNORMALS); }
  ~Flushing() { set_float_mode(before); }
  Flushing(const Flushing&) = delete;
  Flushing& operator=(const Flushing&) = delete;
  const FloatMode before;
};

// Two ways, one result: a sum takes in the products of two neighbouring columns, the odd column's
// first. w: words of two BF16 weights (the even column's in the lower half). Every step is a fused
// multiply-add, rounded to nearest even, inside Flushing.

struct Bf16Words {
  static constexpr int STEP = 16, BYTES = 4 * LANES;
  using Item = uint32_t;
  INLINE static i32x16 load(const uint8_t* p) { return load_int(p); }
};

// x: the even column's as a float, the odd one's `stride` after it.
struct Fused : Bf16Words {
  static constexpr int ITEMS = 2;  // of x for a word of weights
  INLINE static f32x16 add(f32x16 sum, i32x16 w, const uint32_t* x, int stride) {
    float even, odd;
    memcpy(&even, x, 4);
    memcpy(&odd, x + stride, 4);
    sum = fma(as_float(w & set_int((int32_t)0xffff0000)), f32x16::set(odd), sum);
    return fma(as_float(left<16>(w)), f32x16::set(even), sum);
  }
};

#if MOTET_AVX512
// x: a word like those of w. AVX512_BF16's VDPBF16PS.
struct Dots : Bf16Words {
  static constexpr int ITEMS = 1;
  INLINE static f32x16 add(f32x16 sum, i32x16 w, const uint32_t* x, int) {
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum.v[0]) : "v"(w.v[0]), "m"(*x));
    return sum;
  }
};

// Whether the two agree on this processor, on numbers of an ordinary size and on such that sums and
// products are about the least normal one. It rests on Intel's manual and on Zen 4 as measured;
// where a processor did otherwise, its instruction would not be used.
NOINLINE inline bool dots_are_fused() {
  const Flushing flushing;
  uint64_t state = 1;
  auto random = [&](int least, int most, int bits) {  // a float's bits, of an exponent in between
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint32_t r = (uint32_t)(state >> 32), exponent = least + r % (most - least + 1);
    const uint32_t mantissa = (uint32_t)(state >> 20) & 0x7fffff & ~0u << (23 - bits);
    return (r & 0x80000000) | exponent << 23 | mantissa;
  };
  for (int i = 0; i < 1024; i++) {
    const bool tiny = i % 2;
    float sum[LANES], dots[LANES], fused[LANES];
    uint32_t w[LANES], x[2];
    for (int lane = 0; lane < LANES; lane++) {
      const uint32_t bits = tiny ? random(0, 6, 23) : random(120, 134, 23);
      memcpy(sum + lane, &bits, 4);
      w[lane] = (tiny ? random(40, 70, 7) : random(120, 132, 7)) |
                (tiny ? random(40, 70, 7) : random(120, 132, 7)) >> 16;
    }
    for (uint32_t& one : x) one = tiny ? random(56, 64, 7) : random(122, 128, 7);
    const uint32_t word = x[1] | x[0] >> 16;
    Dots::add(f32x16::load(sum), load_int(w), &word, 0).store(dots);
    Fused::add(f32x16::load(sum), load_int(w), x, 1).store(fused);
    if (memcmp(dots, fused, sizeof dots)) return false;
  }
  return true;
}

inline bool processor_has_dots() {
  return __builtin_cpu_supports("avx512bf16") && dots_are_fused();
}
#else
inline bool processor_has_dots() { return false; }
#endif

// Call f with one of the ways.
template <class Function>
inline void with_way([[maybe_unused]] bool dots, const Function& f) {
#if MOTET_AVX512
  if (dots) return f(Dots{});
#endif
  f(Fused{});
}

}  // namespace
