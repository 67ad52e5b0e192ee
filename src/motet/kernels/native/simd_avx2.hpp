// AVX2 with FMA and F16C: sixteen lanes in two registers.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int REGISTERS = 2;
using F = __m256;
using I = __m256i;
inline F f_load(const float* p) { return _mm256_loadu_ps(p); }
inline void f_store(float* p, F a) { _mm256_storeu_ps(p, a); }
inline void f_stream(float* p, F a) { _mm256_stream_ps(p, a); }
inline F f_set(float a) { return _mm256_set1_ps(a); }
inline F f_add(F a, F b) { return _mm256_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm256_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm256_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F f_max(F a, F b) { return _mm256_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm256_min_ps(a, b); }
inline F f_zero_below(F x, F low, F a) {
  return _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_NLT_UQ), a);
}
// a where x < limit, else b.
inline F f_choose_below(F x, F limit, F a, F b) {
  return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, limit, _CMP_LT_OQ));
}
inline F f_and(F a, F b) { return _mm256_and_ps(a, b); }
inline F f_or(F a, F b) { return _mm256_or_ps(a, b); }
inline F f_round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F f_from(I a) { return _mm256_cvtepi32_ps(a); }
inline I i_round(F a) { return _mm256_cvtps_epi32(a); }
// Towards zero; what is no int32 gives the least one.
inline I i_truncate(F a) { return _mm256_cvttps_epi32(a); }
inline I i_load(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline void i_store(void* p, I a) { _mm256_storeu_si256((__m256i*)p, a); }
inline I i_set(int32_t a) { return _mm256_set1_epi32(a); }
inline I i_add(I a, I b) { return _mm256_add_epi32(a, b); }
inline I i_max(I a, I b) { return _mm256_max_epi32(a, b); }
// The product's low half.
inline I i_mul(I a, I b) { return _mm256_mullo_epi32(a, b); }
inline I i_and(I a, I b) { return _mm256_and_si256(a, b); }
inline I i_or(I a, I b) { return _mm256_or_si256(a, b); }
inline I i_xor(I a, I b) { return _mm256_xor_si256(a, b); }
template <int n>
inline I i_left(I a) {
  return _mm256_slli_epi32(a, n);
}
template <int n>
inline I i_right(I a) {
  return _mm256_srli_epi32(a, n);
}
template <int n>
inline I i_right_signed(I a) {
  return _mm256_srai_epi32(a, n);
}
inline F f_bits(I a) { return _mm256_castsi256_ps(a); }
inline I i_bits(F a) { return _mm256_castps_si256(a); }
// a · 2^n, n a whole number in [-126, 128]: in two factors, since 2^128 is not a float.
inline F f_scale(F a, F n) {
  const I half = i_round(f_mul(n, f_set(0.5f))), rest = i_round(f_sub(n, f_from(half)));
  const I bias = i_set(127);
  a = f_mul(a, f_bits(i_left<23>(i_add(half, bias))));
  return f_mul(a, f_bits(i_left<23>(i_add(rest, bias))));
}
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
inline I i_bytes(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
}
inline I i_bytes_of_bits(const uint8_t* p) {
  int bits;
  memcpy(&bits, p, 4);
  const I eight = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const I each = _mm256_set1_epi64x((int64_t)0x8040201008040201);
  const I own = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), eight), each);
  return _mm256_cmpeq_epi8(own, each);
}
inline I i_look_up(const uint8_t* table, I a) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)),
                             a);
}
// Bytes as words, two a lane.
inline I i_words(const uint8_t* p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p));
}
// acc + the two products of words in each lane.
inline I i_dot_words(I acc, I w, I a) { return i_add(acc, _mm256_madd_epi16(w, a)); }
// The first or second word of each lane in both of its words.
inline I i_twice(I a, int word) {
  const __m128i first = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
  const __m128i at = word ? _mm_add_epi8(first, _mm_set1_epi8(2)) : first;
  return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(at));
}
// Products of bytes, below 2^bits and signed ones, two by two in words. vpmaddubsw saturates at 16
// bits, which 8-bit weights could reach: those go nibble by nibble. HOLDS: how many vectors' words
// can be added up before they are widened.
template <int bits>
struct Words {
  static constexpr int HOLDS = bits == 8 ? 8 : (1 << 7) / ((1 << bits) - 1);
  I low = _mm256_setzero_si256();
  void add(I w, I a) {
    low = _mm256_add_epi16(low, _mm256_maddubs_epi16(w, a));
    asm("" : "+x"(low));  // or compilers multiply first, and have no room for what they add later
  }
  // Σ of each lane's two words, times a word each.
  I times(I words) const { return _mm256_madd_epi16(low, words); }
};
template <>
struct Words<8> {
  static constexpr int HOLDS = Words<4>::HOLDS;
  Words<4> low, high;
  void add(I w, I a) {
    low.add(i_and(w, _mm256_set1_epi8(15)), a);
    high.add(i_and(_mm256_srli_epi16(w, 4), _mm256_set1_epi8(15)), a);
  }
  I times(I words) const { return i_add(low.times(words), i_left<4>(high.times(words))); }
};

}  // namespace
