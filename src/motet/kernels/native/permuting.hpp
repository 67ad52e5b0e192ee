// Permutations of bytes (AVX512_VBMI: Zen 4, Ice Lake and later), by which 64 codes are looked up
// at once. Functions that use them are compiled for them, whatever else the module is compiled for.
#pragma once
#include "simd.hpp"

#if MOTET_AVX512
#include <array>

namespace {

inline bool permutes_bytes() {
  static const bool has = (__builtin_cpu_init(), __builtin_cpu_supports("avx512vbmi"));
  return has;
}

#define PERMUTES __attribute__((target("avx512vbmi"), always_inline)) static inline

// What stands in a table of 2^bits bytes at numbers whose low 7 bits are in `at`, the others in
// masks.
template <int bits>
PERMUTES __m512i looked_up(const uint8_t* table, __m512i at, const __mmask64* masks) {
  if constexpr (bits == 7)
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), at, _mm512_load_si512(table + 64));
  else
    return _mm512_mask_blend_epi8(masks[bits - 8], looked_up<bits - 1>(table, at, masks),
                                  looked_up<bits - 1>(table + (1 << (bits - 1)), at, masks));
}
// Of numbers whose low bytes are in `at`.
template <int bits>
PERMUTES void masks_of(__m512i at, const uint8_t* p, __mmask64* masks) {
  masks[0] = _mm512_movepi8_mask(at);
  for (int i = 8; i < bits; i++) memcpy(masks + i - 7, p + 8 * (i - 8), 8);
}
// Of each word of 64 bits the bytes that begin at bit a and thrice `step` bits on, and from bit b.
template <int a, int b, int step>
PERMUTES __m512i spread(__m512i v) {
  uint64_t from = 0;
  for (int i = 0; i < 4; i++)
    from |= (uint64_t)(a + step * i) << (8 * i) | (uint64_t)(b + step * i) << (8 * i + 32);
  return _mm512_multishift_epi64_epi8(_mm512_set1_epi64((int64_t)from), v);
}
PERMUTES __m512i values_of(const std::array<uint8_t, 64>& values, __m512i v) {
  return _mm512_permutexvar_epi8(v, _mm512_load_si512(values.data()));
}
PERMUTES void put_vector(uint8_t* out, int j, __m512i q, const uint8_t* signs) {
  __mmask64 negative;
  memcpy(&negative, signs + 8 * j, 8);
  q = _mm512_mask_sub_epi8(q, negative, _mm512_set1_epi8((char)128), q);
  _mm512_storeu_si512(out + 64 * j, q);
}

}  // namespace
#endif
