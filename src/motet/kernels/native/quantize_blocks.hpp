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
  memcpy(p, &d, 2);
  p += 2;
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

}  // namespace
