// GGML's blocks from their quants and scales: the reverse of what pack.hpp reads.
#pragma once
#include <cstdint>
#include <cstring>

#include "layouts.hpp"

namespace {

// Two quants a byte: values i and i + half, of each 2 · half values.
inline void put_nibbles(uint8_t* p, const uint8_t* q, int half) {
  for (int i = 0; i < half; i++) p[i] = (q[i] & 15) | q[i + half] << 4;
}

// The fifth bits of 32 quants.
inline void put_fifth_bits(uint8_t* p, const uint8_t* q) {
  uint32_t high = 0;
  for (int i = 0; i < BLOCK; i++) high |= (uint32_t)(q[i] >> 4 & 1) << i;
  memcpy(p, &high, 4);
}

// A block of 32 values: a scale, a minimum where the type has one, quants.
template <int type>
inline void put_block(uint8_t* p, uint16_t d, [[maybe_unused]] uint16_t m, const uint8_t* q) {
  constexpr int size = type == MXFP4 ? 1 : 2;
  memcpy(p, &d, size);
  p += size;
  if constexpr (type == Q4_1 || type == Q5_1) {
    memcpy(p, &m, 2);
    p += 2;
  }
  if constexpr (type == Q5_0 || type == Q5_1) {
    put_fifth_bits(p, q);
    p += 4;
  }
  if constexpr (type == Q8_0)
    memcpy(p, q, BLOCK);
  else
    put_nibbles(p, q, BLOCK / 2);
}

// Super-blocks of 256 quants: scales s and t of their groups.

inline void put_half(uint8_t* p, uint16_t half) { memcpy(p, &half, 2); }

// The 6-bit scales and minima of Q4_K and Q5_K.
inline void put_scales_and_minima(uint8_t* p, const int8_t* s, const int8_t* t) {
  for (int j = 0; j < 4; j++) {
    p[j] = (uint8_t)(s[j] | s[j + 4] >> 4 << 6);
    p[j + 4] = (uint8_t)(t[j] | t[j + 4] >> 4 << 6);
    p[j + 8] = (uint8_t)((s[j + 4] & 15) | (t[j + 4] & 15) << 4);
  }
}
// Two bits of each quant: of 128, values i, i + 32, i + 64 and i + 96 in a byte.
inline void put_pairs(uint8_t* p, const uint8_t* q, int shift) {
  for (int n = 0; n < 2; n++)
    for (int i = 0; i < 32; i++) {
      const uint8_t* v = q + 128 * n + i;
      p[32 * n + i] = (uint8_t)((v[0] >> shift & 3) | (v[32] >> shift & 3) << 2 |
                                (v[64] >> shift & 3) << 4 | (v[96] >> shift & 3) << 6);
    }
}
// Five quants below 3 a byte, the first one highest, as parts of 256: values i, i + size, … in byte
// i, `count` of them.
inline void put_fives(uint8_t* p, const uint8_t* q, int size, int count) {
  for (int i = 0; i < size; i++) {
    int number = 0;
    for (int n = 0; n < 5; n++) number = 3 * number + (n < count ? q[i + n * size] : 0);
    p[i] = (uint8_t)((number * 256 + 242) / 243);
  }
}
// One bit of each quant: of values i, i + 32, … in byte i.
inline void put_bits(uint8_t* p, const uint8_t* q, int shift) {
  for (int i = 0; i < 32; i++) {
    int bits = 0;
    for (int b = 0; b < 8; b++) bits |= (q[32 * b + i] >> shift & 1) << b;
    p[i] = (uint8_t)bits;
  }
}

template <int type>
inline void put_super(uint8_t* p, uint16_t d, [[maybe_unused]] uint16_t m, const int8_t* s,
                      [[maybe_unused]] const int8_t* t, const uint8_t* q) {
  if constexpr (type == Q2_K) {
    for (int g = 0; g < 16; g++) p[g] = (uint8_t)(s[g] | t[g] << 4);
    put_pairs(p + 16, q, 0);
    put_half(p + 80, d);
    put_half(p + 82, m);
  } else if constexpr (type == Q3_K) {
    put_bits(p, q, 2);
    put_pairs(p + 32, q, 0);
    memset(p + 96, 0, 12);
    for (int g = 0; g < 16; g++) {
      const int scale = s[g] + 32;
      p[96 + g % 8] |= (uint8_t)((scale & 15) << (g / 8 * 4));
      p[104 + g % 4] |= (uint8_t)((scale >> 4) << (g / 4 * 2));
    }
    put_half(p + 108, d);
  } else if constexpr (type == Q4_K || type == Q5_K) {
    put_half(p, d);
    put_half(p + 2, m);
    put_scales_and_minima(p + 4, s, t);
    if constexpr (type == Q5_K) put_bits(p + 16, q, 4);
    uint8_t* nibbles = p + (type == Q4_K ? 16 : 48);
    for (int c = 0; c < 4; c++) put_nibbles(nibbles + 32 * c, q + 64 * c, 32);
  } else if constexpr (type == Q6_K) {
    for (int n = 0; n < 2; n++) put_nibbles(p + 64 * n, q + 128 * n, 64);
    put_pairs(p + 128, q, 4);
    memcpy(p + 192, s, 16);
    put_half(p + 208, d);
  } else {
    static_assert(type == IQ4_XS);
    put_half(p, d);
    uint16_t high = 0;
    memset(p + 4, 0, 4);
    for (int b = 0; b < 8; b++) {
      const int scale = s[b] + 32;
      high |= (uint16_t)((scale >> 4) << (2 * b));
      p[4 + b / 2] |= (uint8_t)((scale & 15) << (b % 2 * 4));
      put_nibbles(p + 8 + 16 * b, q + 32 * b, 16);
    }
    memcpy(p + 2, &high, 2);
  }
}

}  // namespace
