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
//           vector). 8 bits: 8 × 64 bytes. Nibbles may also stand for 16 quants of a table.
#pragma once
#include <array>
#include <type_traits>

#include "simd.hpp"

namespace {

constexpr int STRIP = 16;   // rows
constexpr int BLOCK = 32;   // columns that share an activation scale
constexpr int SUPER = 256;  // columns of a K-quant super-block

// What is added to signed bytes, so that they are quants: x86 multiplies unsigned ones, ARM signed.
#if MOTET_NEON
constexpr int OF_BYTES = 0;
#else
constexpr int OF_BYTES = 128;
#endif

// A compiler may not move a load across this. Zen 4's prefetchers follow a stream whose lines are
// touched in ascending order, and lose a fifth where each block begins with its last line.
inline void touch_in_order() { asm volatile("" ::: "memory"); }

// The higher four bits of each byte.
INLINE i32x16 high_nibbles(i32x16 a) {
#if MOTET_NEON
  EACH
  a.v[r] = i_high_nibbles(a.v[r]);
  return a;
#else
  return right<4>(a) & set_int(0x0f0f0f0f);
#endif
}
// a with the bits of a mask, which it does not have, from b.
INLINE i32x16 with_bits(i32x16 a, i32x16 b, i32x16 mask) {
#if MOTET_NEON
  EACH
  a.v[r] = i_choose_bits(mask.v[r], b.v[r], a.v[r]);
  return a;
#else
  return a | (b & mask);
#endif
}

// w, the lowest four bits of vector j of a block, with what 5 and 6 bits have above them.
template <int bits>
INLINE i32x16 with_high_bits(i32x16 w, const uint8_t* p, int j) {
  if constexpr (bits == 5) {
    const i32x16 h = load_int(p + 256), bit = set_int(0x10101010);
    switch (j) {
      case 0: return with_bits(w, left<4>(h), bit);
      case 1: return with_bits(w, left<3>(h), bit);
      case 2: return with_bits(w, left<2>(h), bit);
      case 3: return with_bits(w, left<1>(h), bit);
      case 4: return with_bits(w, h, bit);
      case 5: return with_bits(w, right<1>(h), bit);
      case 6: return with_bits(w, right<2>(h), bit);
      default: return with_bits(w, right<3>(h), bit);
    }
  } else {
    const i32x16 h = load_int(p + 256 + 64 * (j / 4)), pair = set_int(0x30303030);
    switch (j % 4) {
      case 0: return with_bits(w, left<4>(h), pair);
      case 1: return with_bits(w, left<2>(h), pair);
      case 2: return with_bits(w, h, pair);
      default: return with_bits(w, right<2>(h), pair);
    }
  }
}

// Of the 64 bytes that hold vectors j % 4 and j % 4 + 4, the nibbles of vector j.
INLINE i32x16 nibbles_of(i32x16 both, int j) {
  return j < 4 ? both & set_int(0x0f0f0f0f) : high_nibbles(both);
}

// Vector j of the 8 of a block: unsigned bytes, columns 4j…4j+3 of 16 rows.
template <int bits>
INLINE i32x16 open_vector(const uint8_t* p, int j) {
  if constexpr (bits == 8) return load_int(p + 64 * j);
  const i32x16 w = nibbles_of(load_int(p + 64 * (j % 4)), j);
  if constexpr (bits > 4 && bits < 8) return with_high_bits<bits>(w, p, j);
  return w;
}

// Quants: BYTES of a block, and how they open, which DOT bits of a product's multiplication are
// for.

// As they are.
template <int bits>
struct Bits {
  static constexpr int STORED = bits > 6 ? 8 : bits, DOT = bits, BYTES = STORED * STRIP * BLOCK / 8;
  static INLINE i32x16 vector(const uint8_t* p, int j) { return open_vector<STORED>(p, j); }
  // Vector j, out of the bytes of two.
  static INLINE i32x16 of_two(i32x16 both, int j) { return nibbles_of(both, j); }
  // All of them.
  static INLINE void open(const uint8_t* p, i32x16 (&w)[8]) {
    constexpr int low = STORED == 8 ? 8 : 4;
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) w[j] = open_vector<low>(p, j);
    if constexpr (bits == 5 || bits == 6) {
      touch_in_order();
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++) w[j] = with_high_bits<bits>(w[j], p, j);
    }
  }
};

// Nibbles that say which of 16 values, `zero` added to it.
template <const int8_t (&values)[16], int zero, int bits>
struct Listed {
  static constexpr int STORED = 4, DOT = bits, BYTES = 4 * STRIP * BLOCK / 8;
  static constexpr auto TABLE = [] {
    std::array<uint8_t, 16> out{};
    for (int i = 0; i < 16; i++) out[i] = (uint8_t)(values[i] + zero);
    return out;
  }();
  static INLINE i32x16 vector(const uint8_t* p, int j) {
    return of_two(load_int(p + 64 * (j % 4)), j);
  }
  static INLINE i32x16 of_two(i32x16 both, int j) {
    return look_up(TABLE.data(), nibbles_of(both, j));
  }
  static INLINE void open(const uint8_t* p, i32x16 (&w)[8]) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) w[j] = vector(p, j);
  }
};
inline constexpr int8_t IQ4_VALUES[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Twice the floats of four bits (E2M1).
inline constexpr int8_t FP4_VALUES[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Scale layouts. A unit has BLOCKS blocks, and GROUPS scales in each of them; SIZE is the bytes of
// all its scales, D_BYTES those of a row's d.

// float16 d. Q4_0, Q5_0, Q8_0, IQ4_NL.
struct Plain {
  static constexpr int BLOCKS = 1, GROUPS = 1, D_BYTES = 2, SIZE = 32;
  static constexpr bool MINIMUM = false;
  static f32x16 d(const uint8_t* p) { return f32x16::half((const uint16_t*)p); }
};

// A power of two, 2^(e − 128) of a byte e: half of what the file says, whose quants are doubled.
// The least two are subnormal. MXFP4.
struct Power {
  static constexpr int BLOCKS = 1, GROUPS = 1, D_BYTES = 1, SIZE = 16;
  static constexpr bool MINIMUM = false;
  static f32x16 d(const uint8_t* p) {
    const i32x16 e = bytes(p);
    return as_float(maximum(left<23>(e + set_int(-1)), left<21>(e + set_int(1))));
  }
};

// Two groups of 16 columns, each with an eight-bit float (E4M3 without a sign): half of what the
// file says, whose quants are doubled. NVFP4.
struct Fp8 {
  static constexpr int BLOCKS = 1, GROUPS = 2, D_BYTES = 0, S = 0, SIZE = 32;
  static constexpr bool MINIMUM = false;
  static constexpr int place(int group, int row) { return group * STRIP + row; }
  // Of the group whose bytes are at p: their fields where a float32 has them. A field 0 of the
  // exponent is one without a leading 1, so there what it stands for is a field 1 less that 1,
  // everywhere else the greater of both.
  static f32x16 d(const uint8_t* p) {
    const i32x16 bits = left<20>(bytes(p));
    const f32x16 twice = as_float(bits + set_int(120 << 23));
    return minimum(as_float(bits + set_int(119 << 23)), twice - f32x16::set(0x1p-7f));
  }
};

// float16 d and m. Q4_1, Q5_1. The file's m is added, so it is stored negated.
struct WithMinimum {
  static constexpr int BLOCKS = 1, GROUPS = 1, D_BYTES = 2, SIZE = 64;
  static constexpr bool MINIMUM = true;
  static f32x16 d(const uint8_t* p) { return f32x16::half((const uint16_t*)p); }
  static f32x16 m(const uint8_t* p) { return f32x16::half((const uint16_t*)(p + 32)); }
};

// D (float16) for a super-block, then a signed byte s for each group, those of two groups side by
// side: d = D·s. Q6_K and Q3_K (groups of 16), IQ4_XS (groups of 32). With a minimum: float16 D and
// M, then t, then s: d = D·s, m = M·t. Q4_K, Q5_K (groups of 32), Q2_K (groups of 16).
template <int groups, bool minimum, class D = uint16_t>
struct Super {
  static constexpr int BLOCKS = SUPER / BLOCK, GROUPS = groups, D_BYTES = 2;
  static constexpr bool MINIMUM = minimum;
  static constexpr int PAIRS = BLOCKS * GROUPS / 2;
  static constexpr int T = 64, S = minimum ? T + 2 * PAIRS * STRIP : STRIP * sizeof(D);
  static constexpr int SIZE = S + 2 * PAIRS * STRIP;
  static f32x16 d(const uint8_t* p) {
    if constexpr (sizeof(D) == 2)
      return f32x16::half((const uint16_t*)p);
    else
      return f32x16::load((const float*)p);
  }
  static f32x16 m(const uint8_t* p) { return f32x16::half((const uint16_t*)(p + 32)); }
  // Of two groups, as words.
  static i32x16 s_pair(const uint8_t* p, int pair) { return words(p + S + pair * 2 * STRIP); }
  static i32x16 t_pair(const uint8_t* p, int pair) { return words(p + T + pair * 2 * STRIP); }
  // Where that of a row is, from S or T on.
  static constexpr int place(int group, int row) {
    return (group / 2 * STRIP + row) * 2 + group % 2;
  }
};

template <class Quant, class Scale, int zero>
struct Layout {
  static constexpr int ZERO = zero;  // subtracted from q where there is no stored minimum
  static constexpr int BLOCK_BYTES = Quant::BYTES;
  static constexpr int UNIT_BYTES = Scale::SIZE + Scale::BLOCKS * BLOCK_BYTES;
  using Quants = Quant;
  using Scales = Scale;
  using Base = Layout;    // kernels are made once a layout, not once a type
  using Opened = Layout;  // what kernels read: see codes.hpp
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
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  IQ1_M = 29,
  BF16 = 30,
  TQ1_0 = 34,
  TQ2_0 = 35,
  MXFP4 = 39,
  NVFP4 = 40,
};

template <int type>
struct LayoutOf;
#define LAYOUT(type, ...) \
  template <>             \
  struct LayoutOf<type> : Layout<__VA_ARGS__> {};
LAYOUT(Q4_0, Bits<4>, Plain, 8)
LAYOUT(Q4_1, Bits<4>, WithMinimum, 0)
LAYOUT(Q5_0, Bits<5>, Plain, 16)
LAYOUT(Q5_1, Bits<5>, WithMinimum, 0)
LAYOUT(Q8_0, Bits<8>, Plain, OF_BYTES)
LAYOUT(Q2_K, Bits<4>, Super<2, true>, 0)
LAYOUT(Q3_K, Bits<4>, Super<2, false>, 4)
LAYOUT(Q4_K, Bits<4>, Super<1, true>, 0)
LAYOUT(Q5_K, Bits<5>, Super<1, true>, 0)
LAYOUT(Q6_K, Bits<6>, Super<2, false>, 32)
LAYOUT(IQ4_NL, Listed<IQ4_VALUES, OF_BYTES, 8>, Plain, OF_BYTES)
LAYOUT(IQ4_XS, Listed<IQ4_VALUES, OF_BYTES, 8>, Super<1, false>, OF_BYTES)
LAYOUT(MXFP4, Listed<FP4_VALUES, 12, 5>, Power, 12)
LAYOUT(NVFP4, Listed<FP4_VALUES, 12, 5>, Fp8, 12)
#undef LAYOUT

// Call f with a quantised type as a constant; false if it has no layout.
template <class Function>
inline bool with_type(int type, Function&& f) {
  // clang-format off
#define CASE(t) case t: f(std::integral_constant<int, t>{}); return true;
  switch (type) {
    CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q2_K) CASE(Q3_K)
    CASE(Q4_K) CASE(Q5_K) CASE(Q6_K) CASE(IQ4_NL) CASE(IQ4_XS) CASE(MXFP4) CASE(NVFP4)
    CASE(IQ2_XXS) CASE(IQ2_XS) CASE(IQ2_S) CASE(IQ3_XXS) CASE(IQ3_S) CASE(IQ1_S) CASE(IQ1_M)
    CASE(TQ1_0) CASE(TQ2_0)
    default: return false;
  }
// clang-format on
#undef CASE
}

}  // namespace
