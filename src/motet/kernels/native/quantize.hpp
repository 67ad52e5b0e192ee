// Floats into GGML's types. A row is a whole number of blocks, so a matrix is one run of blocks.
#pragma once
#include "bf16.hpp"
#include "elementwise.hpp"
#include "pack.hpp"
#include "quantize_round.hpp"
#include "quantize_search.hpp"
#include "threads.hpp"

namespace {

// Whether floats are rounded to blocks of a type here.
constexpr bool quantizes(int type) {
  return type <= Q6_K || type == IQ4_NL || type == IQ4_XS || type == MXFP4 || ternary(type);
}

constexpr int64_t QUANTIZED_AT_ONCE = 1 << 15;  // values in a piece of work

// The first value whose magnitude has bits in [low, high]; -1 if there is none.
inline int64_t first_between(ThreadPool& pool, const float* x, int64_t n, int32_t low,
                             int32_t high) {
  std::atomic<int64_t> first{n};
  in_parts(pool, n, QUANTIZED_AT_ONCE, [&](int64_t from, int64_t to) {
    int any = 0;
    for (int64_t i = from; i < to; i++) {
      int32_t bits;
      memcpy(&bits, x + i, 4);
      bits &= 0x7fffffff;
      any |= (bits >= low) & (bits <= high);
    }
    if (!any) return;
    for (int64_t i = from; i < to; i++) {
      int32_t bits;
      memcpy(&bits, x + i, 4);
      bits &= 0x7fffffff;
      if (bits < low || bits > high) continue;
      int64_t before = first.load();
      while (i < before && !first.compare_exchange_weak(before, i)) {
      }
      return;
    }
  });
  return first.load() == n ? -1 : first.load();
}

// Lane l gets `values` values from x + l · values on; zeros beyond the `count` that there are.
template <int values>
inline void to_lanes(const float* x, int64_t count, float* out) {
  float part[LANES * values];
  if (count < LANES * values) {
    memset(part, 0, sizeof(part));
    memcpy(part, x, count * sizeof(float));
    x = part;
  }
  for (int i = 0; i < values; i++)
    for (int l = 0; l < LANES; l++) out[i * LANES + l] = x[l * values + i];
}
template <int values>
inline void from_lanes(const uint8_t* q, uint8_t* out) {
  for (int l = 0; l < LANES; l++)
    for (int i = 0; i < values; i++) out[l * values + i] = q[i * LANES + l];
}

inline void to_half(const float* x, int64_t n, uint16_t* out) {
  int64_t i = 0;
  int not_numbers = 0;
  for (; i + LANES <= n; i += LANES) f32x16::load(x + i).store_half(out + i);
  if (i < n) {
    uint16_t rest[LANES];
    load_part(x + i, (int)(n - i)).store_half(rest);
    memcpy(out + i, rest, (n - i) * sizeof(uint16_t));
  }
  for (i = 0; i < n; i++) not_numbers |= x[i] != x[i];
  if (!not_numbers) return;
  for (i = 0; i < n; i++)  // one NaN, whatever the processor makes of its bits
    if (x[i] != x[i]) out[i] = (out[i] & 0x8000) | 0x7e00;
}

inline void to_bf16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; i += LANES) {
    const int count = (int)std::min<int64_t>(LANES, n - i);
    uint32_t bits[LANES];
    store_int(bits,
              rounded_to_bf16(count == LANES ? f32x16::load(x + i) : load_part(x + i, count)));
    for (int c = 0; c < count; c++) out[i + c] = (uint16_t)(bits[c] >> 16);
  }
}

template <int type>
void round_all(const float* x, int64_t blocks, uint8_t* out) {
  constexpr int bytes = Source<type>::BYTES;
  alignas(64) float lanes[BLOCK * LANES];
  RoundedBlocks rounded;
  uint8_t q[BLOCK * LANES];
  for (int64_t b = 0; b < blocks; b += LANES) {
    to_lanes<BLOCK>(x + b * BLOCK, (blocks - b) * BLOCK, lanes);
    round_blocks<type>(lanes, rounded);
    from_lanes<BLOCK>(rounded.q, q);
    for (int64_t l = 0; l < std::min<int64_t>(LANES, blocks - b); l++)
      put_block<type>(out + (b + l) * bytes, rounded.d[l], rounded.m[l], q + l * BLOCK);
  }
}

// Half of half of the least float16: what is smaller is as good as 0, and its squares are none.
constexpr float VANISHING = 0x1p-26f;

// Blocks from number `first` of a matrix on; `weights` of a row of `across` blocks, or null.
template <int type, bool weighted>
void search_all(const float* x, const float* weights, int64_t first, int64_t across, int64_t blocks,
                uint8_t* out) {
  using To = Search<type>;
  constexpr int values = To::VALUES, block = values * To::GROUPS, bytes = Source<type>::BYTES;
  Groups<values, weighted> group;
  typename To::Out coded;
  uint8_t q[values * LANES];
  for (int64_t b = 0; b < blocks; b += To::TOGETHER) {
    const int64_t count = std::min<int64_t>(To::TOGETHER, blocks - b);
    to_lanes<values>(x + b * block, count * block, group.x);
    for (int i = 0; i < values; i++) {
      const f32x16 v = group.at(i), zero = f32x16::set(0);
      choose_below(magnitude(v), f32x16::set(VANISHING), zero, v).store(group.x + i * LANES);
    }
    if constexpr (weighted) {
      float own[values * LANES];
      for (int64_t k = 0; k < To::TOGETHER; k++)
        memcpy(own + k * block, weights + (first + b + k) % across * block, block * sizeof(float));
      to_lanes<values>(own, values * LANES, group.weight);
    }
    To::search(group, coded);
    from_lanes<values>(coded.q, q);
    for (int64_t k = 0; k < count; k++) {
      const int64_t g = k * To::GROUPS;
      uint8_t* p = out + (b + k) * bytes;
      if constexpr (To::GROUPS == 1)
        put_block<type>(p, coded.d[g], coded.m[g], q + k * block);
      else
        put_super<type>(p, coded.d[g], coded.m[g], coded.s + g, coded.t + g, q + k * block);
    }
  }
}

// Bytes of `columns` values; -1 if they are no whole blocks, or this is no type to quantise to.
inline int64_t quantized_bytes(int type, int64_t columns) {
  if (type == F32) return columns * 4;
  if (type == F16 || type == BF16) return columns * 2;
  int64_t bytes = -1;
  with_type(type, [&](auto t) {
    constexpr int block = file_values<t()>();
    if constexpr (quantizes(t()))
      if (columns % block == 0) bytes = columns / block * file_bytes<t()>();
  });
  return bytes;
}

template <int type>
void quantize_blocks(ThreadPool& pool, const float* x, int64_t n, int64_t columns,
                     const float* weights, uint8_t* out) {
  constexpr int block = file_values<type>(), bytes = file_bytes<type>();
  in_parts(pool, n / block, QUANTIZED_AT_ONCE / block, [&](int64_t from, int64_t to) {
    const float* own = x + from * block;
    uint8_t* p = out + from * bytes;
    if constexpr (ternary(type))
      for (int64_t b = 0; b < to - from; b++) put_ternary<type>(own + b * block, p + b * bytes);
    else if constexpr (type == Q8_0 || type == MXFP4)
      round_all<type>(own, to - from, p);
    else if (weights)
      search_all<type, true>(own, weights, from, columns / block, to - from, p);
    else if constexpr (type == Q4_0 || type == Q4_1 || type == Q5_0 || type == Q5_1)
      round_all<type>(own, to - from, p);
    else
      search_all<type, false>(own, nullptr, from, columns / block, to - from, p);
  });
}

// n values in rows of `columns`, whole blocks of a type that quantized_bytes knows. `weights` of a
// row's squared errors, or null.
inline void quantize(ThreadPool& pool, int type, const float* x, int64_t n, int64_t columns,
                     const float* weights, uint8_t* out) {
  if (type == F32) {
    memcpy(out, x, n * sizeof(float));
  } else if (type == F16 || type == BF16) {
    in_parts(pool, n, QUANTIZED_AT_ONCE, [&](int64_t from, int64_t to) {
      (type == F16 ? to_half : to_bf16)(x + from, to - from, (uint16_t*)out + from);
    });
  } else {
    with_type(type, [&](auto t) {
      if constexpr (quantizes(t())) quantize_blocks<t()>(pool, x, n, columns, weights, out);
    });
  }
}

}  // namespace
