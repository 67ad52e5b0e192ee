// Exact sums of products of bytes: in 32 bits as each comes, or on AVX2 as words while they hold.
#pragma once
#include "simd.hpp"

namespace {

// The first or second word of each lane, as an int32.
inline i32x16 word_of(i32x16 pair, int word) {
  return right_signed<16>(word ? pair : left<16>(pair));
}

// A whole number, to which products are added of n vectors of bytes w, below 2^bits, with four
// signed ones: so many (HOLDS) until it has to be widened.
#if MOTET_AVX2
template <int bits, int n>
struct Products {
  static constexpr int HOLDS = Words<bits>::HOLDS;
  // Registers of w that are taken together: bytes have two sums each, and half as much room.
  static constexpr int TOGETHER = bits == 8 ? 1 : REGISTERS;
  static_assert(TOGETHER == REGISTERS || n <= HOLDS);
  Words<bits> words[REGISTERS];
  i32x16 wide;

  INLINE void start(int32_t from) { wide = set_int(from); }
  INLINE void add(i32x16 w, int at, int32_t four) {
#pragma GCC unroll 2
    for (int r = at; r < at + TOGETHER; r++) words[r].add(w.v[r], i_set(four));
  }
  INLINE void widen() {
    wide = sum();
    EACH
    words[r] = {};
  }
  INLINE i32x16 sum() const {
    i32x16 out;
    EACH
    out.v[r] = i_add(wide.v[r], words[r].times(_mm256_set1_epi16(1)));
    return out;
  }
  // total + sum · that word of each lane's two. `from_zero`: whether it started from 0.
  INLINE i32x16 scaled(i32x16 total, i32x16 scales, int word, bool from_zero) const {
    if (from_zero && n <= HOLDS) {
      EACH
      total.v[r] = i_add(total.v[r], words[r].times(i_twice(scales.v[r], word)));
      return total;
    }
    return total + sum() * word_of(scales, word);
  }
};
#else
template <int bits>
inline i32x16 dot(i32x16 acc, i32x16 w, int32_t four) {
  EACH
  acc.v[r] = i_dot<bits>(acc.v[r], w.v[r], i_set(four));
  return acc;
}
template <int bits, int n>
struct Products {
  static constexpr int HOLDS = n, TOGETHER = REGISTERS;
  i32x16 wide;

  INLINE void start(int32_t from) { wide = set_int(from); }
  INLINE void add(i32x16 w, int, int32_t four) { wide = dot<bits>(wide, w, four); }
  INLINE void widen() {}
  INLINE i32x16 sum() const { return wide; }
  INLINE i32x16 scaled(i32x16 total, i32x16 scales, int word, bool) const {
    return total + wide * word_of(scales, word);
  }
};
#endif

}  // namespace
