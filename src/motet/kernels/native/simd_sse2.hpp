// SSE2, the least that an x86-64 processor has: sixteen lanes in four registers.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int REGISTERS = 4;
using F = __m128;
using I = __m128i;
inline F f_load(const float* p) { return _mm_loadu_ps(p); }
inline void f_store(float* p, F a) { _mm_storeu_ps(p, a); }
inline void f_stream(float* p, F a) { _mm_stream_ps(p, a); }
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
// Towards zero; what is no int32 gives the least one.
inline I i_truncate(F a) { return _mm_cvttps_epi32(a); }
inline F f_round(F a) { return f_from(i_round(a)); }
inline I i_load(const void* p) { return _mm_loadu_si128((const __m128i*)p); }
inline void i_store(void* p, I a) { _mm_storeu_si128((__m128i*)p, a); }
inline I i_set(int32_t a) { return _mm_set1_epi32(a); }
inline I i_add(I a, I b) { return _mm_add_epi32(a, b); }
inline I i_max(I a, I b) {
  const I less = _mm_cmplt_epi32(a, b);
  return _mm_or_si128(_mm_and_si128(less, b), _mm_andnot_si128(less, a));
}
// The product's low half.
inline I i_mul(I a, I b) {
  const I even = _mm_mul_epu32(a, b);
  const I odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32));
  return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, _MM_SHUFFLE(2, 0, 2, 0)),
                            _mm_shuffle_epi32(odd, _MM_SHUFFLE(2, 0, 2, 0)));
}
inline I i_and(I a, I b) { return _mm_and_si128(a, b); }
inline I i_or(I a, I b) { return _mm_or_si128(a, b); }
inline I i_xor(I a, I b) { return _mm_xor_si128(a, b); }
template <int n>
inline I i_left(I a) {
  return _mm_slli_epi32(a, n);
}
template <int n>
inline I i_right(I a) {
  return _mm_srli_epi32(a, n);
}
template <int n>
inline I i_right_signed(I a) {
  return _mm_srai_epi32(a, n);
}
inline F f_bits(I a) { return _mm_castsi128_ps(a); }
inline I i_bits(F a) { return _mm_castps_si128(a); }
// a · 2^n, n a whole number in [-126, 128]: in two factors, since 2^128 is not a float.
inline F f_scale(F a, F n) {
  const I half = i_round(f_mul(n, f_set(0.5f))), rest = i_round(f_sub(n, f_from(half)));
  const I bias = i_set(127);
  a = f_mul(a, f_bits(i_left<23>(i_add(half, bias))));
  return f_mul(a, f_bits(i_left<23>(i_add(rest, bias))));
}
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
inline I i_bytes(const uint8_t* p) { return _mm_setr_epi32(p[0], p[1], p[2], p[3]); }
inline I i_bytes_of_bits(const uint8_t* p) {
  short bits;
  memcpy(&bits, p, 2);
  const I twice = _mm_unpacklo_epi8(_mm_set1_epi16(bits), _mm_set1_epi16(bits));
  const I eight = _mm_shufflehi_epi16(_mm_shufflelo_epi16(twice, 0), 0x55);
  const I each = _mm_set1_epi64x((int64_t)0x8040201008040201);
  return _mm_cmpeq_epi8(_mm_and_si128(eight, each), each);
}
inline I i_look_up(const uint8_t* table, I a) {
  uint8_t q[16];
  i_store(q, a);
  for (uint8_t& one : q) one = table[one];
  return i_load(q);
}
// Bytes as words, two a lane.
inline I i_words(const uint8_t* p) {
  const I bytes = _mm_loadl_epi64((const __m128i*)p);
  return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
}
// acc + the two products of words in each lane.
inline I i_dot_words(I acc, I w, I a) { return i_add(acc, _mm_madd_epi16(w, a)); }
template <int bits>
inline I i_dot(I acc, I w, I a) {
  const I zero = _mm_setzero_si128();
  const I a16 = _mm_srai_epi16(_mm_unpacklo_epi8(zero, a), 8);  // a repeats every four bytes
  const F low = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpacklo_epi8(w, zero), a16));
  const F high = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpackhi_epi8(w, zero), a16));
  const I even = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
  const I odd = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
  return i_add(acc, i_add(even, odd));
}

}  // namespace
