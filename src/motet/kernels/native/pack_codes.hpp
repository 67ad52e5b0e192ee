// From GGUF's blocks of IQ1, IQ2, IQ3 and TQ to codes. Where GGML's source says what they mean:
// dequantize_row_… in ggml-quants.c.
#pragma once
#include <bit>

#include "codes.hpp"

namespace {

inline uint16_t load_16(const uint8_t* p) {
  uint16_t word;
  memcpy(&word, p, 2);
  return word;
}
inline uint32_t load_32(const uint8_t* p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return word;
}
inline int nibble(const uint8_t* p, int i) { return p[i / 2] >> (4 * (i % 2)) & 15; }
// Signs of 8 weights by seven bits: an even number of them is negative.
inline uint32_t eight_signs(uint32_t bits) {
  bits &= 127;
  return bits | (uint32_t)(std::popcount(bits) & 1) << 7;
}
// Two numbers in base 3 for eight weights of 1 + w, two bits each.
inline void put_ternary(uint32_t entry, uint16_t* numbers) {
  for (int k = 0; k < 2; k++) {
    numbers[k] = 0;
    for (int i = 3; i >= 0; i--)
      numbers[k] = (uint16_t)(numbers[k] * 3 + (entry >> (8 * k + 2 * i) & 3));
  }
}

// What a super-block of a row says of its columns 32b…32b+31.
template <int type>
inline void read_codes(const uint8_t* p, int b, Coded& c) {
  c = {};
  if constexpr (type == IQ2_XXS || type == IQ3_XXS) {
    const bool two = type == IQ2_XXS;
    const uint8_t* numbers = p + 2 + 8 * b;
    const uint32_t rest = load_32(two ? numbers + 4 : p + 66 + 4 * b);
    for (int i = 0; i < (two ? 4 : 8); i++) c.number[i] = numbers[i];
    for (int g = 0; g < 4; g++) c.negative |= eight_signs(rest >> (7 * g)) << (8 * g);
    c.scale[0] = (uint8_t)(rest >> 28);
  } else if constexpr (type == IQ2_XS) {
    for (int g = 0; g < 4; g++) {
      const uint16_t word = load_16(p + 2 + 8 * b + 2 * g);
      c.number[g] = word & 511;
      c.negative |= eight_signs(word >> 9) << (8 * g);
    }
    for (int i = 0; i < 2; i++) c.scale[i] = (uint8_t)nibble(p + 66, 2 * b + i);
  } else if constexpr (type == IQ2_S) {
    for (int g = 0; g < 4; g++)
      c.number[g] = (uint16_t)(p[2 + 4 * b + g] | (p[66 + b] >> (2 * g) & 3) << 8);
    c.negative = load_32(p + 34 + 4 * b);
    for (int i = 0; i < 2; i++) c.scale[i] = (uint8_t)nibble(p + 74, 2 * b + i);
  } else if constexpr (type == IQ3_S) {
    for (int j = 0; j < 8; j++)
      c.number[j] = (uint16_t)(p[2 + 8 * b + j] | (p[66 + b] >> j & 1) << 8);
    c.negative = load_32(p + 74 + 4 * b);
    c.scale[0] = (uint8_t)nibble(p + 106, b);
  } else if constexpr (type == IQ1_S) {
    const uint16_t more = load_16(p + 34 + 2 * b);
    for (int g = 0; g < 4; g++)
      put_ternary(IQ1_GRID[p[2 + 4 * b + g] | (more >> (3 * g) & 7) << 8], c.number + 2 * g);
    c.scale[0] = more >> 12 & 7;
    c.shifted = (uint8_t)(more >> 15);
  } else if constexpr (type == IQ1_M) {
    for (int g = 0; g < 4; g++) {
      const int more = nibble(p + 32, 4 * b + g);
      put_ternary(IQ1_GRID[p[4 * b + g] | (more & 7) << 8], c.number + 2 * g);
      c.shifted |= (uint8_t)((more >> 3) << g);
    }
    const int scales = load_16(p + 48 + 2 * (b / 2)) >> (6 * (b % 2));
    for (int i = 0; i < 2; i++) c.scale[i] = (uint8_t)(scales >> (3 * i) & 7);
  } else {
    static_assert(type == TQ1_0 || type == TQ2_0);
    for (int i = 0; i < BLOCK; i++) {
      int one;
      if constexpr (type == TQ2_0) {
        one = p[32 * (b / 4) + i] >> (2 * (b % 4)) & 3;
      } else {
        // Five to a byte, the first one highest: of 32 bytes, of 16 bytes, and four of 4 bytes.
        constexpr uint8_t powers[5] = {1, 3, 9, 27, 81};
        const int k = 32 * b + i;
        const int at = k < 160 ? k % 32 : k < 240 ? 32 + k % 16 : 48 + k % 4;
        const int power = k < 160 ? k / 32 : k < 240 ? (k - 160) / 16 : (k - 240) / 4;
        one = (uint8_t)(p[at] * powers[power]) * 3 >> 8;
      }
      c.number[i / 4] |= (uint16_t)(one << (2 * (i % 4)));
    }
  }
}

// A super-block's D, as float16.
template <int type>
inline uint16_t read_scale(const uint8_t* p) {
  if constexpr (type == IQ1_M) {  // in the highest bits of its scales
    int d = 0;
    for (int i = 0; i < 4; i++) d |= (load_16(p + 48 + 2 * i) >> 12) << (4 * i);
    return (uint16_t)d;
  }
  return load_16(p + (type == TQ1_0 ? 52 : type == TQ2_0 ? 64 : 0));
}

template <class L, int type>
void pack_codes_row(const uint8_t* raw, int64_t columns, uint8_t* strip, int r) {
  for (int64_t u = 0; u < columns / SUPER; u++) {
    const uint8_t* p = raw + u * L::FILE_BYTES;
    uint8_t* unit = strip + u * L::UNIT_BYTES;
    const uint16_t d = read_scale<type>(p);
    memcpy(unit + 2 * r, &d, 2);
    for (int b = 0; b < SUPER / BLOCK; b++) {
      Coded c;
      read_codes<type>(p, b, c);
      L::pack(c, b, unit, r);
    }
  }
}

}  // namespace
