// AVX-512 with VNNI: sixteen lanes in one register.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int REGISTERS = 1;
using F = __m512;
using I = __m512i;
inline F f_load(const float* p) { return _mm512_loadu_ps(p); }
inline void f_store(float* p, F a) { _mm512_storeu_ps(p, a); }
inline void f_stream(float* p, F a) { _mm512_stream_ps(p, a); }
inline F f_set(float a) { return _mm512_set1_ps(a); }
inline F f_add(F a, F b) { return _mm512_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm512_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F f_max(F a, F b) { return _mm512_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm512_min_ps(a, b); }
inline F f_zero_below(F x, F low, F a) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), a);
}
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
inline F f_round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
// a · 2^n, n a whole number in [-126, 128].
inline F f_scale(F a, F n) { return _mm512_scalef_ps(a, n); }
inline F f_from(I a) { return _mm512_cvtepi32_ps(a); }
inline I i_round(F a) { return _mm512_cvtps_epi32(a); }
// Towards zero; what is no int32 gives the least one.
inline I i_truncate(F a) { return _mm512_cvttps_epi32(a); }
inline I i_load(const void* p) { return _mm512_loadu_si512(p); }
inline void i_store(void* p, I a) { _mm512_storeu_si512(p, a); }
inline I i_set(int32_t a) { return _mm512_set1_epi32(a); }
inline I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I i_max(I a, I b) { return _mm512_max_epi32(a, b); }
// The product's low half.
inline I i_mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
inline I i_and(I a, I b) { return _mm512_and_si512(a, b); }
inline I i_or(I a, I b) { return _mm512_or_si512(a, b); }
inline I i_xor(I a, I b) { return _mm512_xor_si512(a, b); }
template <int n>
inline I i_left(I a) {
  return _mm512_slli_epi32(a, n);
}
template <int n>
inline I i_right(I a) {
  return _mm512_srli_epi32(a, n);
}
template <int n>
inline I i_right_signed(I a) {
  return _mm512_srai_epi32(a, n);
}
inline F f_bits(I a) { return _mm512_castsi512_ps(a); }
inline I i_bits(F a) { return _mm512_castps_si512(a); }
inline F f_half(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
}
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
inline I i_bytes(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
}
inline I i_bytes_of_bits(const uint8_t* p) {
  __mmask64 bits;
  memcpy(&bits, p, 8);
  return _mm512_movm_epi8(bits);
}
inline I i_look_up(const uint8_t* table, I a) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), a);
}
// Bytes as words, two a lane.
inline I i_words(const uint8_t* p) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)p));
}
// acc + the two products of words in each lane.
inline I i_dot_words(I acc, I w, I a) { return _mm512_dpwssd_epi32(acc, w, a); }
// acc + the four products of unsigned bytes w and signed bytes a in each lane.
template <int bits>
inline I i_dot(I acc, I w, I a) {
  return _mm512_dpbusd_epi32(acc, w, a);
}

}  // namespace
