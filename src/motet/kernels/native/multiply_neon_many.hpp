// The product of many rows of x with quantised weights on NEON: eight blocks are opened into memory
// for all rows of a tile, then four of them at a time meet half a strip, so that the sums and what
// they consist of have room in the registers. With I8MM one instruction multiplies eight columns of
// two rows of weights by those of two rows of x.
#pragma once
#include "multiply.hpp"

namespace {

// Call f with 0, 1, 2 and 3, each a constant: which part of a register an instruction takes is one.
template <class Function>
INLINE void each_of_four(const Function& f) {
  f(std::integral_constant<int, 0>{});
  f(std::integral_constant<int, 1>{});
  f(std::integral_constant<int, 2>{});
  f(std::integral_constant<int, 3>{});
}

template <class Function>
INLINE void each_of_eight(const Function& f) {
  each_of_four(f);
  each_of_four([&](auto i) { f(std::integral_constant<int, 4 + i()>{}); });
}

// sum + the products of w's four bytes in each lane with bytes 4k … 4k+3 of x.
template <int k>
INLINE int32x4_t dot_four(int32x4_t sum, int32x4_t w, int8x16_t x) {
#ifdef __ARM_FEATURE_DOTPROD
  return vdotq_laneq_s32(sum, vreinterpretq_s8_s32(w), x, k);
#else
  return i_dot<8>(sum, w, vdupq_laneq_s32(vreinterpretq_s32_s8(x), k));
#endif
}

// Where the sum of a group of columns starts.
template <class L>
INLINE int32_t start_of(Side::Value extra) {
  return L::Scales::MINIMUM || L::ZERO == 0 ? 0 : extra.init;
}

// Σ t·Σq of a super-block for ROWS of a tile's H rows: super_minimum for all of them.
template <class L, int H, int ROWS>
INLINE void minima(const uint8_t* unit, const Side::Value* side, i32x16 (&least)[ROWS]) {
  using Scales = typename L::Scales;
  for (int r = 0; r < ROWS; r++) least[r] = set_int(0);
#pragma GCC unroll 8
  for (int p = 0; p < Scales::PAIRS; p++) {
    const int8_t* t = (const int8_t*)unit + Scales::T + p * 2 * STRIP;
    const int8x16_t one = vld1q_s8(t), two = vld1q_s8(t + 16);
    const int8x16_t even = vuzp1q_s8(one, two), odd = vuzp2q_s8(one, two);
    const int16x8_t words[2][2] = {{vmovl_s8(vget_low_s8(even)), vmovl_high_s8(even)},
                                   {vmovl_s8(vget_low_s8(odd)), vmovl_high_s8(odd)}};
    int32_t sums[4] = {};
    memcpy(sums, side + p * H, ROWS * 4);
    const int16x8_t x = vreinterpretq_s16_s32(vld1q_s32(sums));
    each_of_four([&](auto r) {
      if constexpr (r() < ROWS)
        for (int i = 0; i < 2; i++) {
          int32x4_t* v = least[r()].v + 2 * i;
          v[0] = vmlal_laneq_s16(v[0], vget_low_s16(words[0][i]), x, 2 * r());
          v[0] = vmlal_laneq_s16(v[0], vget_low_s16(words[1][i]), x, 2 * r() + 1);
          v[1] = vmlal_high_laneq_s16(v[1], words[0][i], x, 2 * r());
          v[1] = vmlal_high_laneq_s16(v[1], words[1][i], x, 2 * r() + 1);
        }
    });
  }
}

// A whole number below 2^22 and this are the bits of a float, that number and 1.5 · 2^23: sums of a
// block start there, and one subtraction makes a float of them.
constexpr int32_t AS_FLOAT = 0x4b400000;
INLINE F from_bits(I sum) { return f_sub(f_bits(sum), f_set(0x1.8p23f)); }

// How the numbers of eight rows of weights, half a strip, and four rows of x lie in eight
// registers.
#if MOTET_PAIRS
// Register 4p + i: rows 2i and 2i+1 of the half, each with x's rows 2p and 2p+1.
struct Part {
  static constexpr int OF_X = 4;  // registers for the same rows of x

  // A block's quants: of each half eight columns of two rows in a register, columns one after the
  // other. The two nibbles of a byte are neighbours of the same.
  template <class Quants>
  static INLINE void open(const uint8_t* p, int32x4_t (*half)[16]) {
    if constexpr (Quants::STORED == 4) {
#pragma GCC unroll 2
      for (int k = 0; k < 2; k++) {
        i32x16 pair[2];
        zip(load_int(p + 128 * k), load_int(p + 128 * k + 64), pair);
        put(Quants::of_two(pair[0], 0), Quants::of_two(pair[1], 0), k, half);
        put(Quants::of_two(pair[0], 4), Quants::of_two(pair[1], 4), k + 2, half);
      }
    } else {
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        i32x16 pair[2];
        zip(Quants::vector(p, 2 * k), Quants::vector(p, 2 * k + 1), pair);
        put(pair[0], pair[1], k, half);
      }
    }
  }
  static INLINE void zip(i32x16 one, i32x16 two, i32x16 (&pair)[2]) {
    for (int v = 0; v < 4; v++) {
      pair[0].v[v] = vzip1q_s32(one.v[v], two.v[v]);
      pair[1].v[v] = vzip2q_s32(one.v[v], two.v[v]);
    }
  }
  static INLINE void put(i32x16 first, i32x16 second, int k, int32x4_t (*half)[16]) {
    for (int v = 0; v < 4; v++) {
      half[v / 2][4 * k + v % 2 * 2] = first.v[v];
      half[v / 2][4 * k + v % 2 * 2 + 1] = second.v[v];
    }
  }
  // Columns 16q … 16q+15; x as pair_rows leaves it.
  static INLINE void add(int32x4_t* sums, const int32x4_t* half, int q, const int8_t* x) {
#pragma GCC unroll 2
    for (int k = 2 * q; k < 2 * q + 2; k++) {
      const int8x16_t two[2] = {vld1q_s8(x + 16 * k), vld1q_s8(x + 16 * k + 2 * BLOCK)};
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        const int8x16_t w = vreinterpretq_s8_s32(half[4 * k + i]);
        for (int p = 0; p < 2; p++) sums[4 * p + i] = vmmlaq_s32(sums[4 * p + i], w, two[p]);
      }
    }
  }
  // Register i for a number of each of x's rows.
  template <int i>
  static INLINE int32x4_t of_x(int32x4_t each) {
    return vreinterpretq_s32_s64(vdupq_laneq_s64(vreinterpretq_s64_s32(each), i / OF_X));
  }
  // c + a · b and a · b, b of each of x's rows.
  template <int i>
  static INLINE F fma_x(F a, float32x4_t b, F c) {
    return f_fma(a, f_bits(of_x<i>(i_bits(b))), c);
  }
  template <int i>
  static INLINE F mul_x(F a, float32x4_t b) {
    return f_mul(a, f_bits(of_x<i>(i_bits(b))));
  }
  // Registers i % OF_X for a number of each row of a strip, of both halves.
  static INLINE void of_weights(const int32x4_t* lanes, int32x4_t (*half)[OF_X]) {
    for (int v = 0; v < 4; v++) {
      half[v / 2][v % 2 * 2] = vzip1q_s32(lanes[v], lanes[v]);
      half[v / 2][v % 2 * 2 + 1] = vzip2q_s32(lanes[v], lanes[v]);
    }
  }
  // Those of x's row r with the half's rows 4i … 4i+3.
  static INLINE float32x4_t row(const float32x4_t* part, int r, int i) {
    const float32x4_t* two = part + r / 2 * 4 + 2 * i;
    return r % 2 ? vuzp2q_f32(two[0], two[1]) : vuzp1q_f32(two[0], two[1]);
  }
  // Register i of numbers of both, given by row of x.
  static INLINE int32x4_t of_both(const i32x16* rows, int h, int i) {
    const int32x4_t one = rows[i / 4 * 2].v[2 * h + i % 4 / 2];
    const int32x4_t two = rows[i / 4 * 2 + 1].v[2 * h + i % 4 / 2];
    return i % 2 ? vzip2q_s32(one, two) : vzip1q_s32(one, two);
  }
};
#else
// Register 2r + i: rows 4i … 4i+3 of the half with x's row r.
struct Part {
  static constexpr int OF_X = 2;

  template <class Quants>
  static INLINE void open(const uint8_t* p, int32x4_t (*half)[16]) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      const i32x16 w = Quants::vector(p, j);
      for (int v = 0; v < 4; v++) half[v / 2][2 * j + v % 2] = w.v[v];
    }
  }
  static INLINE void add(int32x4_t* sums, const int32x4_t* half, int q, const int8_t* x) {
    int8x16_t row[4];
    for (int r = 0; r < 4; r++) row[r] = vld1q_s8(x + r * BLOCK + 16 * q);
    each_of_four([&](auto k) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        const int32x4_t w = half[8 * q + 2 * k() + i];
        for (int r = 0; r < 4; r++) sums[2 * r + i] = dot_four<k()>(sums[2 * r + i], w, row[r]);
      }
    });
  }
  template <int i>
  static INLINE int32x4_t of_x(int32x4_t each) {
    return vdupq_laneq_s32(each, i / OF_X);
  }
  template <int i>
  static INLINE F fma_x(F a, float32x4_t b, F c) {
    return vfmaq_laneq_f32(c, a, b, i / OF_X);
  }
  template <int i>
  static INLINE F mul_x(F a, float32x4_t b) {
    return vmulq_laneq_f32(a, b, i / OF_X);
  }
  static INLINE void of_weights(const int32x4_t* lanes, int32x4_t (*half)[OF_X]) {
    for (int v = 0; v < 4; v++) half[v / 2][v % 2] = lanes[v];
  }
  static INLINE float32x4_t row(const float32x4_t* part, int r, int i) { return part[2 * r + i]; }
  static INLINE int32x4_t of_both(const i32x16* rows, int h, int i) {
    return rows[i / 2].v[2 * h + i % 2];
  }
};
#endif
using Each = int32x4_t[2][Part::OF_X];  // a number of each row of a strip, as parts of both halves

INLINE void spread(f32x16 lanes, Each& to) { Part::of_weights(as_int(lanes).v, to); }

// Eight blocks of a strip, or fewer at its end, or a super-block, as parts meet them.
template <class L>
struct Opened {
  using Scales = typename L::Scales;
  static constexpr int BLOCKS = SUPER / BLOCK, UNITS = BLOCKS / Scales::BLOCKS;
  static constexpr int STEPS = UNITS == 1 ? 1 : Scales::GROUPS;  // float scales of a unit

  INLINE Opened(const uint8_t* strip, int blocks) {
    for (int b = 0; b < blocks; b++)
      Part::open<typename L::Quants>(strip + L::quants(b), quants[b]);
    for (int u = 0; u < blocks / Scales::BLOCKS; u++) {
      const uint8_t* unit = strip + u * L::UNIT_BYTES;
      for (int g = 0; g < STEPS; g++) spread(Scales::d(unit + g * STRIP), d[u * STEPS + g]);
      if constexpr (Scales::MINIMUM && UNITS == 1)
        spread(f32x16::set(0) - Scales::m(unit), m[u]);
      else if constexpr (Scales::MINIMUM)
        spread(Scales::m(unit), m[u]);
    }
    if constexpr (UNITS == 1)
      for (int p = 0; p < Scales::PAIRS; p++) {
        const i32x16 both = Scales::s_pair(strip, p);
        Part::of_weights(right_signed<16>(left<16>(both)).v, scales[2 * p]);
        Part::of_weights(right_signed<16>(both).v, scales[2 * p + 1]);
      }
  }

  int32x4_t quants[BLOCKS][2][16];
  Each d[UNITS * STEPS], m[Scales::MINIMUM ? UNITS : 1],
      scales[UNITS == 1 ? BLOCKS * Scales::GROUPS : 1];
};

// Where the sums of groups of columns start, for four of a tile's H rows, as a part has them. Both
// halves of a strip load them, each register for itself: to copy one takes a vector unit.
template <class L, int H>
struct Starts {
  static constexpr bool SAME = L::Scales::MINIMUM || L::ZERO == 0;
  static constexpr int MOST = SAME ? 1 : SUPER / BLOCK * L::Scales::GROUPS, X = 8 / Part::OF_X;

  // `more` is added to each.
  INLINE Starts(const Side::Value* side, int groups, int32_t more) {
    for (int g = 0; g < (SAME ? 1 : groups); g++) {
      int32x4_t start = vdupq_n_s32(more);
      if constexpr (!SAME) start = vaddq_s32(start, vld1q_s32(&side[g * H].init));
      each_of_four([&](auto x) {
        if constexpr (x() < X) of_x[g][x()] = Part::of_x<x() * Part::OF_X>(start);
      });
    }
  }
  INLINE void load(int g, int32x4_t (&sums)[8]) const {
    const int32x4_t* from = of_x[SAME ? 0 : g];
#pragma GCC unroll 4
    for (int i = 0; i < Part::OF_X; i++) {
      asm("" : "+r"(from));  // else it is loaded once and copied
#pragma GCC unroll 4
      for (int x = 0; x < X; x++) sums[x * Part::OF_X + i] = from[x];
    }
  }

  int32x4_t of_x[MOST][X];
};

// The sums of group g of block b's columns: half a strip with the four rows that x points at.
template <class L, int H>
INLINE void sum_group(const int32x4_t* half, int b, int g, const int8_t* x,
                      const Starts<L, H>& starts, int32x4_t (&sums)[8]) {
  constexpr int G = L::Scales::GROUPS;
  starts.load(b * G + g, sums);
#pragma GCC unroll 2
  for (int q = G == 1 ? 0 : g; q < (G == 1 ? 2 : g + 1); q++) Part::add(sums, half, q, x);
}

// Half h of some blocks, against the four rows that x, scale and side point at of a tile's H.
template <class L, int H>
INLINE void add_blocks(const Opened<L>& opened, int blocks, int h, const int8_t* x,
                       const float* scale, const Side::Value* side, const Starts<L, H>& starts,
                       float32x4_t (&acc)[8]) {
  constexpr int G = L::Scales::GROUPS;
  for (int b = 0; b < blocks; b++, x += H * BLOCK, scale += H, side += G * H) {
    int32x4_t sums[8];
    F first[8];  // what the first of two groups gives, but for the scale of x
    if constexpr (G == 2) {
      sum_group<L, H>(opened.quants[b][h], b, 0, x, starts, sums);
      for (int i = 0; i < 8; i++)
        first[i] = f_mul(f_bits(opened.d[2 * b][h][i % Part::OF_X]), from_bits(sums[i]));
    }
    sum_group<L, H>(opened.quants[b][h], b, G - 1, x, starts, sums);
    const float32x4_t steps = vld1q_f32(scale);
    each_of_eight([&](auto i) {
      constexpr int of_weights = i() % Part::OF_X;
      const F own = f_bits(opened.d[G * b + G - 1][h][of_weights]), sum = from_bits(sums[i()]);
      if constexpr (G == 2)
        acc[i()] = Part::fma_x<i()>(f_fma(own, sum, first[i()]), steps, acc[i()]);
      else
        acc[i()] = f_fma(Part::mul_x<i()>(own, steps), sum, acc[i()]);
      if constexpr (L::Scales::MINIMUM)
        acc[i()] = Part::fma_x<i()>(f_bits(opened.m[b][h][of_weights]), vld1q_f32(&side->scaled),
                                    acc[i()]);
    });
  }
}

// Half h of a super-block, likewise; least: see minima.
template <class L, int H>
INLINE void add_super_part(const Opened<L>& opened, int h, const int8_t* x, const float* scale,
                           const Starts<L, H>& starts, const i32x16* least, float32x4_t (&acc)[8]) {
  constexpr int G = L::Scales::GROUPS;
  int32x4_t total[8];
  for (int i = 0; i < 8; i++) total[i] = vdupq_n_s32(0);
  for (int b = 0; b < L::Scales::BLOCKS; b++)
#pragma GCC unroll 2
    for (int g = 0; g < G; g++) {
      int32x4_t sums[8];
      sum_group<L, H>(opened.quants[b][h], b, g, x + b * H * BLOCK, starts, sums);
      for (int i = 0; i < 8; i++)
        total[i] = vmlaq_s32(total[i], sums[i], opened.scales[b * G + g][h][i % Part::OF_X]);
    }
  const float32x4_t steps = vld1q_f32(scale);
  each_of_eight([&](auto i) {
    constexpr int of_weights = i() % Part::OF_X;
    F value = f_mul(f_bits(opened.d[0][h][of_weights]), f_from(total[i()]));
    if constexpr (L::Scales::MINIMUM)
      value =
          f_fma(f_bits(opened.m[0][h][of_weights]), f_from(Part::of_both(least, h, i())), value);
    acc[i()] = Part::fma_x<i()>(value, steps, acc[i()]);
  });
}

// The H rows of a tile against a strip; see multiply.
template <class L, int H>
INLINE void multiply_parts(const uint8_t* strip, int64_t blocks, const int8_t* a,
                           const float* scale, const Side::Value* side, Fetch ahead,
                           f32x16 (&out)[H]) {
  constexpr int AT_ONCE = Opened<L>::BLOCKS, UNITS = Opened<L>::UNITS;
  constexpr int64_t BYTES = UNITS * L::UNIT_BYTES;
  float32x4_t acc[H / 4][2][8];
  for (auto& part : acc)
    for (auto& half : part)
      for (auto& v : half) v = vdupq_n_f32(0);
  for (int64_t start = 0; start < blocks; start += AT_ONCE) {
    prefetch(strip, BYTES, ahead);
    const int some = (int)std::min<int64_t>(AT_ONCE, blocks - start);
    const Opened<L> opened(strip, some);
#pragma GCC unroll 1
    for (int r = 0; r < H; r += 4) {
      [[maybe_unused]] i32x16 least[4];
      if constexpr (UNITS == 1 && L::Scales::MINIMUM) minima<L, H, 4>(strip, side + r, least);
      const Starts<L, H> starts(side + r, some * L::Scales::GROUPS, UNITS == 1 ? 0 : AS_FLOAT);
#pragma GCC unroll 1
      for (int h = 0; h < 2; h++) {
        float32x4_t now[8];
        for (int i = 0; i < 8; i++) now[i] = acc[r / 4][h][i];
        if constexpr (UNITS == 1)
          add_super_part<L, H>(opened, h, a + r * BLOCK, scale + r, starts, least, now);
        else
          add_blocks<L, H>(opened, some, h, a + r * BLOCK, scale + r, side + r, starts, now);
        for (int i = 0; i < 8; i++) acc[r / 4][h][i] = now[i];
      }
    }
    strip += BYTES;
    a += AT_ONCE * H * BLOCK;
    scale += UNITS * H;
    side += UNITS * Side::items<L>() * H;
  }
  for (int r = 0; r < H; r++)
    for (int v = 0; v < 4; v++) out[r].v[v] = Part::row(acc[r / 4][v / 2], r % 4, v % 2);
}

}  // namespace
