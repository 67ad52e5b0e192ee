// Sixteen lanes of float or int32, whatever the instruction set: one register of AVX-512, two of
// AVX2, four of SSE2. Every kernel is written on these, so that lane k means the same everywhere
// and a sum has the same order on every machine. AVX2 and AVX-512 agree bit for bit; SSE2 has no
// fused multiply-add and rounds twice.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define MOTET_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define MOTET_AVX2 1
#endif

#define EACH _Pragma("GCC unroll 4") for (int r = 0; r < REGISTERS; r++)

// Everything is internal to the module of one instruction set: no symbol may be shared with
// another's by the linker.
namespace {

#if MOTET_AVX512
constexpr int REGISTERS = 1;
using F = __m512;
using I = __m512i;
inline F f_load(const float* p) { return _mm512_loadu_ps(p); }
inline void f_store(float* p, F a) { _mm512_storeu_ps(p, a); }
inline F f_set(float a) { return _mm512_set1_ps(a); }
inline F f_add(F a, F b) { return _mm512_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm512_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F f_max(F a, F b) { return _mm512_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm512_min_ps(a, b); }
inline F f_zero_below(F x, F low, F a) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), a); }
// a where x < limit, else b.
inline F f_choose_below(F x, F limit, F a, F b) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), b, a);
}
inline F f_and(F a, F b) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
inline F f_or(F a, F b) {
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
inline F f_from(I a) { return _mm512_cvtepi32_ps(a); }
inline I i_round(F a) { return _mm512_cvtps_epi32(a); }
inline I i_load(const void* p) { return _mm512_loadu_si512(p); }
inline void i_store(void* p, I a) { _mm512_storeu_si512(p, a); }
inline I i_set(int32_t a) { return _mm512_set1_epi32(a); }
inline I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I i_and(I a, I b) { return _mm512_and_si512(a, b); }
inline I i_or(I a, I b) { return _mm512_or_si512(a, b); }
template <int n> inline I i_left(I a) { return _mm512_slli_epi32(a, n); }
template <int n> inline I i_right(I a) { return _mm512_srli_epi32(a, n); }
inline F f_bits(I a) { return _mm512_castsi512_ps(a); }
inline I i_bits(F a) { return _mm512_castps_si512(a); }
inline F f_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline void f_to_half(uint16_t* p, F a) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline F f_bf16(const uint16_t* p) {
  return f_bits(i_left<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p))));
}
inline F f_u8(const uint8_t* p) {
  return f_from(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
inline F f_i8(const int8_t* p) {
  return f_from(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
// acc + the four products of unsigned bytes w and signed bytes a in each lane.
template <int bits> inline I i_dot(I acc, I w, I a) {
#if defined(__AVX512VNNI__)
  return _mm512_dpbusd_epi32(acc, w, a);
#else
#error "the AVX-512 variant needs VNNI"
#endif
}
#elif MOTET_AVX2
constexpr int REGISTERS = 2;
using F = __m256;
using I = __m256i;
inline F f_load(const float* p) { return _mm256_loadu_ps(p); }
inline void f_store(float* p, F a) { _mm256_storeu_ps(p, a); }
inline F f_set(float a) { return _mm256_set1_ps(a); }
inline F f_add(F a, F b) { return _mm256_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm256_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm256_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F f_max(F a, F b) { return _mm256_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm256_min_ps(a, b); }
inline F f_zero_below(F x, F low, F a) { return _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_NLT_UQ), a); }
// a where x < limit, else b.
inline F f_choose_below(F x, F limit, F a, F b) {
  return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, limit, _CMP_LT_OQ));
}
inline F f_and(F a, F b) { return _mm256_and_ps(a, b); }
inline F f_or(F a, F b) { return _mm256_or_ps(a, b); }
inline F f_from(I a) { return _mm256_cvtepi32_ps(a); }
inline I i_round(F a) { return _mm256_cvtps_epi32(a); }
inline I i_load(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline void i_store(void* p, I a) { _mm256_storeu_si256((__m256i*)p, a); }
inline I i_set(int32_t a) { return _mm256_set1_epi32(a); }
inline I i_add(I a, I b) { return _mm256_add_epi32(a, b); }
inline I i_and(I a, I b) { return _mm256_and_si256(a, b); }
inline I i_or(I a, I b) { return _mm256_or_si256(a, b); }
template <int n> inline I i_left(I a) { return _mm256_slli_epi32(a, n); }
template <int n> inline I i_right(I a) { return _mm256_srli_epi32(a, n); }
inline F f_bits(I a) { return _mm256_castsi256_ps(a); }
inline I i_bits(F a) { return _mm256_castps_si256(a); }
inline F f_half(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline void f_to_half(uint16_t* p, F a) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline F f_bf16(const uint16_t* p) {
  return f_bits(i_left<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p))));
}
inline F f_u8(const uint8_t* p) {
  return f_from(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
inline F f_i8(const int8_t* p) {
  return f_from(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
// vpmaddubsw saturates at 16 bits, which 8-bit weights could reach: those go nibble by nibble.
template <int bits> inline I i_dot(I acc, I w, I a) {
  const I ones = _mm256_set1_epi16(1);
  if constexpr (bits < 8) {
    return i_add(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), ones));
  } else {
    const I low = i_and(w, _mm256_set1_epi8(15));
    const I high = i_and(_mm256_srli_epi16(w, 4), _mm256_set1_epi8(15));
    const I sum_high = _mm256_madd_epi16(_mm256_maddubs_epi16(high, a), ones);
    acc = i_add(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(low, a), ones));
    return i_add(acc, i_left<4>(sum_high));
  }
}
#else
constexpr int REGISTERS = 4;
using F = __m128;
using I = __m128i;
inline F f_load(const float* p) { return _mm_loadu_ps(p); }
inline void f_store(float* p, F a) { _mm_storeu_ps(p, a); }
inline F f_set(float a) { return _mm_set1_ps(a); }
inline F f_add(F a, F b) { return _mm_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
inline F f_max(F a, F b) { return _mm_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm_min_ps(a, b); }
inline F f_zero_below(F x, F low, F a) { return _mm_and_ps(_mm_cmpnlt_ps(x, low), a); }
// a where x < limit, else b.
inline F f_choose_below(F x, F limit, F a, F b) {
  const F m = _mm_cmplt_ps(x, limit);
  return _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b));
}
inline F f_and(F a, F b) { return _mm_and_ps(a, b); }
inline F f_or(F a, F b) { return _mm_or_ps(a, b); }
inline F f_from(I a) { return _mm_cvtepi32_ps(a); }
inline I i_round(F a) { return _mm_cvtps_epi32(a); }
inline I i_load(const void* p) { return _mm_loadu_si128((const __m128i*)p); }
inline void i_store(void* p, I a) { _mm_storeu_si128((__m128i*)p, a); }
inline I i_set(int32_t a) { return _mm_set1_epi32(a); }
inline I i_add(I a, I b) { return _mm_add_epi32(a, b); }
inline I i_and(I a, I b) { return _mm_and_si128(a, b); }
inline I i_or(I a, I b) { return _mm_or_si128(a, b); }
template <int n> inline I i_left(I a) { return _mm_slli_epi32(a, n); }
template <int n> inline I i_right(I a) { return _mm_srli_epi32(a, n); }
inline F f_bits(I a) { return _mm_castsi128_ps(a); }
inline I i_bits(F a) { return _mm_castps_si128(a); }
// IEEE half to float and back without F16C: rebias the exponent by a multiplication, which also
// makes subnormals right.
inline float half_to_float(uint16_t h) {
  uint32_t bits = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
  if ((h & 0x7c00) == 0x7c00) {
    bits |= 0x7f800000u;
  } else {
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p112f;
    memcpy(&bits, &f, 4);
  }
  bits |= sign;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t float_to_half(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
  bits &= 0x7fffffffu;
  if (bits >= 0x7f800000u) return sign | 0x7c00 | (bits > 0x7f800000u ? 0x200 : 0);
  if (bits >= 0x477ff000u) return sign | 0x7c00;
  if (bits < 0x38800000u) {  // subnormal: let a float addition round it to a multiple of 2^-24
    float f;
    memcpy(&f, &bits, 4);
    f += 0.5f;
    memcpy(&bits, &f, 4);
    return sign | (uint16_t)(bits - 0x3f000000u);
  }
  bits += 0xfff + ((bits >> 13) & 1) - 0x38000000u;
  return sign | (uint16_t)(bits >> 13);
}
inline F f_half(const uint16_t* p) {
  return _mm_setr_ps(half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]),
                     half_to_float(p[3]));
}
inline void f_to_half(uint16_t* p, F a) {
  float x[4];
  f_store(x, a);
  for (int i = 0; i < 4; i++) p[i] = float_to_half(x[i]);
}
inline F f_bf16(const uint16_t* p) {
  return f_bits(_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i*)p)));
}
inline F f_u8(const uint8_t* p) { return _mm_setr_ps(p[0], p[1], p[2], p[3]); }
inline F f_i8(const int8_t* p) { return _mm_setr_ps(p[0], p[1], p[2], p[3]); }
template <int bits> inline I i_dot(I acc, I w, I a) {
  const I zero = _mm_setzero_si128();
  const I a16 = _mm_srai_epi16(_mm_unpacklo_epi8(zero, a), 8);  // a repeats every four bytes
  const F low = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpacklo_epi8(w, zero), a16));
  const F high = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpackhi_epi8(w, zero), a16));
  const I even = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
  const I odd = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
  return i_add(acc, i_add(even, odd));
}
#endif

constexpr int LANES = 16;
constexpr int WIDTH = LANES / REGISTERS;

struct i32x16 {
  I v[REGISTERS];
};
struct f32x16 {
  F v[REGISTERS];
  static f32x16 load(const float* p) {
    f32x16 o;
    EACH o.v[r] = f_load(p + r * WIDTH);
    return o;
  }
  static f32x16 half(const uint16_t* p) {
    f32x16 o;
    EACH o.v[r] = f_half(p + r * WIDTH);
    return o;
  }
  static f32x16 bf16(const uint16_t* p) {
    f32x16 o;
    EACH o.v[r] = f_bf16(p + r * WIDTH);
    return o;
  }
  static f32x16 u8(const uint8_t* p) {
    f32x16 o;
    EACH o.v[r] = f_u8(p + r * WIDTH);
    return o;
  }
  static f32x16 i8(const int8_t* p) {
    f32x16 o;
    EACH o.v[r] = f_i8(p + r * WIDTH);
    return o;
  }
  static f32x16 set(float a) {
    f32x16 o;
    EACH o.v[r] = f_set(a);
    return o;
  }
  void store(float* p) const { EACH f_store(p + r * WIDTH, v[r]); }
  void store_half(uint16_t* p) const { EACH f_to_half(p + r * WIDTH, v[r]); }
};

#define LANEWISE(name, op)                       \
  inline f32x16 name(f32x16 a, f32x16 b) {       \
    f32x16 o;                                    \
    EACH o.v[r] = op(a.v[r], b.v[r]);            \
    return o;                                    \
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
  EACH o.v[r] = f_fma(a.v[r], b.v[r], c.v[r]);
  return o;
}

inline i32x16 load_int(const void* p) {
  i32x16 o;
  EACH o.v[r] = i_load((const char*)p + r * WIDTH * 4);
  return o;
}
inline i32x16 set_int(int32_t a) {
  i32x16 o;
  EACH o.v[r] = i_set(a);
  return o;
}
inline void store_int(void* p, i32x16 a) { EACH i_store((char*)p + r * WIDTH * 4, a.v[r]); }
inline i32x16 operator+(i32x16 a, i32x16 b) {
  EACH a.v[r] = i_add(a.v[r], b.v[r]);
  return a;
}
inline i32x16 operator&(i32x16 a, i32x16 b) {
  EACH a.v[r] = i_and(a.v[r], b.v[r]);
  return a;
}
inline i32x16 operator|(i32x16 a, i32x16 b) {
  EACH a.v[r] = i_or(a.v[r], b.v[r]);
  return a;
}
template <int n> inline i32x16 left(i32x16 a) {
  EACH a.v[r] = i_left<n>(a.v[r]);
  return a;
}
template <int n> inline i32x16 right(i32x16 a) {
  EACH a.v[r] = i_right<n>(a.v[r]);
  return a;
}
inline f32x16 to_float(i32x16 a) {
  f32x16 o;
  EACH o.v[r] = f_from(a.v[r]);
  return o;
}
inline i32x16 round_to_int(f32x16 a) {
  i32x16 o;
  EACH o.v[r] = i_round(a.v[r]);
  return o;
}
inline f32x16 as_float(i32x16 a) {
  f32x16 o;
  EACH o.v[r] = f_bits(a.v[r]);
  return o;
}
inline i32x16 as_int(f32x16 a) {
  i32x16 o;
  EACH o.v[r] = i_bits(a.v[r]);
  return o;
}
template <int bits> inline i32x16 dot(i32x16 acc, i32x16 w, int32_t four) {
  EACH acc.v[r] = i_dot<bits>(acc.v[r], w.v[r], i_set(four));
  return acc;
}

// The sum of the lanes, always in the same tree: lanes 8 apart first, then 4, 2 and 1.
inline float sum(f32x16 a) {
  __m128 x[4];
#if MOTET_AVX512
  const __m256 high = _mm512_extractf32x8_ps(a.v[0], 1);
  const __m256 pairs = _mm256_add_ps(_mm512_castps512_ps256(a.v[0]), high);
  x[0] = _mm256_castps256_ps128(pairs);
  x[1] = _mm256_extractf128_ps(pairs, 1);
#elif MOTET_AVX2
  const __m256 pairs = _mm256_add_ps(a.v[0], a.v[1]);
  x[0] = _mm256_castps256_ps128(pairs);
  x[1] = _mm256_extractf128_ps(pairs, 1);
#else
  x[0] = _mm_add_ps(a.v[0], a.v[2]);
  x[1] = _mm_add_ps(a.v[1], a.v[3]);
#endif
  x[2] = _mm_add_ps(x[0], x[1]);
  x[3] = _mm_add_ps(x[2], _mm_movehl_ps(x[2], x[2]));
  return _mm_cvtss_f32(_mm_add_ss(x[3], _mm_shuffle_ps(x[3], x[3], 1)));
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
// The largest magnitude of two vectors; NaN if there is one, since its bits are above all others'.
inline float largest_magnitude(f32x16 a, f32x16 b) {
  const i32x16 bits = set_int(0x7fffffff);
  int32_t most = 0;
#if MOTET_AVX512
  most = _mm512_reduce_max_epi32(_mm512_max_epi32((as_int(a) & bits).v[0], (as_int(b) & bits).v[0]));
#else
  int32_t x[2 * LANES];
  store_int(x, as_int(a) & bits);
  store_int(x + LANES, as_int(b) & bits);
  for (int i = 0; i < 2 * LANES; i++) most = x[i] > most ? x[i] : most;
#endif
  float out;
  memcpy(&out, &most, 4);
  return out;
}
inline int32_t sum(i32x16 a) {
#if MOTET_AVX512
  return _mm512_reduce_add_epi32(a.v[0]);
#else
  int32_t x[LANES], total = 0;
  store_int(x, a);
  for (int i = 0; i < LANES; i++) total += x[i];
  return total;
#endif
}
// Lanes that fit a signed byte, as bytes.
inline void store_bytes(int8_t* p, i32x16 a) {
#if MOTET_AVX512
  _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(a.v[0]));
#else
  int32_t x[LANES];
  store_int(x, a);
  for (int i = 0; i < LANES; i++) p[i] = (int8_t)x[i];
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
  const i32x16 n = round_to_int(clamped * f32x16::set(1.44269504f));
  const f32x16 nf = to_float(n);
  f32x16 f = fma(nf, f32x16::set(-0.693359375f), clamped);
  f = fma(nf, f32x16::set(2.12194440e-4f), f);
  f32x16 p = f32x16::set(1.3888889e-3f);
  p = fma(p, f, f32x16::set(8.3333333e-3f));
  p = fma(p, f, f32x16::set(4.1666667e-2f));
  p = fma(p, f, f32x16::set(1.6666667e-1f));
  p = fma(p, f, f32x16::set(0.5f));
  p = fma(p, f, f32x16::set(1.0f));
  p = fma(p, f, f32x16::set(1.0f));
  // 2^n in two factors, since n may be 128.
  const i32x16 half = round_to_int(nf * f32x16::set(0.5f));
  const i32x16 rest = round_to_int(nf - to_float(half));
  p = p * as_float(left<23>(half + set_int(127))) * as_float(left<23>(rest + set_int(127)));
  EACH p.v[r] = f_zero_below(x.v[r], low.v[r], p.v[r]);
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
  EACH o.v[r] = f_choose_below(square.v[r], f_set(0.09f), near.v[r], far.v[r]);
  return o;
}

}  // namespace
