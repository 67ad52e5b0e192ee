// Sixteen lanes of float or int32, whatever the instruction set: one register of AVX-512, two of
// AVX2, four of SSE2 and NEON. Every kernel is written on these, so that lane k means the same
// everywhere and a sum has the same order on every machine. AVX2, AVX-512 and NEON agree bit for
// bit; SSE2 has no fused multiply-add and rounds twice.
#pragma once
#include "four.hpp"
#include "processor.hpp"
#if defined(__AMX_INT8__) || MOTET_EMULATE_TILES
#define MOTET_TILES 1
#endif
#if defined(__AVX512VNNI__)
#define MOTET_AVX512 1
#include "simd_avx512.hpp"
#elif defined(__AVX2__)
#define MOTET_AVX2 1
#include "simd_avx2.hpp"
#elif defined(__aarch64__)
#define MOTET_NEON 1
#ifdef __ARM_FEATURE_MATMUL_INT8
#define MOTET_PAIRS 1  // products of two rows with two
#else
#define MOTET_PAIRS 0
#endif
#include "simd_neon.hpp"
#else
#include "simd_sse2.hpp"
#endif

#define INLINE inline __attribute__((always_inline))
// For inner kernels: they stand alone, so that what calls them costs them no registers.
#define NOINLINE __attribute__((noinline))
#define EACH _Pragma("GCC unroll 4") for (int r = 0; r < REGISTERS; r++)

// Everything is internal to the module of one instruction set: no symbol may be shared with
// another's by the linker.
namespace {

constexpr int LANES = 16;
constexpr int WIDTH = LANES / REGISTERS;

struct i32x16 {
  I v[REGISTERS];
};
struct f32x16 {
  F v[REGISTERS];
  static f32x16 load(const float* p) {
    f32x16 o;
    EACH
    o.v[r] = f_load(p + r * WIDTH);
    return o;
  }
  static f32x16 half(const uint16_t* p) {
    f32x16 o;
    EACH
    o.v[r] = f_half(p + r * WIDTH);
    return o;
  }
  static f32x16 bf16(const uint16_t* p) {
    f32x16 o;
    EACH
    o.v[r] = f_bf16(p + r * WIDTH);
    return o;
  }
  static f32x16 u8(const uint8_t* p) {
    f32x16 o;
    EACH
    o.v[r] = f_u8(p + r * WIDTH);
    return o;
  }
  static f32x16 i8(const int8_t* p) {
    f32x16 o;
    EACH
    o.v[r] = f_i8(p + r * WIDTH);
    return o;
  }
  static f32x16 set(float a) {
    f32x16 o;
    EACH
    o.v[r] = f_set(a);
    return o;
  }
  void store(float* p) const {
    EACH
    f_store(p + r * WIDTH, v[r]);
  }
  // Past the caches where the machine can; p is a multiple of 64.
  void stream(float* p) const {
    EACH
    f_stream(p + r * WIDTH, v[r]);
  }
  void store_half(uint16_t* p) const {
    EACH
    f_to_half(p + r * WIDTH, v[r]);
  }
};

#define LANEWISE(name, op)                 \
  inline f32x16 name(f32x16 a, f32x16 b) { \
    f32x16 o;                              \
    EACH                                   \
    o.v[r] = op(a.v[r], b.v[r]);           \
    return o;                              \
  }
LANEWISE(operator+, f_add)
LANEWISE(operator-, f_sub)
LANEWISE(operator*, f_mul)
LANEWISE(operator/, f_div)
LANEWISE(maximum, f_max)
LANEWISE(minimum, f_min)
LANEWISE(bit_and, f_and)
LANEWISE(bit_or, f_or)
#undef LANEWISE

// a * b + c, rounded once where the machine can.
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  f32x16 o;
  EACH
  o.v[r] = f_fma(a.v[r], b.v[r], c.v[r]);
  return o;
}

inline i32x16 load_int(const void* p) {
  i32x16 o;
  EACH
  o.v[r] = i_load((const char*)p + r * WIDTH * 4);
  return o;
}
inline i32x16 set_int(int32_t a) {
  i32x16 o;
  EACH
  o.v[r] = i_set(a);
  return o;
}
inline void store_int(void* p, i32x16 a) {
  EACH
  i_store((char*)p + r * WIDTH * 4, a.v[r]);
}
inline i32x16 operator+(i32x16 a, i32x16 b) {
  EACH
  a.v[r] = i_add(a.v[r], b.v[r]);
  return a;
}
// The products' low halves.
inline i32x16 operator*(i32x16 a, i32x16 b) {
  EACH
  a.v[r] = i_mul(a.v[r], b.v[r]);
  return a;
}
inline i32x16 maximum(i32x16 a, i32x16 b) {
  EACH
  a.v[r] = i_max(a.v[r], b.v[r]);
  return a;
}
inline i32x16 operator&(i32x16 a, i32x16 b) {
  EACH
  a.v[r] = i_and(a.v[r], b.v[r]);
  return a;
}
inline i32x16 operator|(i32x16 a, i32x16 b) {
  EACH
  a.v[r] = i_or(a.v[r], b.v[r]);
  return a;
}
inline i32x16 operator^(i32x16 a, i32x16 b) {
  EACH
  a.v[r] = i_xor(a.v[r], b.v[r]);
  return a;
}
template <int n>
inline i32x16 left(i32x16 a) {
  EACH
  a.v[r] = i_left<n>(a.v[r]);
  return a;
}
template <int n>
inline i32x16 right(i32x16 a) {
  EACH
  a.v[r] = i_right<n>(a.v[r]);
  return a;
}
template <int n>
inline i32x16 right_signed(i32x16 a) {
  EACH
  a.v[r] = i_right_signed<n>(a.v[r]);
  return a;
}
// Unsigned bytes, one in each lane.
inline i32x16 bytes(const uint8_t* p) {
  i32x16 o;
  EACH
  o.v[r] = i_bytes(p + r * WIDTH);
  return o;
}
// A byte for each of 64 bits: all its bits are that one.
inline i32x16 bytes_of_bits(const uint8_t* p) {
  i32x16 o;
  EACH
  o.v[r] = i_bytes_of_bits(p + r * WIDTH / 2);
  return o;
}
// Each byte (below 16) as the one at its place in a table of 16.
inline i32x16 look_up(const uint8_t* table, i32x16 a) {
  EACH
  a.v[r] = i_look_up(table, a.v[r]);
  return a;
}
// Signed bytes as words, two in each lane.
inline i32x16 words(const uint8_t* p) {
  i32x16 o;
  EACH
  o.v[r] = i_words(p + r * WIDTH * 2);
  return o;
}
inline f32x16 to_float(i32x16 a) {
  f32x16 o;
  EACH
  o.v[r] = f_from(a.v[r]);
  return o;
}
inline i32x16 round_to_int(f32x16 a) {
  i32x16 o;
  EACH
  o.v[r] = i_round(a.v[r]);
  return o;
}
// Towards zero; what is no int32 gives the least one.
inline i32x16 truncate_to_int(f32x16 a) {
  i32x16 o;
  EACH
  o.v[r] = i_truncate(a.v[r]);
  return o;
}
// To the nearest whole number, of two the even one; |a| below 2^31.
inline f32x16 nearest(f32x16 a) {
  EACH
  a.v[r] = f_round(a.v[r]);
  return a;
}
// a where x < limit, else b.
inline f32x16 choose_below(f32x16 x, f32x16 limit, f32x16 a, f32x16 b) {
  EACH
  a.v[r] = f_choose_below(x.v[r], limit.v[r], a.v[r], b.v[r]);
  return a;
}
inline f32x16 as_float(i32x16 a) {
  f32x16 o;
  EACH
  o.v[r] = f_bits(a.v[r]);
  return o;
}
inline f32x16 magnitude(f32x16 a) { return bit_and(a, as_float(set_int(0x7fffffff))); }
inline i32x16 as_int(f32x16 a) {
  i32x16 o;
  EACH
  o.v[r] = i_bits(a.v[r]);
  return o;
}
inline i32x16 dot_words(i32x16 acc, i32x16 w, int32_t two) {
  EACH
  acc.v[r] = i_dot_words(acc.v[r], w.v[r], i_set(two));
  return acc;
}

// Sums of lanes are always taken in the same tree: lanes 8 apart first, then 4, 2 and 1. Here the
// first two steps.
inline float4 sum_of_quarters(f32x16 a) {
#if MOTET_AVX512
  const __m256 high = _mm512_extractf32x8_ps(a.v[0], 1);
  const __m256 pairs = _mm256_add_ps(_mm512_castps512_ps256(a.v[0]), high);
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
#elif MOTET_AVX2
  const __m256 pairs = _mm256_add_ps(a.v[0], a.v[1]);
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
#else
  return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
#endif
}
inline float sum(f32x16 a) {
  const float4 quarter = sum_of_quarters(a);
  return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}
// The sums of four vectors at once.
inline void sum_each(const f32x16 (&a)[4], float (&out)[4]) {
  float4 q[4], pairs[2];
  for (int i = 0; i < 4; i++) q[i] = sum_of_quarters(a[i]);
  for (int i = 0; i < 2; i++)
    pairs[i] =
        SHUFFLE(q[2 * i], q[2 * i + 1], 0, 1, 4, 5) + SHUFFLE(q[2 * i], q[2 * i + 1], 2, 3, 6, 7);
  store4(out, SHUFFLE(pairs[0], pairs[1], 0, 2, 4, 6) + SHUFFLE(pairs[0], pairs[1], 1, 3, 5, 7));
}
// The largest lane; no lane may be NaN.
inline float largest(f32x16 a) {
#if MOTET_AVX512
  return _mm512_reduce_max_ps(a.v[0]);
#else
  float x[LANES];
  a.store(x);
  for (int step = LANES / 2; step; step /= 2)
    for (int i = 0; i < step; i++) x[i] = x[i] < x[i + step] ? x[i + step] : x[i];
  return x[0];
#endif
}
// The largest magnitude of N vectors; NaN if there is one, since its bits are above all others'.
template <int N>
inline float largest_magnitude(const f32x16 (&a)[N]) {
  const i32x16 bits = set_int(0x7fffffff);
  i32x16 all = as_int(a[0]) & bits;
  for (int i = 1; i < N; i++) all = maximum(all, as_int(a[i]) & bits);
  int32_t most = 0;
#if MOTET_AVX512
  most = _mm512_reduce_max_epi32(all.v[0]);
#else
  int32_t x[LANES];
  store_int(x, all);
  for (int i = 0; i < LANES; i++) most = x[i] > most ? x[i] : most;
#endif
  float out;
  memcpy(&out, &most, 4);
  return out;
}
// Lanes that fit a signed byte, as bytes; returns their sum. Of what does not fit, whatever.
inline int32_t store_bytes(int8_t* p, i32x16 a) {
#if MOTET_AVX512
  const __m128i bytes = _mm512_cvtepi32_epi8(a.v[0]);
  _mm_storeu_si128((__m128i*)p, bytes);
  const __m128i above = _mm_xor_si128(bytes, _mm_set1_epi8(-128));
  const __m128i halves = _mm_sad_epu8(above, _mm_setzero_si128());
  return _mm_cvtsi128_si32(halves) + _mm_extract_epi32(halves, 2) - 16 * 128;
#else
  int32_t x[LANES], total = 0;
  store_int(x, a);
  for (int i = 0; i < LANES; i++) {
    p[i] = (int8_t)x[i];
    total += p[i];
  }
  return total;
#endif
}

// The first n (< 16) values, zeros after them: a tail takes the same path as a full vector.
inline f32x16 load_part(const float* p, int n) {
  float x[LANES] = {};
  memcpy(x, p, n * sizeof(float));
  return f32x16::load(x);
}
inline void store_part(float* p, int n, f32x16 a) {
  float x[LANES];
  a.store(x);
  memcpy(p, x, n * sizeof(float));
}

// e^x as 2^n · e^f, f in [-ln2/2, ln2/2], by a polynomial of degree 6 (relative error < 2e-7).
// 0 below -87.33 (so for -inf), e^88.72 above that; NaN stays NaN.
inline f32x16 exp(f32x16 x) {
  const f32x16 low = f32x16::set(-87.33654f), high = f32x16::set(88.72283f);
  const f32x16 clamped = minimum(high, maximum(low, x));
  f32x16 nf = clamped * f32x16::set(1.44269504f);
  EACH
  nf.v[r] = f_round(nf.v[r]);
  f32x16 f = fma(nf, f32x16::set(-0.693359375f), clamped);
  f = fma(nf, f32x16::set(2.12194440e-4f), f);
  f32x16 p = f32x16::set(1.3888889e-3f);
  p = fma(p, f, f32x16::set(8.3333333e-3f));
  p = fma(p, f, f32x16::set(4.1666667e-2f));
  p = fma(p, f, f32x16::set(1.6666667e-1f));
  p = fma(p, f, f32x16::set(0.5f));
  p = fma(p, f, f32x16::set(1.0f));
  p = fma(p, f, f32x16::set(1.0f));
  EACH
  p.v[r] = f_zero_below(x.v[r], low.v[r], f_scale(p.v[r], nf.v[r]));
  return p;
}

// tanh x = 1 - 2 / (e^2x + 1), and its odd series near 0, where that difference would cancel.
inline f32x16 tanh(f32x16 x) {
  const f32x16 one = f32x16::set(1.0f), square = x * x;
  const f32x16 far = one - f32x16::set(2.0f) / (exp(x + x) + one);
  f32x16 p = f32x16::set(-8.8632355e-3f);
  p = fma(p, square, f32x16::set(2.1869489e-2f));
  p = fma(p, square, f32x16::set(-5.3968254e-2f));
  p = fma(p, square, f32x16::set(1.3333333e-1f));
  p = fma(p, square, f32x16::set(-3.3333333e-1f));
  const f32x16 near = fma(p * square, x, x);
  f32x16 o;
  EACH
  o.v[r] = f_choose_below(square.v[r], f_set(0.09f), near.v[r], far.v[r]);
  return o;
}

}  // namespace
