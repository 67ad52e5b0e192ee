// Packed weights: how they lie in memory, and how a kernel opens them.
//
// A matrix is cut into strips of 16 rows; lane i of every vector belongs to row i of its strip. A
// strip is one stream of units, each the scales of 1 or 8 blocks of 32 columns, then the unsigned
// quants q of these blocks: scales apart from quants would be a second stream (how many strips are
// read side by side: tuning.hpp). Every weight is d·q − m (m = d·zero where the file stores no
// minimum).
//   scales  see the structs below.
//   quants of a block  4 × 64 bytes of low nibbles: vector j holds columns 4j…4j+3 of every row in
//           its low nibbles and columns 16+4j… in its high ones; then the fifth bits (64 bytes, bit
//           j of a byte belongs to vector j) or the fifth and sixth (2 × 64 bytes, two bits a
//           vector). 8 bits: 8 × 64 bytes.
#pragma once
#include <type_traits>

#include "simd.hpp"

namespace {

constexpr int STRIP = 16;   // rows
constexpr int BLOCK = 32;   // columns that share an activation scale
constexpr int SUPER = 256;  // columns of a K-quant super-block

constexpr int quant_bytes(int bits) { return bits * STRIP * BLOCK / 8; }

// A compiler may not move a load across this. Zen 4's prefetchers follow a stream whose lines are
// touched in ascending order, and lose a fifth where each block begins with its last line.
inline void touch_in_order() { asm volatile("" ::: "memory"); }

// What 5 and 6 bits have above the lowest four, of vector j of a block.
template <int bits>
inline i32x16 high_bits(const uint8_t* p, int j) {
  if constexpr (bits == 5) {
    const i32x16 h = load_int(p + 256), bit = set_int(0x10101010);
    switch (j) {
      case 0: return left<4>(h) & bit;
      case 1: return left<3>(h) & bit;
      case 2: return left<2>(h) & bit;
      case 3: return left<1>(h) & bit;
      case 4: return h & bit;
      case 5: return right<1>(h) & bit;
      case 6: return right<2>(h) & bit;
      default: return right<3>(h) & bit;
    }
  } else {
    const i32x16 h = load_int(p + 256 + 64 * (j / 4)), pair = set_int(0x30303030);
    switch (j % 4) {
      case 0: return left<4>(h) & pair;
      case 1: return left<2>(h) & pair;
      case 2: return h & pair;
      default: return right<2>(h) & pair;
    }
  }
}

// Vector j of the 8 of a block: unsigned bytes, columns 4j…4j+3 of 16 rows.
template <int bits>
inline i32x16 open_vector(const uint8_t* p, int j) {
  if constexpr (bits == 8) return load_int(p + 64 * j);
  const i32x16 v = load_int(p + 64 * (j % 4));
  const i32x16 w = (j < 4 ? v : right<4>(v)) & set_int(0x0f0f0f0f);
  if constexpr (bits > 4 && bits < 8) return w | high_bits<bits>(p, j);
  return w;
}

// All of them.
template <int bits>
inline void open_quants(const uint8_t* p, i32x16 (&w)[8]) {
  constexpr int low = bits == 8 ? 8 : 4;
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) w[j] = open_vector<low>(p, j);
  if constexpr (bits == 5 || bits == 6) {
    touch_in_order();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) w[j] = w[j] | high_bits<bits>(p, j);
  }
}

// Scale layouts. A unit has BLOCKS blocks, and GROUPS scales in each of them; SIZE is the bytes of
// all its scales.

// float16 d. Q4_0, Q5_0, Q8_0, IQ4_NL.
struct Plain {
  static constexpr int BLOCKS = 1, GROUPS = 1, SIZE = 32;
  static constexpr bool MINIMUM = false;
  static f32x16 d(const uint8_t* p) { return f32x16::half((const uint16_t*)p); }
};

// float16 d and m. Q4_1, Q5_1. The file's m is added, so it is stored negated.
struct WithMinimum {
  static constexpr int BLOCKS = 1, GROUPS = 1, SIZE = 64;
  static constexpr bool MINIMUM = true;
  static f32x16 d(const uint8_t* p) { return f32x16::half((const uint16_t*)p); }
  static f32x16 m(const uint8_t* p) { return f32x16::half((const uint16_t*)(p + 32)); }
};

// float16 D for a super-block, then a signed byte s for each group, those of two groups side by
// side: d = D·s. Q6_K and Q3_K (groups of 16), IQ4_XS (groups of 32). With a minimum: float16 D and
// M, then t, then s: d = D·s, m = M·t. Q4_K, Q5_K (groups of 32), Q2_K (groups of 16).
template <int groups, bool minimum>
struct Super {
  static constexpr int BLOCKS = SUPER / BLOCK, GROUPS = groups;
  static constexpr bool MINIMUM = minimum;
  static constexpr int PAIRS = BLOCKS * GROUPS / 2;
  static constexpr int T = 64, S = minimum ? T + 2 * PAIRS * STRIP : 32;
  static constexpr int SIZE = S + 2 * PAIRS * STRIP;
  static f32x16 d(const uint8_t* p) { return f32x16::half((const uint16_t*)p); }
  static f32x16 m(const uint8_t* p) { return f32x16::half((const uint16_t*)(p + 32)); }
  // Of two groups, as words.
  static i32x16 s_pair(const uint8_t* p, int pair) { return words(p + S + pair * 2 * STRIP); }
  static i32x16 t_pair(const uint8_t* p, int pair) { return words(p + T + pair * 2 * STRIP); }
  // Where that of a row is, from S or T on.
  static constexpr int place(int group, int row) {
    return (group / 2 * STRIP + row) * 2 + group % 2;
  }
};

template <int bits, class Scale, int zero>
struct Layout {
  static constexpr int BITS = bits;
  static constexpr int ZERO = zero;  // subtracted from q where there is no stored minimum
  static constexpr int BLOCK_BYTES = quant_bytes(bits);
  static constexpr int UNIT_BYTES = Scale::SIZE + Scale::BLOCKS * BLOCK_BYTES;
  using Scales = Scale;
  using Base = Layout;  // kernels are made once a layout, not once a type
  static constexpr int64_t strip_bytes(int64_t columns) {
    return columns / (BLOCK * Scale::BLOCKS) * UNIT_BYTES;
  }
  // Of block b of a strip: where its unit begins, and its quants.
  static constexpr int64_t unit(int64_t b) { return b / Scale::BLOCKS * UNIT_BYTES; }
  static constexpr int64_t quants(int64_t b) {
    return unit(b) + Scale::SIZE + b % Scale::BLOCKS * BLOCK_BYTES;
  }
};

// GGML's type numbers, and the layout that holds each.
enum Type : int {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  IQ4_NL = 20,
  IQ4_XS = 23,
  BF16 = 30,
};

template <int type>
struct LayoutOf;
#define LAYOUT(type, ...) \
  template <>             \
  struct LayoutOf<type> : Layout<__VA_ARGS__> {};
LAYOUT(Q4_0, 4, Plain, 8)
LAYOUT(Q4_1, 4, WithMinimum, 0)
LAYOUT(Q5_0, 5, Plain, 16)
LAYOUT(Q5_1, 5, WithMinimum, 0)
LAYOUT(Q8_0, 8, Plain, 128)
LAYOUT(Q2_K, 4, Super<2, true>, 0)
LAYOUT(Q3_K, 4, Super<2, false>, 4)
LAYOUT(Q4_K, 4, Super<1, true>, 0)
LAYOUT(Q5_K, 5, Super<1, true>, 0)
LAYOUT(Q6_K, 6, Super<2, false>, 32)
LAYOUT(IQ4_NL, 8, Plain, 128)
LAYOUT(IQ4_XS, 8, Super<1, false>, 128)
#undef LAYOUT

// Call f with a quantised type as a constant; false if it has no layout.
template <class Function>
inline bool with_type(int type, Function&& f) {
  // clang-format off
#define CASE(t) case t: f(std::integral_constant<int, t>{}); return true;
  switch (type) {
    CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q2_K) CASE(Q3_K)
    CASE(Q4_K) CASE(Q5_K) CASE(Q6_K) CASE(IQ4_NL) CASE(IQ4_XS)
    default: return false;
  }
// clang-format on
#undef CASE
}

}  // namespace
